"""Rewards of responses by one reward model of the recipe, kept for its exact weights and settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..cluster.services import RewardService
from ..identities import digest
from ..recipe import ImportedReward, OwnReward, ScoredModel
from ..records import REWARD, PromptRow, ResponseRow, RewardRow
from ..run import Run
from ..storage.parts import Parts
from . import rewards


def reward(
    run: Run,
    name: str,
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    folder: str = "rewards",
) -> tuple[dict[str, RewardRow], int]:
    """Response id -> reward by one reward model that computes scores, and the number of tokens read.

    Starts the reward model, and the source that it asks, only if rewards are missing.
    """
    model = next(r for r in run.recipe.scored_models if r.name == name)
    parts = _parts(run, model, folder)
    missing = {r["response_id"] for r in responses} - parts.ids()
    if missing:
        keep: list[str] = []
        weights = None
        if isinstance(model, OwnReward):
            weights = run.model(model.model, name)
        else:
            source = run.recipe.source(model.source)
            run.deployments.start(run.source_service(source, run.model(source.model, source.name)))
            run.deployments.wait(source.name)
            keep = [source.name]
        run.deployments.start(RewardService(model, weights, f"rewards.{name}"), keep=keep)
        run.deployments.wait(name)
    with run.show_progress(f"score {name}", len(responses), len(responses) - len(missing)) as show:
        return rewards.reward(run.dir, parts.folder, name, responses, prompts, run.recipe, show)


def stored(run: Run, responses: Collection[str]) -> dict[str, dict[str, RewardRow]]:
    """Reward model -> response id -> its stored reward, of these responses; imported scores are not among them."""
    found: dict[str, dict[str, RewardRow]] = {}
    for model in run.recipe.scored_models:
        rows: list[RewardRow] = _parts(run, model).read().to_pylist()
        found[model.name] = {row["response_id"]: row for row in rows if row["response_id"] in responses}
    return found


def version_of(run: Run, name: str) -> str:
    """A name for what a reward model's scores depend on: its weights and settings. The intake has imported scores."""
    model = next(r for r in run.recipe.rewards if r.name == name)
    return f"{name}-imported" if isinstance(model, ImportedReward) else _parts(run, model).folder.split("/")[-1]


def _parts(run: Run, model: ScoredModel, folder: str = "rewards") -> Parts:
    """A reward model's scores; they are valid for these weights and settings only."""
    if isinstance(model, OwnReward):
        weights = [run.model_revision(model.model), "with objectives"]
    else:
        source = next(s for s in run.pinned_sources if s.source.name == model.source)
        weights = [source.revision, source.template]
    settings = model.model_dump(mode="json", exclude={"placement", "max_batch_tokens"})
    return Parts(run.dir, f"{folder}/{model.name}-{digest(weights, settings)[:12]}", REWARD, "response_id")
