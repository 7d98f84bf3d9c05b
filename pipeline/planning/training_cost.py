"""Estimates the cost of the trainings before they run: memory per device, and hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..machine.accelerators import ACCELERATORS, CHARS_PER_TOKEN, SHARE_OF_MAX_TOKENS
from ..machine.hardware import machine_memory
from ..recipe import DOMAINS, Dpo, Optimization, Recipe, Source, StageName, Training
from ..storage.run_dir import RunDir
from .engine_rate import CPU_PEAK, CPU_SHARE
from .memory import GIB, Memory, Shape, check, describe_memory, memory
from .model_shapes import model_shape
from .prompt_counts import Counts
from .published_shapes import PUBLISHED
from .sampling_cost import Lengths
from .text_tables import short

MFU = {"gpu": 0.35, "cpu": CPU_SHARE}
"""Model FLOPs utilization: expected share of the peak operations/s."""


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


def work_of(config: Optimization, recipe: Recipe, directory: RunDir, prompts: Counts, lengths: Lengths) -> TrainingWork:
    """The rows of a stage: the selected rows, or before selection the most that its rule can select.

    Args:
        prompts: training prompts by domain.
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
    num_rows, tokens = 0.0, 0.0
    for domain in DOMAINS:
        of_domain = prompts.get(domain)
        rule = recipe.select.rule(domain)
        share = (1 - rule.sft_fraction) if pairs else 1.0 if rule.fallback_to_sft else rule.sft_fraction
        if of_domain is None or not share:
            continue
        measured = [lengths[s.name, domain][0] for s in recipe.sources if (s.name, domain) in lengths]
        guesses = [
            SHARE_OF_MAX_TOKENS * s.sampling_for(domain).max_tokens
            for s in recipe.sources
            if isinstance(s, Source) and domain in s.samples
        ]
        responses = measured or guesses or [SHARE_OF_MAX_TOKENS * config.max_length]
        length = min(of_domain.tokens + sum(responses) / len(responses), config.max_length)
        num_rows += share * of_domain.rows * rule.rows
        tokens += share * of_domain.rows * rule.rows * sequences * length
    return TrainingWork(
        rows=num_rows, tokens=tokens / max(num_rows, 1), basis="at most" + ("" if lengths else ", lengths guessed")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """The cost of SFT or of DPO."""

    stage: StageName
    config: Optimization
    memory: Memory
    work: TrainingWork
    hours: float

    @property
    def tokens(self) -> float:
        """Tokens of all epochs."""
        return self.work.rows * self.work.tokens * self.config.num_epochs


def training_costs(
    recipe: Recipe, base: Path, directory: RunDir, prompts: Counts, lengths: Lengths
) -> list[TrainingCost]:
    """The costs of the recipe's trainings.

    Args:
        base: folder that the target's relative path starts at. For the other arguments see `work_of`.

    Raises:
        CapacityError: a training does not fit on its devices; the message names settings with which it would fit.
    """
    if recipe.target is None:
        return []
    shape, cluster = model_shape(recipe.target.model, base), recipe.training
    device = device_of(cluster, recipe.cluster.address)
    costs = []
    for stage, config in recipe.trainings.items():
        if device.memory is None:
            need = memory(shape, config, cluster)
        else:
            need = check(stage, shape, config, cluster, device.memory, device.name)
        work = work_of(config, recipe, directory, prompts, lengths)
        num_hours = hours(shape, config, cluster, work, device.peak, MFU["gpu" if cluster.num_gpus else "cpu"])
        costs.append(TrainingCost(stage=stage, config=config, memory=need, work=work, hours=num_hours))
    return costs


def describe(recipe: Recipe, base: Path, costs: list[TrainingCost]) -> list[str]:
    """The estimates of the trainings as lines of text; none without trainings.

    Args:
        base: folder that the target's relative path starts at.
    """
    if recipe.target is None or not costs:
        return []
    shape, cluster = model_shape(recipe.target.model, base), recipe.training
    device = device_of(cluster, recipe.cluster.address)
    size = "as published" if recipe.target.model.hub in PUBLISHED else "from its folder"
    if not shape.exact:
        size = "from its name; activations as of a Llama of that size"
    workers = f"{cluster.num_workers} worker{'s' if cluster.num_workers > 1 else ''}"
    lines = [f"training: {shape.parameters / 1e9:.3g}G parameters ({size}), {workers}, {device.name}"]
    for cost in costs:
        of = "" if device.memory is None else f" of {device.memory / GIB:.1f}"
        epochs = f"{cost.config.num_epochs:g} epoch{'s' if cost.config.num_epochs != 1 else ''}"
        lines += [
            f"{cost.stage}: {cost.work.rows:.0f} {'pairs' if cost.stage == 'dpo' else 'rows'} of "
            f"{cost.work.tokens:.0f} tokens ({cost.work.basis}), {epochs}, {short(cost.tokens)} tokens in all; "
            f"about {cost.hours:.2g} hours",
            f"  memory: {cost.memory.total / GIB:.1f}{of} GiB per worker ({describe_memory(cost.memory)})",
        ]
    if device.memory is None:
        lines.append("set training.accelerator_type to compare this with the memory of the devices")
    return lines
