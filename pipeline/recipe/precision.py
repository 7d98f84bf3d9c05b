"""Precisions of a recipe: what `auto` means on this machine, and in which precisions a run's results were computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from ..machine.hardware import cpu_precision, gflops, processor
from .evaluate_options import EvaluatedModel
from .model_options import Engine, Placement
from .reward_options import OwnReward
from .schema import Recipe
from .source_options import Source
from .training_options import Optimization

USUAL = "bfloat16"
"""Meaning of `auto` before runs recorded their precisions. Identities name only other precisions."""
STAGES = {"sample": ("sources",), "score": ("sources", "rewards"), "sft": ("sft",), "dpo": ("dpo",)}
"""Stage -> recipe sections whose models it computes with. `evaluate` uses all that answer or judge."""


class Place(NamedTuple):
    """One precision setting of a recipe."""

    key: str
    """Recipe key in the form of `--set`."""
    dtype: str
    on_gpu: bool


def places(recipe: Recipe) -> Iterator[Place]:
    """Yields the precision settings of a recipe, in order."""
    for source in recipe.served:
        yield Place(f"sources.{source.name}.engine.dtype", source.engine.dtype, bool(source.placement.num_gpus))
    for reward in recipe.rewards:
        if isinstance(reward, OwnReward):
            yield Place(f"rewards.{reward.name}.dtype", reward.dtype, bool(reward.placement.num_gpus))
    for stage, config in recipe.trainings.items():
        dtype = "auto" if config.bf16 == "auto" else USUAL if config.bf16 else "float32"
        yield Place(f"{stage}.bf16", dtype, bool(recipe.training.num_gpus))
    evaluate = recipe.evaluate
    yield Place("evaluate.engine.dtype", evaluate.engine.dtype, bool(evaluate.placement.num_gpus))
    for model in evaluate.models:
        if isinstance(model, EvaluatedModel) and model.engine is not None:
            placement = model.placement or evaluate.placement
            yield Place(f"evaluate.models.{model.name}.engine.dtype", model.engine.dtype, bool(placement.num_gpus))


def decided(dtype: str, num_gpus: float) -> str:
    """Resolves the dtype of an engine or reward network: `auto` is bfloat16 on GPUs, else the processor's best."""
    return dtype if dtype != "auto" else USUAL if num_gpus else cpu_precision()


def of_training(config: Optimization, num_gpus: float) -> Optimization:
    """Returns the training settings with `bf16: auto` resolved."""
    if config.bf16 != "auto":
        return config
    return config.model_copy(update={"bf16": decided("auto", num_gpus) == USUAL})


def settled(recipe: Recipe) -> Recipe:
    """Returns the recipe with every precision `auto` resolved for this machine."""

    def engine(config: Engine, placement: Placement) -> Engine:
        return config.model_copy(update={"dtype": decided(config.dtype, placement.num_gpus)})

    evaluate = recipe.evaluate
    models = [
        m.model_copy(update={"engine": engine(m.engine, m.placement or evaluate.placement)})
        if isinstance(m, EvaluatedModel) and m.engine is not None
        else m
        for m in evaluate.models
    ]
    sources = [
        s.model_copy(update={"engine": engine(s.engine, s.placement)}) if isinstance(s, Source) else s
        for s in recipe.sources
    ]
    rewards = [
        r.model_copy(update={"dtype": decided(r.dtype, r.placement.num_gpus)}) if isinstance(r, OwnReward) else r
        for r in recipe.rewards
    ]
    evaluation = {"engine": engine(evaluate.engine, evaluate.placement), "models": tuple(models)}
    return recipe.model_copy(
        update={
            "sources": tuple(sources),
            "rewards": tuple(rewards),
            **{stage: of_training(config, recipe.training.num_gpus) for stage, config in recipe.trainings.items()},
            "evaluate": evaluate.model_copy(update=evaluation),
        }
    )


def taken(recipe: Recipe) -> dict[str, str]:
    """Returns recipe key -> precision, for a recipe from `settled`."""
    return {place.key: place.dtype for place in places(recipe)}


def of_stage(recipe: Recipe, stage: str) -> dict[str, str]:
    """Returns recipe key -> precision for the models that one stage computes with."""
    sections = ("evaluate", "sources", "rewards") if stage == "evaluate" else STAGES.get(stage, ())
    return {key: dtype for key, dtype in taken(recipe).items() if key.split(".")[0] in sections}


def mark(revision: str, dtype: str) -> str:
    """Returns the model revision for identities: it includes the precision unless that is the usual one."""
    return revision if dtype == USUAL else f"{revision}/{dtype}"


def begun_in(run: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Returns the precisions in which a run began, from its run.json, and the keys whose identities do not name theirs.

    Earlier versions recorded only the recipe's settings: `auto` was bfloat16, and no identity named a precision.
    """
    if "precision" in run:
        return dict(run["precision"]), list(run["unmarked"])
    try:
        before = Recipe.model_validate(run.get("settings", {}))
    except ValidationError:  # written by a version with other settings
        return {}, []
    precisions = {p.key: USUAL if p.dtype == "auto" else p.dtype for p in places(before)}
    return precisions, [key for key, dtype in precisions.items() if dtype != USUAL]


def decisions(written: Recipe) -> Iterator[str]:
    """Yields messages about a recipe with unresolved `auto`: its meaning here, and the cost of explicit bfloat16."""
    undecided = [place for place in places(written) if place.dtype == "auto"]
    for dtype in sorted({decided("auto", place.on_gpu) for place in undecided}):
        on_cpu = any(not place.on_gpu for place in undecided if decided("auto", place.on_gpu) == dtype)
        why = f": {processor()} {'has' if dtype == USUAL else 'lacks'} bfloat16 arithmetic" if on_cpu else ""
        yield f"precision: {dtype}{why}"
    by_name = [place.key for place in places(written) if place.dtype == USUAL and not place.on_gpu]
    if by_name and cpu_precision() != USUAL:
        times = gflops("float32") / gflops("bfloat16")
        yield (
            f"precision: warning: {', '.join(by_name)}: the recipe sets bfloat16, but {processor()} lacks bfloat16 "
            f"arithmetic: matrix products take {times:.0f} times as long as in float32, which `auto` selects"
        )


def changes(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yields a message for a run that continues in other precisions than it began in."""
    for old in sorted(set(was.values())):
        changed = [key for key, dtype in now.items() if was.get(key) == old != dtype]
        if not changed:
            continue
        first = f"{changed[0]}={str(old == USUAL).lower() if changed[0].endswith('.bf16') else old}"
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        yield (
            f"precision: this run began in {old}; {changed[0]}{more} continue in {now[changed[0]]}, which repeats "
            f"finished work; to keep {old}: --set {first}{' and so on' if more else ''}"
        )
