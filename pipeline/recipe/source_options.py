"""The sources: models served here, endpoints, and imported responses."""

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
    """How a source is asked, wherever it runs."""

    name: Name
    sampling: Sampling = Sampling()
    samples: dict[Domain, int] = Field(min_length=1)
    """Responses a prompt for each domain that the source serves."""
    max_tokens: dict[Domain, Annotated[int, Field(ge=1)]] = Field(default={})
    """Where a domain's responses are bounded otherwise than `sampling.max_tokens` says."""
    system: Literal["keep", "merge", "drop"] = "keep"
    """A prompt's system message: kept, put in front of the first user message (Gemma takes none), or dropped."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for domain, num in self.samples.items():
            if num < 1:
                raise ValueError(f"samples.{domain} must be at least 1; leave the domain out to serve none")
        return self

    def sampling_for(self, domain: Domain) -> Sampling:
        """The sampling parameters for one domain."""
        return self.sampling.model_copy(update={"max_tokens": self.max_tokens.get(domain, self.sampling.max_tokens)})


class Source(Policy):
    """One source LLM: its weights, how it is served, and how it is asked."""

    kind: Literal["vllm"] = "vllm"
    model: Model
    engine: Engine = Engine()
    placement: Placement = Placement()
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""


class Endpoint(Section):
    """An OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://")
    """Base address, e.g. `https://host/v1`."""
    model: str = Field(min_length=1)
    """The endpoint's name of the model."""
    revision: str = "endpoint"
    """Part of every response's identity: change it when the endpoint serves other weights under the same name."""
    api_key_env: str | None = None
    """Environment variable that holds the key; none sends none."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens together."""
    timeout_s: float = Field(default=120, gt=0)
    """Seconds a request."""
    max_attempts: int = Field(default=5, ge=1)
    """Tries a sample, with back-off between them, before it is a reject."""


class EndpointSource(Policy, Endpoint):
    """A source behind an OpenAI-compatible endpoint; it applies its own chat template."""

    kind: Literal["endpoint"]


class ImportedSource(Section):
    """A source that is not sampled: prompt rows carry its responses under this name (`responses`)."""

    kind: Literal["imported"]
    name: Name


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
    """Shards are bucketed by prompt; selection holds two at once."""
    concurrency: int = Field(default=64, ge=1)
    """Samples in flight a source replica; an engine that runs more at once (vLLM's max_num_seqs) idles below it."""
    max_attempts: int = Field(default=3, ge=1)
    """Failures of an engine in a row, none of its samples finished between them, before its source is given up."""
