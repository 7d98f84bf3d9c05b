"""Recipe sections for the target, SFT, DPO, and the training workers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Cpus, Section
from .model_options import Model


class Target(Section):
    """The model to improve."""

    model: Model
    """The model's weights."""
    chat_template: str | None = None
    """Jinja file that replaces the model's own chat template. Relative paths start at the recipe's folder."""
    system: Literal["keep", "merge", "drop"] = Field(default="keep", exclude_if=lambda value: value == "keep")
    """What happens to a prompt's system message, in training and in evaluation: `keep` it, `merge` it into the start of
    the first user message, or `drop` it. With `keep`, the training rejects rows whose system message the chat template
    refuses, as Gemma's does."""


class Lora(Section):
    """LoRA (arXiv 2106.09685): small matrices are trained instead of all weights. The names are those of PEFT."""

    r: int = Field(default=16, ge=1)
    """Rank of the matrices."""
    alpha: int = Field(default=32, ge=1)
    """The output of the matrices is scaled by `alpha` / `r`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in SFT. DPO trains without dropout, as TRL does."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(default="all-linear", min_length=1)
    """Suffixes of the names of linear layers, e.g. `[q_proj, v_proj]`. The head is never included."""


class Optimization(Section):
    """Settings that SFT and DPO share. Defaults of FuseChat-3.0: cosine schedule, warm-up 0.1, 2048 tokens, batch
    128."""

    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    num_epochs: float = Field(gt=0)
    """Number of passes over the rows."""
    global_batch_size: int = Field(default=128, ge=1)
    """Rows per optimizer step."""
    micro_batch_size: int = Field(default=1, ge=1)
    """Rows per device and forward pass. Gradient accumulation follows from the global batch size and the workers."""
    max_length: int = Field(default=2048, ge=16)
    """Maximum number of tokens of prompt and response together."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises to its peak."""
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Learning rate schedule after the warm-up."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of the optimizer."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm that gradients are clipped to."""
    bf16: bool | Literal["auto"] = "auto"
    """Use bfloat16 autocast over float32 master weights; false computes in float32. `auto` is true on GPUs and on
    processors with bfloat16 hardware (AVX512-BF16, AMX, ARM's bf16). On other processors, bfloat16 takes five times as
    long as float32 or more."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which takes less memory and more time."""
    lora: Lora | None = None
    """Train small matrices instead of all weights. The other weights do not change, and with `bf16` they are held in
    bfloat16, which takes 2 bytes per parameter. Cannot be combined with `training.shard`. Default: train all
    weights."""
    save_steps: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    logging_steps: int = Field(default=1, ge=1)
    """Steps between lines of `metrics.jsonl`."""
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows, by a hash of the prompt, that is held out of training to choose the checkpoint. Requires
    `choose`."""
    choose: Literal["last", "loss", "accuracy", "margin"] = "last"
    """Model that training ends with: the `last` one, or the better of the last two checkpoints by this metric on the
    held-out rows. `accuracy` is that of tokens for SFT and of preferences for DPO; `margin` is for DPO only.
    `evaluation.json` holds both values. Requires `holdout`."""

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if (self.choose == "last") != (self.holdout == 0):
            raise ValueError(
                "choose and holdout go together: a metric needs held-out rows, and held-out rows need a metric"
            )
        return self


class Sft(Optimization):
    """Supervised fine-tuning on the selected responses. The loss covers the assistant's tokens only."""

    choose: Literal["last", "loss", "accuracy"] = "last"
    """Model that training ends with: the `last` one, or the better of the last two checkpoints by the `loss` or the
    token `accuracy` on the held-out rows. `evaluation.json` holds both values. Requires `holdout`."""
    packing: bool = False
    """Put the rows of a micro-batch into one sequence without padding. Each row attends only to itself. The global
    batch and the losses are those of unpacked training. Packing pays off from a `micro_batch_size` of 2."""


class Dpo(Optimization):
    """Direct preference optimization."""

    num_epochs: float = Field(default=1, gt=0)
    """Number of passes over the pairs."""
    beta: float = Field(gt=0)
    """Strength of the constraint to the reference model: the factor of the log-ratios."""
    loss_type: Literal["sigmoid", "sigmoid_norm"] = "sigmoid_norm"
    """Loss function. `sigmoid_norm` divides each log-ratio by its response's length (FuseChat-3.0, equation 3)."""


class Training(Section):
    """Workers of Ray Train. Without `shard`, every worker holds the whole model."""

    num_workers: int = Field(default=1, ge=1)
    """Number of workers."""
    num_cpus: Cpus = Field(default=1, gt=0)
    """CPUs per worker: a number, or a share of this machine's cores, e.g. `100%`."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs per worker."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator, e.g. `H100`. Workers are placed on nodes with it. `fusechat plan` uses its memory
    and speed, and refuses a training that cannot fit. Requires `num_gpus`."""
    env: dict[str, str] = Field(default={})
    """Environment variables of the workers."""
    max_failures: int = Field(default=2, ge=0)
    """Number of restarts from the last checkpoint before a failure is final."""
    checkpoints: str | None = Field(default=None, pattern="^s3://[^/]+")
    """`s3://bucket/prefix` that each checkpoint is also uploaded to during training. A checkpoint there that is newer
    than the one on disk is used, e.g. on a new disk."""
    shard: bool = False
    """Use FSDP2: distribute weights, gradients and Adam's moments over the workers, instead of a whole copy on each.
    Requires 2 workers or more."""
    cpu_offload: bool = False
    """With `shard`: keep weights, gradients and moments in the nodes' memory between uses, and run Adam there. This is
    slow."""
    kernels: Literal["hub", "liger"] | None = None
    """Fused kernels for the layers on GPUs: `hub` (package `kernels`, downloaded from the hub) or `liger` (package
    `liger_kernel`, which TRL plans to drop). Requires `num_gpus`."""
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers that receive the metrics in addition to `metrics.jsonl`. TensorBoard's files are in the stage's folder.
    The others take their address and key from `env`, and their package must be installed."""

    @model_validator(mode="after")
    def _sharding(self) -> Self:
        if self.shard and self.num_workers == 1:
            raise ValueError("shard needs several workers: set num_workers to 2 or more, or shard to false")
        if self.cpu_offload and not self.shard:
            raise ValueError("cpu_offload needs shard: true")
        if self.accelerator_type and not self.num_gpus:
            raise ValueError("accelerator_type needs num_gpus above 0")
        if self.kernels and not self.num_gpus:
            raise ValueError("kernels needs num_gpus above 0")
        return self
