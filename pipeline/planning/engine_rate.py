"""Estimated tokens/s of an engine that was never measured, from its hardware's data sheet."""

from __future__ import annotations

from ..machine.accelerators import ACCELERATORS, Accelerator
from ..recipe import Engine, Placement

CPU = Accelerator(0.02, 0.1)
BANDWIDTH_SHARE, COMPUTE_SHARE = 0.6, 0.4
"""Shares of the data sheet's bandwidth and compute that decoding reaches."""

CPU_PEAK, CPU_SHARE = 0.5e12, 0.3
"""Operations/s of one core, and the share of them that a pass over whole texts reaches, such as training; the demo's
training on two cores with AMX reaches a third (docs/performance.md)."""


def decoding_rate(parameters: float, engine: Engine, placement: Placement, concurrency: int) -> float:
    """Tokens/s of one replica. A decoding step is limited by either memory bandwidth or compute; see `Accelerator`."""
    _, hardware = hardware_of(placement)
    workers = engine.num_workers
    read_s = 2 * parameters / (hardware.bandwidth * 1e12 * BANDWIDTH_SHARE * workers)
    compute_s = 2 * parameters * concurrency / (hardware.compute * 1e12 * COMPUTE_SHARE * workers)
    return concurrency / max(read_s, compute_s)


def reading_rate(parameters: float, workers: int, placement: Placement) -> float:
    """Tokens/s of a forward pass over whole texts: two operations per parameter and token, limited by compute."""
    if placement.num_gpus:
        reached = hardware_of(placement)[1].compute * 1e12 * COMPUTE_SHARE
    else:
        reached = CPU_PEAK * CPU_SHARE * placement.num_cpus
    return reached * workers / (2 * parameters)


def gpus_of(engine: Engine, placement: Placement) -> float:
    """GPUs of the replicas of an engine that run from the start."""
    return placement.num_gpus * engine.num_workers * placement.replicas


def hardware_of(placement: Placement) -> tuple[str, Accelerator]:
    """Name and data sheet of the hardware. A GPU of unknown type counts as an H100."""
    if not placement.num_gpus:
        return "a CPU", CPU
    kind = placement.accelerator_type or ""
    return (kind, ACCELERATORS[kind]) if kind in ACCELERATORS else ("an H100", ACCELERATORS["H100"])
