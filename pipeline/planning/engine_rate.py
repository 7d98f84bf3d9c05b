"""Estimated tokens/s of an engine that was never measured, from its hardware's data sheet."""

from __future__ import annotations

from ..machine.accelerators import ACCELERATORS, Accelerator, size_in_name
from ..recipe import Source

CPU = Accelerator(0.02, 0.1)
BANDWIDTH_SHARE, COMPUTE_SHARE = 0.6, 0.4
"""Shares of the data sheet's bandwidth and compute that decoding reaches."""


def modelled_rate(source: Source, concurrency: int) -> float:
    """Tokens/s of one replica. A decoding step is limited by either memory bandwidth or compute; see `Accelerator`."""
    _, hardware = hardware_of(source)
    parameters = parameters_of(source)
    workers = source.engine.tensor_parallel_size
    read_s = 2 * parameters / (hardware.bandwidth * 1e12 * BANDWIDTH_SHARE * workers)
    compute_s = 2 * parameters * concurrency / (hardware.compute * 1e12 * COMPUTE_SHARE * workers)
    return concurrency / max(read_s, compute_s)


def hardware_of(source: Source) -> tuple[str, Accelerator]:
    """Name and data sheet of the source's hardware. A GPU of unknown type counts as an H100."""
    if not source.placement.num_gpus:
        return "a CPU", CPU
    kind = source.placement.accelerator_type or ""
    return (kind, ACCELERATORS[kind]) if kind in ACCELERATORS else ("an H100", ACCELERATORS["H100"])


def parameters_of(source: Source) -> float:
    """Number of parameters, read from the model's name; see `size_in_name`."""
    return size_in_name(source.model.hub or source.model.path or source.name)
