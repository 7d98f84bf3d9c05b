"""What a recipe's trainings will take: memory a device and hours, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..machine.accelerators import ACCELERATORS, CHARS_PER_TOKEN, SHARE_OF_MAX_TOKENS, size_in_name
from ..machine.hardware import machine_memory
from ..models import cache, resolve
from ..recipe import DOMAINS, Dpo, Model, Optimization, Recipe, Source, Training
from ..storage.run_dir import RunDir
from .memory import GIB, Shape, check, describe_memory, memory, shape_by_size, shape_of

MFU = {"gpu": 0.35, "cpu": 0.3}
"""Share of the peak that a step is expected to reach."""
CPU_PEAK = 0.5e12
"""Operations/s of one core; the demo's training on two cores with AMX reaches a third of that (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWork:
    """A stage's rows."""

    rows: float
    tokens: float
    """A row, prompt and responses together; for a pair both sequences."""
    basis: str


def hours(
    shape: Shape, config: Optimization, cluster: Training, work: TrainingWork, peak: float, share: float
) -> float:
    """Wall clock of all steps.

    Args:
        peak: operations/s of one worker's device.
        share: of the peak that is reached.
    """
    passes = (4.0 if config.lora else 6.0) * config.num_epochs  # what isn't trained gets no gradient of its own
    if config.gradient_checkpointing:
        passes += 2.0 * config.num_epochs
    if isinstance(config, Dpo):
        passes += 2.0  # the reference, once
    return passes * shape.parameters * work.rows * work.tokens / (peak * share * cluster.num_workers) / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What one worker computes on."""

    name: str
    memory: float | None
    """Bytes; none where nobody knows."""
    peak: float
    """Operations/s."""


def device_of(cluster: Training, address: str | None) -> Device:
    """The devices of the recipe; on CPUs this machine's memory where Ray is started here."""
    if cluster.num_gpus:
        kind = cluster.accelerator_type
        if kind in ACCELERATORS:
            known = ACCELERATORS[kind]
            return Device(name=f"{kind} each", memory=known.memory * 1e9, peak=known.compute * 1e12)
        return Device(name="time as of an H100 each", memory=None, peak=ACCELERATORS["H100"].compute * 1e12)
    share = machine_memory() / cluster.num_workers if address is None else None
    name = f"{cluster.num_cpus:g} CPUs each" + (", this machine's memory" if share else "")
    return Device(name=name, memory=share, peak=CPU_PEAK * cluster.num_cpus)


def target_shape(model: Model, base: Path) -> Shape:
    """The target's shape: read from its folder where that is on this machine, else by the size in its name."""
    if model.path is not None:
        return shape_of(resolve.resolve(model, base=base))
    if model.wheels is not None:
        folder = cache.cache_folder() / "models" / model.wheels.sha256
        return shape_of(folder) if (folder / "config.json").exists() else shape_by_size(size_in_name(str(model.wheels)))
    return shape_by_size(size_in_name(str(model.hub)))


Lengths = Mapping[tuple[str, str], tuple[float, float]]
"""(source, domain) -> mean tokens of response and prompt, where they were sampled."""


def work_of(config: Optimization, recipe: Recipe, directory: RunDir, prompts: pa.Table, found: Lengths) -> TrainingWork:
    """A stage's rows: those that were selected, else what the rule of selection takes at most.

    Args:
        prompts: of training, with domain and messages.
        found: what sampling measured.
    """
    pairs = isinstance(config, Dpo)
    sequences = 2 if pairs else 1
    name = "pairs.parquet" if pairs else "sft.parquet"
    if directory.exists("select", name):
        texts = directory.read_table("select", name).to_pylist()
        columns = ("chosen", "rejected") if pairs else ("completion",)
        chars = [
            sum(len(m["content"]) for c in columns for m in (*row["prompt"], *row[c])) / CHARS_PER_TOKEN
            for row in texts
        ]
        limit = sequences * config.max_length
        mean = sum(min(n, limit) for n in chars) / max(len(chars), 1)
        return TrainingWork(rows=len(texts), tokens=mean, basis="as selected")
    rows = prompts.to_pylist()
    counted, tokens = 0.0, 0.0
    for domain in DOMAINS:
        mine = [row for row in rows if row["domain"] == domain]
        rule = recipe.select.rule(domain)
        share = (1 - rule.sft_fraction) if pairs else 1.0 if rule.fallback_to_sft else rule.sft_fraction
        if not mine or not share:
            continue
        prompt = sum(len(m["content"]) for row in mine for m in row["messages"]) / len(mine) / CHARS_PER_TOKEN
        lengths = [found[s.name, domain][0] for s in recipe.sources if (s.name, domain) in found]
        guesses = [
            SHARE_OF_MAX_TOKENS * s.sampling_for(domain).max_tokens
            for s in recipe.sources
            if isinstance(s, Source) and domain in s.samples
        ]
        answers = lengths or guesses or [SHARE_OF_MAX_TOKENS * config.max_length]
        length = min(prompt + sum(answers) / len(answers), config.max_length)
        counted += share * len(mine) * rule.rows
        tokens += share * len(mine) * rule.rows * sequences * length
    return TrainingWork(
        rows=counted, tokens=tokens / max(counted, 1), basis="at most" + ("" if found else ", lengths guessed")
    )


def describe(recipe: Recipe, base: Path, directory: RunDir, prompts: pa.Table, found: Lengths) -> str:
    """The plan of both trainings as text.

    Args:
        base: folder that the target's path starts at; the others as of `work_of`.

    Raises:
        CapacityError: one can't fit on its devices; names the setting that would make it fit.
    """
    shape, cluster = target_shape(recipe.target.model, base), recipe.training
    device = device_of(cluster, recipe.cluster.address)
    by_name = "" if shape.exact else " (by its name; activations as of a Llama of that size)"
    workers = f"{cluster.num_workers} worker{'s' if cluster.num_workers > 1 else ''}"
    lines = [f"training: {shape.parameters / 1e9:.3g}G parameters{by_name}, {workers}, {device.name}"]
    for stage, config in (("sft", recipe.sft), ("dpo", recipe.dpo)):
        if device.memory is None:
            need, of = memory(shape, config, cluster), ""
        else:
            need = check(stage, shape, config, cluster, device.memory, device.name)
            of = f" of {device.memory / GIB:.1f}"
        work = work_of(config, recipe, directory, prompts, found)
        took = hours(shape, config, cluster, work, device.peak, MFU["gpu" if cluster.num_gpus else "cpu"])
        lines.append(
            f"{stage}: {need.total / GIB:.1f}{of} GiB a worker ({describe_memory(need)}); about {took:.2g} hours, "
            f"{work.rows:.0f} {'pairs' if stage == 'dpo' else 'rows'} of {work.tokens:.0f} tokens ({work.basis}), "
            f"{config.num_epochs:g} epoch{'s' if config.num_epochs != 1 else ''}"
        )
    if device.memory is None:
        lines.append("name training.accelerator_type to hold this against the devices' memory")
    return "\n".join(lines)
