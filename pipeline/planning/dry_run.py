"""`fusechat run --dry-run`: what a recipe would run, and on which resources. Reads no weights, prompts or cluster."""

from __future__ import annotations

from ..cluster.placement import describe as describe_resources
from ..recipe import (
    DOMAINS,
    EndpointSource,
    HarnessSuite,
    JudgedSuite,
    Model,
    Optimization,
    OwnReward,
    Recipe,
    Source,
)

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
    """The plan as text: sources, rewards, selection, trainings and evaluation, with their resources."""
    lines = [
        f"recipe {recipe.name}: run directory {recipe.run_dir}, seed {recipe.seed}",
        "",
        "sample (Ray Data over Ray Serve)",
    ]
    for source in recipe.sources:
        if isinstance(source, Source):
            lines += _source(source)
        elif isinstance(source, EndpointSource):
            lines.append(f"  {source.name}: {source.model} at {source.url}")
        else:
            lines.append(f"  {source.name}: imported, as {source.name} in the prompt rows")
    lines += ["", f"score ({_reward_rule(recipe)} of {len(recipe.rewards)} reward models)"]
    for reward in recipe.rewards:
        if isinstance(reward, OwnReward):
            resources = describe_resources({"CPU": reward.placement.num_cpus, "GPU": reward.placement.num_gpus})
            replicas = f"{reward.placement.replicas} x ({resources})"
            lines.append(f"  {reward.name}: {reward.kind} {describe_model(reward.model)}, {replicas}")
        else:
            lines.append(f"  {reward.name}: {reward.kind} with {reward.source}")
    lines += ["", "select"]
    for domain in DOMAINS:
        rule = recipe.select.rule(domain)
        top = "none" if rule.margin.max is None else f"{rule.margin.max:g}"
        share = f"{100 * rule.sft_fraction:.0f}% of the prompts for SFT only"
        fallback = ", SFT if there is no pair" if rule.fallback_to_sft else ""
        lines.append(f"  {domain}: {share}, margin {rule.margin.min:g} to {top}{fallback}")
    training = recipe.training
    resources = describe_resources({"CPU": training.num_cpus, "GPU": training.num_gpus})
    lines += [
        "",
        f"train {describe_model(recipe.target.model)} (Ray Train, {training.num_workers} workers x ({resources}))",
    ]
    lines.append(f"  sft: {_optimization(recipe.sft)}")
    lines.append(f"  dpo: {_optimization(recipe.dpo)}, beta {recipe.dpo.beta:g}, {recipe.dpo.loss_type}")
    evaluate = recipe.evaluate
    lines += [
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
    return "\n".join(lines)


def _reward_rule(recipe: Recipe) -> str:
    rule = recipe.score.reward
    if isinstance(rule, str):
        return rule
    return " + ".join(f"{weight:g} {name}" for name, weight in rule.weights.items()) or ", ".join(
        f"{domain} by {name}" for domain, name in rule.domains.items()
    )


def _source(source: Source) -> list[str]:
    engine, placement, s = source.engine, source.placement, source.sampling
    workers = engine.tensor_parallel_size * engine.pipeline_parallel_size
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
