"""`fusechat run --dry-run`: what a recipe would run, and on which resources. Reads no weights, prompts or cluster."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from ..cluster.placement import describe as describe_resources
from ..recipe import (
    DOMAINS,
    Dpo,
    EndpointSource,
    Evaluate,
    HarnessSuite,
    ImportedReward,
    JudgedSuite,
    Model,
    Optimization,
    OwnReward,
    ReadyDataset,
    Recipe,
    Source,
)
from ..storage.manifest import STAGES

SHOWN_FILES = 3
"""Files of a suite that are named; MMLU-Redux has 57."""


def describe_model(model: Model) -> str:
    """Where a model comes from, as text."""
    if model.hub is not None:
        return f"{model.hub}@{model.revision}"
    if model.path is not None:
        return model.path
    return ", ".join(model.wheels.packages) if model.wheels else "nothing"


def describe(recipe: Recipe) -> str:
    """The plan as text: sources, rewards, selection, trainings and evaluation, with their resources.

    It has the stages that the recipe calls for.
    """
    lines = [f"recipe {recipe.name}: run directory {recipe.run_dir}, seed {recipe.seed}"]
    if len(recipe.stages) < len(STAGES):
        lines.append(f"stages: {', '.join(recipe.stages)}")
    if recipe.sources:
        lines += _sources(recipe)
    if recipe.rewards:
        lines += _rewards(recipe)
    if "select" in recipe.stages:
        lines += _selection(recipe) if recipe.dataset is None else _ready(recipe.dataset)
    if recipe.target is not None and recipe.trainings:
        training = recipe.training
        resources = describe_resources({"CPU": training.num_cpus, "GPU": training.num_gpus})
        workers = f"Ray Train, {training.num_workers} workers x ({resources})"
        lines += ["", f"train {describe_model(recipe.target.model)} ({workers})"]
        for stage, config in recipe.trainings.items():
            own = f", beta {config.beta:g}, {config.loss_type}" if isinstance(config, Dpo) else ""
            lines.append(f"  {stage}: {_optimization(config)}{own}")
    if "evaluate" in recipe.stages:
        lines += _evaluation(recipe.evaluate)
    return "\n".join(lines)


def _sources(recipe: Recipe) -> list[str]:
    lines = ["", "sample (Ray Data over Ray Serve)" if recipe.dataset is None else "sources"]
    for source in recipe.sources:
        if isinstance(source, Source):
            lines += _source(source)
        elif isinstance(source, EndpointSource):
            lines.append(f"  {source.name}: {source.model} at {source.url}")
        else:
            lines.append(f"  {source.name}: imported, as {source.name} in the prompt rows")
    return lines


def _rewards(recipe: Recipe) -> list[str]:
    lines = ["", f"score ({_reward_rule(recipe)} of {len(recipe.rewards)} reward models)"]
    for reward in recipe.rewards:
        if isinstance(reward, OwnReward):
            resources = describe_resources({"CPU": reward.placement.num_cpus, "GPU": reward.placement.num_gpus})
            replicas = f"{reward.placement.replicas} x ({resources})"
            lines.append(f"  {reward.name}: {reward.kind} {describe_model(reward.model)}, {replicas}")
        elif isinstance(reward, ImportedReward):
            lines.append(f"  {reward.name}: imported, as {reward.name} in the prompt rows' scores")
        else:
            lines.append(f"  {reward.name}: {reward.kind} with {reward.source}")
    return lines


def _ready(dataset: ReadyDataset) -> list[str]:
    lines = ["", "select (rows that are ready)"]
    for kind, tables in groupby(dataset.tables, key=itemgetter(0)):
        lines.append(f"  {kind}: {', '.join(table.name for _, table in tables)}")
    return lines


def _selection(recipe: Recipe) -> list[str]:
    lines = ["", "select"]
    for domain in DOMAINS:
        rule = recipe.select.rule(domain)
        top = "none" if rule.margin.max is None else f"{rule.margin.max:g}"
        share = f"{100 * rule.sft_fraction:.0f}% of the prompts for SFT only"
        fallback = ", SFT if there is no pair" if rule.fallback_to_sft else ""
        lines.append(f"  {domain}: {share}, margin {rule.margin.min:g} to {top}{fallback}")
    return lines


def _evaluation(evaluate: Evaluate) -> list[str]:
    lines = [
        "",
        f"evaluate {', '.join(evaluate.names)}: temperature {evaluate.sampling.temperature:g}, "
        f"judge {evaluate.judge or 'none'}",
    ]
    for suite in evaluate.suites:
        files = (
            suite.tasks
            if isinstance(suite, HarnessSuite)
            else [file if isinstance(file, str) else file.name for file in suite.files]
        )
        judged = ""
        if isinstance(suite, JudgedSuite):
            judged = f", judge {suite.judge}, baseline {suite.baseline or 'none (ratings)'}"
        shown = ", ".join(files[:SHOWN_FILES]) + (f" and {more} more" if (more := len(files) - SHOWN_FILES) > 0 else "")
        lines.append(f"  {suite.name}: {suite.kind}, {shown}{judged}")
    return lines


def _reward_rule(recipe: Recipe) -> str:
    rule = recipe.score.reward
    if isinstance(rule, str):
        return rule
    return " + ".join(f"{weight:g} {name}" for name, weight in rule.weights.items()) or ", ".join(
        f"{domain} by {name}" for domain, name in rule.domains.items()
    )


def _source(source: Source) -> list[str]:
    engine, placement, s = source.engine, source.placement, source.sampling
    workers = engine.num_workers
    resources = describe_resources({"CPU": placement.num_cpus, "GPU": placement.num_gpus})
    kind = f" {placement.accelerator_type}" if placement.accelerator_type else ""
    replicas = str(placement.replicas)
    if placement.max_replicas > placement.replicas:
        replicas += f" to {placement.max_replicas}"
    samples = ", ".join(f"{n} {domain}" for domain, n in source.samples.items())
    return [
        f"  {source.name}: {describe_model(source.model)}",
        f"    {replicas} replica(s) x {workers} worker(s) x ({resources}{kind}), TP {engine.tensor_parallel_size}, "
        f"PP {engine.pipeline_parallel_size}, {engine.max_model_len} tokens",
        f"    temperature {s.temperature:g}, top-p {s.top_p:g}, repetition penalty {s.repetition_penalty:g}, "
        f"max {s.max_tokens} tokens; samples per prompt: {samples}",
    ]


def _optimization(config: Optimization) -> str:
    return (
        f"{config.num_epochs:g} epoch(s), learning rate {config.learning_rate:g}, "
        f"global batch {config.global_batch_size}, "
        f"{config.max_length} tokens, {config.lr_scheduler}, warm-up {config.warmup_ratio:g}"
        + (f", LoRA rank {config.lora.r}" if config.lora else "")
    )
