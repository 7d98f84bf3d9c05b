"""LoRA: small matrices beside the target's are trained in place of all weights (arXiv 2106.09685), by PEFT."""

from __future__ import annotations

import shutil
from typing import Any

from fusechat.pipeline.errors import RecipeError

from . import checkpoints
from .driver import Job

ADAPTER = "adapter"
"""Folder of a training in which the matrices are kept, as PEFT keeps them."""


def peft_config(job: Job, net: Any) -> Any:
    """What TRL's trainers take as `peft_config`; none where all weights are trained.

    Raises:
        RecipeError: a name of `target_modules` is none of the model's linear layers.
    """
    lora = job.config.lora
    if lora is None:
        return None
    from peft import LoraConfig

    if lora.target_modules != "all-linear":
        _refuse_unmatched(job.stage, lora.target_modules, net)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
    )


def _refuse_unmatched(stage: str, wanted: tuple[str, ...], net: Any) -> None:
    from torch.nn import Linear

    head = net.get_output_embeddings()
    names = [name for name, module in net.named_modules() if isinstance(module, Linear) and module is not head]
    for name in wanted:
        if not any(found == name or found.endswith(f".{name}") for found in names):
            allowed = ", ".join(sorted({found.rpartition(".")[2] for found in names}))
            raise RecipeError(f"{stage}.lora.target_modules", name, f"the target's linear layers are {allowed}")


def merged(job: Job, net: Any) -> Any:
    """The target with the matrices added to its weights; they are kept beside it."""
    if job.config.lora is None:
        return net
    partial = job.path(f"{ADAPTER}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    net.save_pretrained(partial)
    checkpoints.settle(partial, job.path(ADAPTER))
    return net.merge_and_unload(safe_merge=True)
