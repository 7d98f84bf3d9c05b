"""How much of a device a training uses: operations of a step, and what the device could do."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import Any

from fusechat.pipeline.machine.accelerators import ACCELERATORS


def multiplied(net: Any) -> float:
    """Parameters that every token is multiplied with, forward and twice backward.

    An embedding that is no head as well is only looked up; a weight that is not trained counts two thirds, since it
    gets no gradient of its own.
    """

    def count(weight: Any) -> float:
        return float(weight.numel() * (1 if weight.requires_grad else 2 / 3))

    total = sum(count(p) for p in net.parameters())
    if net.config.get_text_config().tie_word_embeddings:
        return total
    return total - count(net.get_input_embeddings().weight)


def operations(config: Any, parameters: float, lengths: Iterable[int]) -> float:
    """Operations of forward and backward over rows of these lengths, in tokens.

    6 a parameter and token, and 12 x layers x width x length for attention (PaLM, arXiv 2204.02311, appendix B), half
    of it where a token sees only what stands before it. What gradient checkpointing computes again does not count.
    """
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    width = text.num_attention_heads * head
    return float(sum(6.0 * parameters * n + 6.0 * text.num_hidden_layers * width * n * n for n in lengths))


def peak(device_name: str) -> float | None:
    """Dense bfloat16 operations/s of a device by its name; none where it isn't known."""
    known = sorted(ACCELERATORS, key=len, reverse=True)  # L40S before L4
    return next((ACCELERATORS[kind].compute * 1e12 for kind in known if kind in device_name), None)


def memory_gib(use_gpu: bool) -> float:
    """This worker's peak so far: of its device, or of its process."""
    if use_gpu:
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def device_name(use_gpu: bool) -> str:
    """As the driver names it."""
    if not use_gpu:
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name())
