"""The target, SFT, DPO, and the workers that train."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Cpus, Section
from .model_options import Model


class Target(Section):
    """The model to be improved."""

    model: Model
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""


class Lora(Section):
    """Small matrices that are trained in place of all weights (LoRA, arXiv 2106.09685); names as PEFT has them."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """What the matrices add is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of SFT; DPO trains without any dropout, as TRL does."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(default="all-linear", min_length=1)
    """Ends of the names of linear layers, e.g. `q_proj`; the head is never one of them."""


class Optimization(Section):
    """What SFT and DPO share; FACTS: cosine schedule, warm-up 0.1, 2048 tokens, global batch 128."""

    learning_rate: float = Field(gt=0)
    num_epochs: float = Field(gt=0)
    global_batch_size: int = Field(default=128, ge=1)
    micro_batch_size: int = Field(default=1, ge=1)
    """Rows a device and forward pass; accumulation follows from the global batch and the workers."""
    max_length: int = Field(default=2048, ge=16)
    """Tokens of prompt and response together."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    bf16: bool | Literal["auto"] = "auto"
    """bfloat16 autocast over float32 master weights; false computes in float32. `auto` is true on GPUs and on
    processors that compute bfloat16 in hardware."""
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    """None trains all weights. Else those stay as they are, under `bf16` in bfloat16."""
    save_steps: int = Field(default=100, ge=1)
    logging_steps: int = Field(default=1, ge=1)
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows, by a hash of the prompt, that are not trained on but choose the checkpoint."""
    choose: Literal["last", "loss", "accuracy", "margin"] = "last"
    """The model that training ends with: the last, or the better of the last two checkpoints by this metric on the
    held-out rows (accuracy of tokens for SFT, of preferences for DPO; the margin is DPO's)."""

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if (self.choose == "last") != (self.holdout == 0):
            raise ValueError("choose and holdout go together: a metric needs held-out rows, and they need a metric")
        return self


class Sft(Optimization):
    """Supervised fine-tuning on the selected responses; loss on the assistant's tokens only."""

    choose: Literal["last", "loss", "accuracy"] = "last"
    packing: bool = False
    """The rows of a micro-batch in one sequence without padding, each attending only to itself."""


class Dpo(Optimization):
    """Direct preference optimisation."""

    num_epochs: float = Field(default=1, gt=0)
    beta: float = Field(gt=0)
    loss_type: Literal["sigmoid", "sigmoid_norm"] = "sigmoid_norm"
    """`sigmoid_norm` divides each log-ratio by its response's length (FuseChat-3.0, equation 3)."""


class Training(Section):
    """Ray Train's workers."""

    num_workers: int = Field(default=1, ge=1)
    num_cpus: Cpus = Field(default=1, gt=0)
    """A worker; a number, or a share of this machine's cores, e.g. `100%`."""
    num_gpus: float = Field(default=0, ge=0)
    """A worker."""
    accelerator_type: str | None = None
    """Ray's name of the devices' kind, e.g. `H100`: workers go to such nodes, and the plan knows memory and speed."""
    env: dict[str, str] = Field(default={})
    """Environment of the workers."""
    max_failures: int = Field(default=2, ge=0)
    """Restarts from the last checkpoint before a failure is final."""
    checkpoints: str | None = Field(default=None, pattern="^s3://[^/]+")
    """Where checkpoints are also sent while training goes on, `s3://bucket/prefix`; a new disk starts from them."""
    shard: bool = False
    """FSDP2: weights, gradients and Adam's moments are spread over the workers, in place of a whole copy on each."""
    cpu_offload: bool = False
    """With `shard`: they lie in the nodes' memory while they are not used, and Adam computes there."""
    kernels: Literal["hub", "liger"] | None = None
    """Fused kernels of the layers on GPUs: the hub's (package `kernels`) or Liger's (`liger_kernel`)."""
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Where the metrics go beside metrics.jsonl; their addresses and keys come from `env`."""

    @model_validator(mode="after")
    def _sharding(self) -> Self:
        if self.shard and self.num_workers == 1:
            raise ValueError("shard spreads the model over workers: set num_workers to 2 or more, or shard to false")
        if self.cpu_offload and not self.shard:
            raise ValueError("cpu_offload needs shard: true")
        if self.accelerator_type and not self.num_gpus:
            raise ValueError("accelerator_type needs num_gpus above 0")
        if self.kernels and not self.num_gpus:
            raise ValueError("kernels needs num_gpus above 0")
        return self
