"""LoRA with PEFT: trains small adapter matrices instead of all weights (arXiv 2106.09685)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from fusechat.pipeline.errors import RecipeError

from . import checkpoints
from .driver import TrainingJob

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

ADAPTER = "adapter"
"""Folder in the training's output that holds the adapter in PEFT's format."""


def peft_config(job: TrainingJob, model: PreTrainedModel) -> LoraConfig | None:
    """The `peft_config` argument of TRL's trainers; None if all weights are trained.

    Raises:
        RecipeError: a name in `target_modules` matches no linear layer of the model.
    """
    lora = job.config.lora
    if lora is None:
        return None
    from peft import LoraConfig

    if lora.target_modules != "all-linear":
        _check_target_modules(job.stage, lora.target_modules, model)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
    )


def _check_target_modules(stage: str, target_modules: tuple[str, ...], model: PreTrainedModel) -> None:
    from torch.nn import Linear

    head = model.get_output_embeddings()
    layers = [name for name, module in model.named_modules() if isinstance(module, Linear) and module is not head]
    for name in target_modules:
        if not any(layer == name or layer.endswith(f".{name}") for layer in layers):
            allowed = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers}))
            raise RecipeError(f"{stage}.lora.target_modules", name, f"the target's linear layers are {allowed}")


def merge_adapter(job: TrainingJob, model: PreTrainedModel) -> PreTrainedModel:
    """The target with the adapter merged into its weights. The adapter is also saved separately."""
    if job.config.lora is None:
        return model
    partial = job.path(f"{ADAPTER}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    checkpoints.commit_folder(partial, job.path(ADAPTER))
    return model.merge_and_unload(safe_merge=True)
