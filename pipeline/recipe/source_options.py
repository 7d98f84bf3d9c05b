"""Recipe sections for sources: served models, endpoints, and imported responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Domain, Name, Section
from .model_options import Engine, Model, Placement, Sampling


class Policy(Section):
    """How a source is sampled. Applies to served models and endpoints."""

    name: Name
    """Name of the source."""
    sampling: Sampling = Sampling()
    """Sampling parameters."""
    samples: dict[Domain, int] = Field(min_length=1)
    """Domain -> number of responses per prompt. The source serves only the domains listed here."""
    max_tokens: dict[Domain, Annotated[int, Field(ge=1)]] = Field(default={})
    """Domain -> maximum number of tokens in a response, in place of `sampling.max_tokens`."""
    system: Literal["keep", "merge", "drop"] = "keep"
    """What happens to a prompt's system message: `keep` it, `merge` it into the start of the first user message (Gemma
    accepts no system message), or `drop` it."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for domain, num in self.samples.items():
            if num < 1:
                raise ValueError(f"samples.{domain} must be at least 1; to skip the domain, leave it out")
        return self

    def sampling_for(self, domain: Domain) -> Sampling:
        """Returns the sampling parameters for one domain."""
        return self.sampling.model_copy(update={"max_tokens": self.max_tokens.get(domain, self.sampling.max_tokens)})


class Source(Policy):
    """A source LLM that the run serves with vLLM."""

    kind: Literal["vllm"] = "vllm"
    """A source that the run serves. May be omitted."""
    model: Model
    """The model's weights."""
    engine: Engine = Engine()
    """Settings of the vLLM engine."""
    placement: Placement = Placement()
    """Cluster resources of each engine worker."""
    chat_template: str | None = None
    """Jinja file that replaces the model's own chat template. Relative paths start at the recipe's folder."""


class Endpoint(Section):
    """An OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://")
    """Base URL of an OpenAI-compatible service, e.g. `https://host/v1`."""
    model: str = Field(min_length=1)
    """Name that the endpoint uses for the model."""
    revision: str = "endpoint"
    """Part of every response's identity. Change it when the endpoint serves different weights under the same name."""
    api_key_env: str | None = None
    """Environment variable that holds the API key. Without it, no key is sent."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Maximum number of requests per minute. Default: no limit."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Maximum number of prompt and completion tokens together per minute. Default: no limit."""
    timeout_s: float = Field(default=120, gt=0)
    """Time limit of one request, in seconds."""
    max_attempts: int = Field(default=5, ge=1)
    """Number of attempts per sample, with back-off between them, before the sample is rejected."""


class EndpointSource(Policy, Endpoint):
    """A source behind an OpenAI-compatible endpoint. The endpoint applies its own chat template."""

    kind: Literal["endpoint"]
    """A source behind an endpoint."""


class ImportedSource(Section):
    """A source that is not sampled. Prompt rows contain its responses: `responses: {name: [text, ...]}`."""

    kind: Literal["imported"]
    """A source whose responses are imported."""
    name: Name
    """Name of the source in the rows' `responses`."""


def _kind(source: Any) -> str:
    return str(source.get("kind", "vllm") if isinstance(source, dict) else getattr(source, "kind", "vllm"))


AnySource = Annotated[
    Annotated[Source, Tag("vllm")]
    | Annotated[EndpointSource, Tag("endpoint")]
    | Annotated[ImportedSource, Tag("imported")],
    Discriminator(_kind),
]


class Sample(Section):
    """The sampling stage."""

    buckets: int = Field(default=16, ge=1, le=4096)
    """Number of buckets that shards are divided into, by prompt. Selection holds two buckets in memory at once. The
    number does not change what is selected."""
    concurrency: int = Field(default=64, ge=1)
    """Samples in flight per source replica. An engine is not fully used if this is below its `max_num_seqs`."""
    max_attempts: int = Field(default=3, ge=1)
    """Number of consecutive engine failures, with no sample finished between them, before the source is given up."""
