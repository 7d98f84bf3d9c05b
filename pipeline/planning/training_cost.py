"""Estimates the cost of the trainings before they run: memory per device, and hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..machine.accelerators import ACCELERATORS, CHARS_PER_TOKEN, SHARE_OF_MAX_TOKENS, size_in_name
from ..machine.hardware import machine_memory
from ..models import cache, resolve
from ..recipe import DOMAINS, Dpo, Model, Optimization, Recipe, Source, Training
from ..storage.run_dir import RunDir
from .memory import GIB, Shape, check, describe_memory, memory, shape_by_size, shape_of
from .sampling_cost import Lengths

MFU = {"gpu": 0.35, "cpu": 0.3}
"""Model FLOPs utilization: expected share of the peak operations/s."""
CPU_PEAK = 0.5e12
"""Operations/s of one core; the demo's training on two cores with AMX reaches a third of that (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWork:
    """The rows that a stage trains on."""

    rows: float
    tokens: float
    """Mean tokens per row: prompt and response, or both sequences of a pair."""
    basis: str
    """How the numbers were obtained."""


def hours(
    shape: Shape, config: Optimization, cluster: Training, work: TrainingWork, peak: float, share: float
) -> float:
    """Wall-clock hours of all steps.

    Args:
        peak: peak operations/s of one worker's device.
        share: share of the peak that is reached.
    """
    passes = (4.0 if config.lora else 6.0) * config.num_epochs  # LoRA computes no gradients of the frozen weights
    if config.gradient_checkpointing:
        passes += 2.0 * config.num_epochs
    if isinstance(config, Dpo):
        passes += 2.0  # the reference model, once
    return passes * shape.parameters * work.rows * work.tokens / (peak * share * cluster.num_workers) / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device of one worker."""

    name: str
    memory: float | None
    """Bytes; None if unknown."""
    peak: float
    """Peak operations/s."""


def device_of(cluster: Training, address: str | None) -> Device:
    """The device of one worker. On CPUs, its memory is a share of this machine's memory if Ray is started here.

    Args:
        address: the recipe's `cluster.address`; None if Ray is started on this machine.
    """
    if cluster.num_gpus:
        kind = cluster.accelerator_type
        if kind in ACCELERATORS:
            known = ACCELERATORS[kind]
            return Device(name=f"{kind} each", memory=known.memory * 1e9, peak=known.compute * 1e12)
        return Device(name="time as on one H100 each", memory=None, peak=ACCELERATORS["H100"].compute * 1e12)
    share = machine_memory() / cluster.num_workers if address is None else None
    name = f"{cluster.num_cpus:g} CPUs each" + (", this machine's memory" if share else "")
    return Device(name=name, memory=share, peak=CPU_PEAK * cluster.num_cpus)


def target_shape(model: Model, base: Path) -> Shape:
    """The target's shape: read from its folder if it is on this machine, else estimated from the size in its name.

    Args:
        base: folder that the model's relative path starts at.
    """
    if model.path is not None:
        return shape_of(resolve.resolve(model, base=base))
    if model.wheels is not None:
        folder = cache.cache_folder() / "models" / model.wheels.sha256
        return shape_of(folder) if (folder / "config.json").exists() else shape_by_size(size_in_name(str(model.wheels)))
    return shape_by_size(size_in_name(str(model.hub)))


def work_of(
    config: Optimization, recipe: Recipe, directory: RunDir, prompts: pa.Table, lengths: Lengths
) -> TrainingWork:
    """The rows of a stage: the selected rows, or before selection the most that its rule can select.

    Args:
        prompts: training prompts, with domain and messages.
        lengths: mean lengths of the sampled responses.
    """
    pairs = isinstance(config, Dpo)
    sequences = 2 if pairs else 1
    name = "pairs.parquet" if pairs else "sft.parquet"
    if directory.exists("select", name):
        selected = directory.read_table("select", name).to_pylist()
        columns = ("chosen", "rejected") if pairs else ("completion",)
        sizes = [
            sum(len(m["content"]) for c in columns for m in (*row["prompt"], *row[c])) / CHARS_PER_TOKEN
            for row in selected
        ]
        limit = sequences * config.max_length
        mean = sum(min(n, limit) for n in sizes) / max(len(sizes), 1)
        return TrainingWork(rows=len(selected), tokens=mean, basis="as selected")
    rows = prompts.to_pylist()
    num_rows, tokens = 0.0, 0.0
    for domain in DOMAINS:
        of_domain = [row for row in rows if row["domain"] == domain]
        rule = recipe.select.rule(domain)
        share = (1 - rule.sft_fraction) if pairs else 1.0 if rule.fallback_to_sft else rule.sft_fraction
        if not of_domain or not share:
            continue
        prompt = sum(len(m["content"]) for row in of_domain for m in row["messages"]) / len(of_domain) / CHARS_PER_TOKEN
        measured = [lengths[s.name, domain][0] for s in recipe.sources if (s.name, domain) in lengths]
        guesses = [
            SHARE_OF_MAX_TOKENS * s.sampling_for(domain).max_tokens
            for s in recipe.sources
            if isinstance(s, Source) and domain in s.samples
        ]
        responses = measured or guesses or [SHARE_OF_MAX_TOKENS * config.max_length]
        length = min(prompt + sum(responses) / len(responses), config.max_length)
        num_rows += share * len(of_domain) * rule.rows
        tokens += share * len(of_domain) * rule.rows * sequences * length
    return TrainingWork(
        rows=num_rows, tokens=tokens / max(num_rows, 1), basis="at most" + ("" if lengths else ", lengths guessed")
    )


def describe(recipe: Recipe, base: Path, directory: RunDir, prompts: pa.Table, lengths: Lengths) -> str:
    """The estimates of the recipe's trainings as text.

    Args:
        base: folder that the target's relative path starts at. For the other arguments see `work_of`.

    Raises:
        CapacityError: a training does not fit on its devices; the message names settings with which it would fit.
    """
    if recipe.target is None or not recipe.trainings:
        return "training: none; the recipe has no sft and no dpo"
    shape, cluster = target_shape(recipe.target.model, base), recipe.training
    device = device_of(cluster, recipe.cluster.address)
    by_name = "" if shape.exact else " (from its name; activations as of a Llama of that size)"
    workers = f"{cluster.num_workers} worker{'s' if cluster.num_workers > 1 else ''}"
    lines = [f"training: {shape.parameters / 1e9:.3g}G parameters{by_name}, {workers}, {device.name}"]
    for stage, config in recipe.trainings.items():
        if device.memory is None:
            need, of = memory(shape, config, cluster), ""
        else:
            need = check(stage, shape, config, cluster, device.memory, device.name)
            of = f" of {device.memory / GIB:.1f}"
        work = work_of(config, recipe, directory, prompts, lengths)
        num_hours = hours(shape, config, cluster, work, device.peak, MFU["gpu" if cluster.num_gpus else "cpu"])
        lines.append(
            f"{stage}: {need.total / GIB:.1f}{of} GiB per worker ({describe_memory(need)}); "
            f"about {num_hours:.2g} hours, "
            f"{work.rows:.0f} {'pairs' if stage == 'dpo' else 'rows'} of {work.tokens:.0f} tokens ({work.basis}), "
            f"{config.num_epochs:g} epoch{'s' if config.num_epochs != 1 else ''}"
        )
    if device.memory is None:
        lines.append("set training.accelerator_type to compare this with the memory of the devices")
    return "\n".join(lines)
