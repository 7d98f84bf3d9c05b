"""`fusechat plan`: the whole plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from ..machine.accelerators import CHARS_PER_TOKEN, SHARE_OF_MAX_TOKENS
from ..run import Run
from . import (
    disk_cost,
    engine_memory,
    engine_rate,
    prompt_counts,
    sampling_cost,
    stage_costs,
    suite_counts,
    training_cost,
)
from .prompt_counts import PromptCounts


def describe(run: Run, counts: PromptCounts) -> Iterator[str]:
    """Blocks of text: prompts, sampling, training, evaluation, all stages, disk, and what the numbers rest on.

    Raises:
        CapacityError: a training does not fit on its devices.
    """
    for block in _blocks(run, counts):
        if block:
            yield "\n".join(block)


def _blocks(run: Run, counts: PromptCounts) -> Iterator[list[str]]:
    recipe = run.recipe
    yield list(prompt_counts.describe(counts))
    lengths = sampling_cost.sampled_lengths(run)
    estimates, total = sampling_cost.estimate(run, counts, lengths)
    if estimates:
        yield sampling_cost.describe(estimates, total)
    yield engine_memory.describe(recipe, run.base, estimates)
    trainings = training_cost.training_costs(recipe, run.base, run.dir, counts.train, lengths)
    yield training_cost.describe(recipe, run.base, trainings)
    suites = [suite_counts.suite_count(suite, recipe.evaluate, run.base) for suite in recipe.evaluate.suites]
    yield list(suite_counts.describe(suites, len(recipe.evaluate.names)))
    costs = stage_costs.stage_costs(run, counts, estimates, total, trainings, suites, lengths)
    yield stage_costs.describe(costs, recipe)
    answers = costs[-1] if costs and costs[-1].stage == "evaluate" else None
    yield disk_cost.describe(disk_cost.disk_uses(recipe, run.base, estimates, trainings, answers))
    yield _assumptions(run, counts)


def _assumptions(run: Run, counts: PromptCounts) -> list[str]:
    """What the numbers rest on where nothing was measured."""
    placements = [s.placement for s in run.recipe.served]
    names = ", ".join(sorted({engine_rate.hardware_of(p)[0] for p in placements}))
    mfu = training_cost.MFU["gpu" if run.recipe.training.num_gpus else "cpu"]
    lines = ["assumed, where nothing was measured:"]
    if names:
        lines += [
            f"  engines: {engine_rate.BANDWIDTH_SHARE:.0%} of the bandwidth or {engine_rate.COMPUTE_SHARE:.0%} of the "
            f"operations/s of the data sheet ({names})",
        ]
    if counts.expected:
        lines.append(f"  prompts, tokens: {prompt_counts.LENGTHS_BASIS}")
        if counts.imported:
            lines.append("  imported responses: one per prompt and source, where the data is not here")
    return [
        *lines,
        f"  rewards: {engine_rate.COMPUTE_SHARE:.0%} of a GPU's operations/s, {engine_rate.CPU_SHARE:.0%} of a CPU's; "
        f"training: {mfu:.0%} of the peak",
        f"  lengths: a response {SHARE_OF_MAX_TOKENS:g} of max_tokens, a token of a prompt {CHARS_PER_TOKEN:g} "
        f"characters, a token on disk {sampling_cost.BYTES_A_TOKEN:g} bytes",
        "not counted: verdicts that run into the time limit, judges, downloads, and the data sets on disk",
    ]
