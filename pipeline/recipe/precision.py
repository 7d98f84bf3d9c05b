"""What `auto` means for a recipe's precisions on this machine, and which of them its results were computed in."""

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
"""What `auto` was before precisions were kept beside results; identities name only others."""
STAGES = {"sample": ("sources",), "score": ("sources", "rewards"), "sft": ("sft",), "dpo": ("dpo",)}
"""Sections of the recipe whose models a stage computes with; `evaluate` asks all that answer or judge."""


class Place(NamedTuple):
    """A precision of the recipe."""

    key: str
    """As `--set` takes it."""
    dtype: str
    on_gpu: bool


def places(recipe: Recipe) -> Iterator[Place]:
    """The recipe's precisions, in its order."""
    for source in recipe.served:
        yield Place(f"sources.{source.name}.engine.dtype", source.engine.dtype, bool(source.placement.num_gpus))
    for reward in recipe.rewards:
        if isinstance(reward, OwnReward):
            yield Place(f"rewards.{reward.name}.dtype", reward.dtype, bool(reward.placement.num_gpus))
    for stage, config in (("sft", recipe.sft), ("dpo", recipe.dpo)):
        dtype = "auto" if config.bf16 == "auto" else USUAL if config.bf16 else "float32"
        yield Place(f"{stage}.bf16", dtype, bool(recipe.training.num_gpus))
    evaluate = recipe.evaluate
    yield Place("evaluate.engine.dtype", evaluate.engine.dtype, bool(evaluate.placement.num_gpus))
    for model in evaluate.models:
        if isinstance(model, EvaluatedModel) and model.engine is not None:
            placement = model.placement or evaluate.placement
            yield Place(f"evaluate.models.{model.name}.engine.dtype", model.engine.dtype, bool(placement.num_gpus))


def decided(dtype: str, num_gpus: float) -> str:
    """An engine's or reward network's dtype, `auto` decided: bfloat16 on GPUs, what suits the processor elsewhere."""
    return dtype if dtype != "auto" else USUAL if num_gpus else cpu_precision()


def of_training(config: Optimization, num_gpus: float) -> Optimization:
    """A training's settings, `bf16: auto` decided."""
    if config.bf16 != "auto":
        return config
    return config.model_copy(update={"bf16": decided("auto", num_gpus) == USUAL})


def settled(recipe: Recipe) -> Recipe:
    """The recipe with every `auto` of a precision decided for this machine."""

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
            "sft": of_training(recipe.sft, recipe.training.num_gpus),
            "dpo": of_training(recipe.dpo, recipe.training.num_gpus),
            "evaluate": evaluate.model_copy(update=evaluation),
        }
    )


def taken(recipe: Recipe) -> dict[str, str]:
    """Recipe key -> the precision that a settled recipe computes in."""
    return {place.key: place.dtype for place in places(recipe)}


def of_stage(recipe: Recipe, stage: str) -> dict[str, str]:
    """The same, of what one stage computes with."""
    sections = ("evaluate", "sources", "rewards") if stage == "evaluate" else STAGES.get(stage, ())
    return {key: dtype for key, dtype in taken(recipe).items() if key.split(".")[0] in sections}


def mark(revision: str, dtype: str) -> str:
    """A model's revision as identities have it: with the precision, where that is not the usual one."""
    return revision if dtype == USUAL else f"{revision}/{dtype}"


def begun_in(run: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The precisions in which a run was begun, by its run.json, and keys whose identities don't name theirs.

    Earlier versions kept the recipe's settings alone: `auto` was bfloat16, and no identity named a precision.
    """
    if "precision" in run:
        return dict(run["precision"]), list(run["unmarked"])
    try:
        before = Recipe.model_validate(run.get("settings", {}))
    except ValidationError:  # of a version with other settings
        return {}, []
    found = {p.key: USUAL if p.dtype == "auto" else p.dtype for p in places(before)}
    return found, [key for key, dtype in found.items() if dtype != USUAL]


def decisions(written: Recipe) -> Iterator[str]:
    """What is to be said of a recipe as it is written: what `auto` is here, and what bfloat16 costs here by name."""
    undecided = [place for place in places(written) if place.dtype == "auto"]
    for dtype in sorted({decided("auto", place.on_gpu) for place in undecided}):
        on_cpu = any(not place.on_gpu for place in undecided if decided("auto", place.on_gpu) == dtype)
        why = f": {processor()} {'has' if dtype == USUAL else 'lacks'} bfloat16 arithmetic" if on_cpu else ""
        yield f"precision: {dtype}{why}"
    by_name = [place.key for place in places(written) if place.dtype == USUAL and not place.on_gpu]
    if by_name and cpu_precision() != USUAL:
        times = gflops("float32") / gflops("bfloat16")
        yield (
            f"precision: warning: {', '.join(by_name)}: bfloat16, as the recipe says, but {processor()} lacks bfloat16 "
            f"arithmetic: products of matrices take {times:.0f} times as long as in float32, which `auto` takes"
        )


def changes(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What is to be said of a run that goes on in other precisions than it was begun in."""
    for old in sorted(set(was.values())):
        changed = [key for key, dtype in now.items() if was.get(key) == old != dtype]
        if not changed:
            continue
        first = f"{changed[0]}={str(old == USUAL).lower() if changed[0].endswith('.bf16') else old}"
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        yield (
            f"precision: this run was begun in {old}; {changed[0]}{more} go on in {now[changed[0]]}, which makes again "
            f"what was made; to stay with {old}: --set {first}{' and so on' if more else ''}"
        )
