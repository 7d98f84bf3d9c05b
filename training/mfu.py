"""Model FLOPs utilization (MFU): the operations of a training step, and the peak of the device."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fusechat.pipeline.machine.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedConfig, PreTrainedModel


def matmul_parameters(model: PreTrainedModel) -> float:
    """Parameters in the matrix products of every token: once in the forward pass, twice in the backward pass.

    An input embedding that is not also the output head is only looked up, so it does not count. A frozen weight counts
    two thirds, because no gradient is computed for it.
    """

    def count(weight: Parameter) -> float:
        return float(weight.numel() * (1 if weight.requires_grad else 2 / 3))

    total = sum(count(p) for p in model.parameters())
    if model.config.get_text_config().tie_word_embeddings:
        return total
    return total - count(model.get_input_embeddings().weight)


def training_flops(config: PreTrainedConfig, parameters: float, lengths: Iterable[int]) -> float:
    """Floating-point operations of the forward and backward pass over rows of these lengths in tokens.

    Each token takes 6 operations per parameter, and 12 x layers x width x length for attention (PaLM, arXiv 2204.02311,
    appendix B). Causal attention halves the latter. Recomputation by gradient checkpointing does not count.
    """
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    width = text.num_attention_heads * head
    return float(sum(6.0 * parameters * n + 6.0 * text.num_hidden_layers * width * n * n for n in lengths))


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 operations per second of a device, by its name; None for an unknown device."""
    known = sorted(ACCELERATORS, key=len, reverse=True)  # L40S before L4
    return next((ACCELERATORS[kind].compute * 1e12 for kind in known if kind in device_name), None)


def peak_memory_gib(use_gpu: bool) -> float:
    """Peak memory of this worker so far: of its GPU, or of its process."""
    if use_gpu:
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def device_name(use_gpu: bool) -> str:
    """The GPU's name according to its driver, or CPU."""
    if not use_gpu:
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name())
