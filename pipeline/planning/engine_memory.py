"""Memory of the engines: weights on each GPU, and how many responses their caches hold beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..recipe import Recipe
from .engine_rate import hardware_of
from .memory import GIB
from .model_shapes import shape_or_guess
from .sampling_cost import Estimate
from .text_tables import aligned

USED = 0.9
"""Share of a GPU's memory that vLLM uses (its gpu_memory_utilization)."""


def describe(recipe: Recipe, base: Path, estimates: Sequence[Estimate]) -> list[str]:
    """The memory of the sources on GPUs as a table; nothing without GPUs."""
    rows = []
    lengths = {e.name: (e.tokens + e.prefill) / e.missing for e in estimates if e.missing}
    for source in recipe.served:
        if not source.placement.num_gpus:
            continue
        shape = shape_or_guess(source.model, source.name, base)
        gpus = source.engine.num_workers * source.placement.num_gpus
        _, hardware = hardware_of(source.placement)
        weights = 2 * shape.parameters / gpus
        room = USED * hardware.memory * 1e9 - weights
        # keys and values of every layer, two bytes each
        token = 4 * shape.layers * shape.kv_width / gpus
        length = lengths.get(source.name, float(source.engine.max_model_len))
        fits = "does not fit" if room <= 0 else f"{room / token / length:.0f}"
        each = (f"{weights / GIB:.1f}", f"{USED * hardware.memory * 1e9 / GIB:.1f}", f"{length:.0f}", fits)
        rows.append((source.name, f"{gpus:g}", *each))
    if not rows:
        return []
    head = ("memory, GiB per GPU", "GPUs", "weights", "of", "tokens each", "responses at once")
    return aligned([head, *rows])
