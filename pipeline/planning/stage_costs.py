"""GPU-hours and time of every stage, and of the whole run on two clusters: the smallest, and one without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cluster.needs import serving_needs
from ..cluster.placement import Resources
from ..machine.accelerators import SHARE_OF_MAX_TOKENS
from ..recipe import (
    Domain,
    Engine,
    EvaluatedModel,
    JudgeReward,
    Optimization,
    OwnReward,
    Placement,
    Policy,
    Recipe,
    ScoredModel,
    Source,
)
from ..run import Run
from .engine_rate import decoding_rate, gpus_of, reading_rate
from .model_shapes import model_shape, shape_or_guess
from .prompt_counts import PromptCounts
from .sampling_cost import DRAIN, ENGINE_S, FLOW_S, Estimate, Lengths, gpu_hours, seconds_on
from .suite_counts import SuiteCount
from .text_tables import aligned, clock, short
from .training_cost import TrainingCost

USUAL_LENGTH: int = Optimization.model_fields["max_length"].default
"""Tokens of a response at most, for a recipe that neither samples nor trains."""
CHECK_S: dict[Domain, float] = {"math": 0.001, "code": 0.006}
"""CPU seconds of one verdict, as measured on cases that end at once (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What a stage takes."""

    stage: str
    work: str
    """What it does, as text."""
    tokens: float
    gpus: float
    """GPUs that it uses at once where nothing waits."""
    gpu_hours: float
    seconds: float
    """On a cluster where nothing waits for resources."""
    seconds_in_turns: float
    """On the smallest cluster that the recipe fits on."""


def scoring_cost(recipe: Recipe, base: Path, counts: PromptCounts, lengths: Lengths) -> StageCost:
    """The rewards, each of which reads the prompt and the response, after the verdicts, which take CPUs."""
    responses, tokens, checks_s = 0.0, 0.0, 0.0
    for source in recipe.sources:
        for domain, prompts in counts.train.items():
            if isinstance(source, Policy):
                num = prompts.rows * source.samples.get(domain, 0)
                guess = SHARE_OF_MAX_TOKENS * source.sampling_for(domain).max_tokens
                length = lengths.get((source.name, domain), (guess, 0.0))[0]
            else:
                num = counts.imported.get((source.name, domain), 0.0)
                length = _imported_length(recipe, lengths)
            responses += num
            checks_s += num * CHECK_S.get(domain, 0.0)
            tokens += num * (prompts.tokens + length)
    rule = recipe.score.reward
    rewards = [r for r in recipe.scored_models if isinstance(rule, str) or r.name in rule.names]
    if isinstance(rule, str) and rule != "auto":
        rewards = [r for r in recipe.scored_models if r.name == rule]
    costs = [_reward_cost(recipe, base, reward, tokens) for reward in rewards]
    if rule == "auto" and costs:  # the agreement with the verdicts decides; the dearest is counted
        costs = [max(costs, key=lambda cost: (cost[1], cost[0]))]
    seconds = checks_s / recipe.score.verify.num_workers + sum(s for s, _, _ in costs)
    hours = sum(h for _, h, _ in costs)
    read = tokens * len(costs)
    names = (
        "the dearest of the rewards" if rule == "auto" and costs else ", ".join(r.name for r in rewards) or "no reward"
    )
    gpus = max((g for _, _, g in costs), default=0.0)
    work = f"{responses:.0f} responses at most, by {names}; {checks_s / 3600:.1f} CPU-hours of verdicts"
    return StageCost(
        stage="score", work=work, tokens=read, gpus=gpus, gpu_hours=hours, seconds=seconds, seconds_in_turns=seconds
    )


def _imported_length(recipe: Recipe, lengths: Lengths) -> float:
    """Mean tokens of an imported response: that of the sampled ones."""
    if lengths:
        return sum(response for response, _ in lengths.values()) / len(lengths)
    sampled = [s.sampling.max_tokens for s in recipe.sources if isinstance(s, Policy)]
    longest = max((training.max_length for training in recipe.trainings.values()), default=USUAL_LENGTH)
    return SHARE_OF_MAX_TOKENS * (sum(sampled) / len(sampled) if sampled else longest)


def _reward_cost(recipe: Recipe, base: Path, reward: ScoredModel, tokens: float) -> tuple[float, float, float]:
    """Seconds, GPU-hours and GPUs of one reward for so many tokens."""
    if isinstance(reward, OwnReward):
        model, placement, workers = reward.model, reward.placement, 1
    else:
        source = recipe.source(reward.source)
        model, placement, workers = source.model, source.placement, source.engine.num_workers
        tokens *= reward.orders if isinstance(reward, JudgeReward) else 1
    parameters = shape_or_guess(model, reward.name, base).parameters
    rate = placement.replicas * reading_rate(parameters, workers, placement)
    seconds = ENGINE_S["gpu" if placement.num_gpus else "cpu"] + tokens / rate
    gpus = placement.num_gpus * workers * placement.replicas
    return seconds, gpus * seconds / 3600, gpus


def evaluation_cost(run: Run, counts: PromptCounts, suites: Sequence[SuiteCount]) -> StageCost:
    """The answers of the evaluated models, which take turns: held-out prompts, and the suites whose size is known."""
    recipe = run.recipe
    config = recipe.evaluate
    answer = SHARE_OF_MAX_TOKENS * config.sampling.max_tokens
    heldout = sum(c.rows for c in counts.heldout.values())
    answers = heldout + sum(s.answers for s in suites)
    tokens = heldout * answer + sum(s.answers * s.tokens for s in suites)
    seconds, hours, most = 0.0, 0.0, 0.0
    for parameters, engine, placement in _evaluated(recipe, run.base):
        rate = placement.replicas * decoding_rate(parameters, engine, placement, recipe.sample.concurrency)
        work = tokens / rate
        batch = tokens / max(answers, 1) * recipe.sample.concurrency / rate
        took = ENGINE_S["gpu" if placement.num_gpus else "cpu"] + FLOW_S + work + DRAIN * min(batch, work)
        gpus = gpus_of(engine, placement)
        seconds, hours, most = seconds + took, hours + gpus * took / 3600, max(most, gpus)
    if not answers:
        seconds = hours = 0.0
    num = len(config.names)
    unknown = sum(s.rows is None for s in suites)
    work_text = f"{answers:.0f} answers of each of {num} models" + (
        f"; {unknown} suite{'s' if unknown > 1 else ''} not counted" if unknown else ""
    )
    return StageCost(
        stage="evaluate",
        work=work_text,
        tokens=num * tokens,
        gpus=most,
        gpu_hours=hours,
        seconds=seconds,
        seconds_in_turns=seconds,
    )


def _evaluated(recipe: Recipe, base: Path) -> list[tuple[float, Engine, Placement]]:
    """Parameters, engine and placement of the evaluated models that are served here."""
    config = recipe.evaluate
    sources = {s.name: s for s in recipe.sources}
    found = []
    for entry in config.models:
        if isinstance(entry, EvaluatedModel):
            engine, placement = entry.engine or config.engine, entry.placement or config.placement
            found.append((shape_or_guess(entry.model, entry.name, base).parameters, engine, placement))
        elif entry not in sources and recipe.target is not None:
            found.append((model_shape(recipe.target.model, base).parameters, config.engine, config.placement))
        elif isinstance(source := sources.get(entry), Source):
            parameters = shape_or_guess(source.model, source.name, base).parameters
            found.append((parameters, source.engine, source.placement))
    return found


def stage_costs(
    run: Run,
    counts: PromptCounts,
    estimates: Sequence[Estimate],
    total: float,
    trainings: Sequence[TrainingCost],
    suites: Sequence[SuiteCount],
    lengths: Lengths,
) -> list[StageCost]:
    """The cost of every stage that computes with models.

    Args:
        total: seconds of sampling, for a recipe without GPUs.
    """
    recipe, training = run.recipe, run.recipe.training
    sampling = [
        StageCost(
            stage="sample",
            work=f"{sum(e.missing for e in estimates)} samples of {len(estimates)} sources",
            tokens=sum(e.prefill + e.tokens for e in estimates),
            gpus=sum(e.gpus for e in estimates if e.missing),
            gpu_hours=gpu_hours(estimates),
            seconds=seconds_on(run, estimates, None),
            seconds_in_turns=seconds_on(run, estimates, [_node(recipe)]) if smallest_cluster(recipe) else total,
        )
    ]
    found = sampling if "sample" in recipe.stages else []
    if "score" in recipe.stages:
        found.append(scoring_cost(recipe, run.base, counts, lengths))
    gpus = training.num_workers * training.num_gpus
    for cost in trainings:
        found.append(
            StageCost(
                stage=cost.stage,
                work=f"{cost.work.rows:.0f} {'pairs' if cost.stage == 'dpo' else 'rows'} {cost.work.basis}"
                + f", {cost.config.num_epochs:g} epoch{'s' if cost.config.num_epochs != 1 else ''}",
                tokens=cost.tokens,
                gpus=gpus,
                gpu_hours=gpus * cost.hours,
                seconds=3600 * cost.hours,
                seconds_in_turns=3600 * cost.hours,
            )
        )
    return [*found, evaluation_cost(run, counts, suites)] if "evaluate" in recipe.stages else found


def _node(recipe: Recipe) -> Resources:
    """The smallest cluster as one node, with as much as is needed of everything but GPUs."""
    kinds = {kind for need in serving_needs(recipe) for bundle in need.bundles for kind in bundle}
    return dict.fromkeys(kinds | {"CPU"}, float("inf")) | {"GPU": smallest_cluster(recipe)}


def smallest_cluster(recipe: Recipe) -> float:
    """GPUs that the recipe needs at least: those of its largest deployment, or of the training."""
    largest = max((sum(b.get("GPU", 0.0) for b in n.bundles) for n in serving_needs(recipe)), default=0.0)
    return max(largest, recipe.training.num_workers * recipe.training.num_gpus if recipe.trainings else 0.0)


def describe(costs: Sequence[StageCost], recipe: Recipe) -> list[str]:
    """The stages as a table, and the GPUs that they need."""
    smallest = smallest_cluster(recipe)
    most = max([smallest, *(cost.gpus for cost in costs)])
    total = StageCost(
        stage="all",
        work="",
        tokens=sum(c.tokens for c in costs),
        gpus=most,
        gpu_hours=sum(c.gpu_hours for c in costs),
        seconds=sum(c.seconds for c in costs),
        seconds_in_turns=sum(c.seconds_in_turns for c in costs),
    )
    if not most:
        head: tuple[str, ...] = ("stage", "tokens", "time")
        rows: list[tuple[str, ...]] = [(c.stage, short(c.tokens), clock(c.seconds_in_turns)) for c in (*costs, total)]
    else:
        head = ("stage", "tokens", "GPU-hours", f"time on {smallest:g} GPUs", f"on {most:g} GPUs")
        rows = [
            (c.stage, short(c.tokens), f"{c.gpu_hours:.1f}", clock(c.seconds_in_turns), clock(c.seconds))
            for c in (*costs, total)
        ]
    works = ("", *(c.work for c in costs), "")
    lines = [f"{line}  {work}".rstrip() for line, work in zip(aligned([head, *rows]), works, strict=True)]
    if most:
        lines.append(f"GPUs at once: {smallest:g} at least, with the sources in turns; {most:g} so that nothing waits")
    return lines
