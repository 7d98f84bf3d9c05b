"""What a recipe needs served: the only place that composes deployments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.pipeline.cluster.placement import Need
from fusechat.pipeline.recipe import COMBINED, Engine, OwnReward, Placement, Recipe, RewardModel, Source
from fusechat.services.deployments import Service

if TYPE_CHECKING:
    from ray.serve import Application

    from fusechat.pipeline.run import Run


def build(args: dict[str, Any]) -> Application:
    """The REST service of a recipe, as one Serve application (`import_path: fusechat.services.app:build`).

    Args:
        args: `recipe`, a file or the name of one that ships; `set`, changes to it (`section.key=value`); `groups`,
            whether each model has nodes of its own, which offer the resource `source:NAME` or `reward:NAME`.

    Raises:
        FusechatError: see errors.py.
    """
    from fusechat.pipeline.errors import RecipeError
    from fusechat.pipeline.progress import Progress
    from fusechat.pipeline.recipe.load import find, load
    from fusechat.pipeline.run import Run

    if unknown := set(args) - {"recipe", "set", "groups"}:
        raise RecipeError("args", sorted(unknown), "recipe, set, groups")
    path, groups = find(str(args.get("recipe", ""))), bool(args.get("groups"))
    changes = (*args.get("set", ()), *(["cluster.address=auto"] if groups else []))
    return build_app(Run(load(path, changes), path.parent.resolve(), Progress()), groups)


def build_app(run: Run, groups: bool = False) -> Application:
    """The same, of a run that was opened already."""
    from ray import serve

    from fusechat.pipeline.cluster.ray_internals import ModelCard
    from fusechat.services import gateway
    from fusechat.services.llm import build_source
    from fusechat.services.reward_models import build_reward
    from fusechat.services.verifier import build_verifier

    recipe = run.recipe
    settings, concurrency = recipe.serve, recipe.sample.concurrency
    weights = {s.name: s.model for s in recipe.served}
    weights |= {f"reward {r.name}": r.model for r in recipe.rewards if isinstance(r, OwnReward)}
    folders = run.fetch(weights)
    sources = {
        s.name: build_source(
            s.name,
            folders[s.name],
            s.engine,
            s.placement,
            chat_template=run.templates[s.name],
            system=s.system,
            max_ongoing_requests=concurrency,
            max_queued_requests=settings.max_queued,
            target_ongoing_requests=max(1.0, concurrency / 2),
            metrics=True,
            resources=_group("source", s.name) if groups else {},
        )
        for s in recipe.served
    }
    rewards = {
        r.name: build_reward(r, folders[f"reward {r.name}"], resources=_group("reward", r.name) if groups else {})
        if isinstance(r, OwnReward)
        else build_reward(r, source=sources[r.source])
        for r in recipe.rewards
    }
    keys = None if settings.keys is None else str(run.base / settings.keys)
    cards = {
        s.name: ModelCard(id=s.name, object="model", owned_by="fusechat", permission=[], metadata={})
        for s in recipe.served
    }
    deployment = serve.deployment(
        name="gateway",
        num_replicas=settings.replicas,
        max_ongoing_requests=2 * settings.max_in_flight,  # the door counts, and says so
        ray_actor_options={"num_cpus": 0},
        logging_config={"log_level": "INFO", "enable_access_log": False},
    )(gateway.ingress(settings, keys, list(sources)))
    return deployment.bind(
        sources,
        cards,
        recipe=recipe,
        asked=run.asked,
        rewards=rewards,
        verifier=build_verifier(recipe.score.verify, settings.max_queued),
        chosen=_chosen(run),
    )


def _group(kind: str, name: str) -> dict[str, float]:
    """Asks for a node of the model's own group; the amount only has to be more than nothing."""
    return {f"{kind}:{name}": 0.001}


def _chosen(run: Run) -> str:
    """The reward model that selection uses; before a run has chosen, the first."""
    rule = run.recipe.score.reward
    if rule != "auto":
        return rule if isinstance(rule, str) else COMBINED
    if run.dir.exists("score", "agreement.json"):
        return str(run.dir.read_json("score", "agreement.json")["chosen"])
    return run.recipe.rewards[0].name


def source_service(
    source: Source, model: Path | str, chat_template: str | None, setting: str, concurrency: int
) -> Service:
    """A source LLM as a service of the fleet.

    Args:
        chat_template: Jinja text in place of the model's own.
        setting: recipe key of the source, for errors of placement.
        concurrency: samples that one replica has in flight.
    """

    def build() -> object:
        from fusechat.services.llm import build_source

        return build_source(
            source.name,
            model,
            source.engine,
            source.placement.model_copy(update={"min_replicas": source.placement.replicas}),
            chat_template=chat_template,
            system=source.system,
            max_ongoing_requests=concurrency,
            # A request is a prompt with all its samples: past half of what fills one replica, another one pays.
            target_ongoing_requests=max(1.0, concurrency / max(source.samples.values()) / 2),
        )

    return Service(source.name, engine_need(source.name, source.engine, source.placement, setting), build)


def reward_service(reward: RewardModel, model: Path | None, setting: str) -> Service:
    """A reward model as a service of the fleet."""

    def build() -> object:
        from fusechat.services.reward_models import build_reward

        return build_reward(reward, model)

    return Service(reward.name, reward_need(reward, setting), build)


def engine_need(name: str, engine: Engine, placement: Placement, setting: str) -> Need:
    """Bundles of an engine: one a tensor and pipeline parallel worker, for each replica."""
    workers = engine.tensor_parallel_size * engine.pipeline_parallel_size
    bundle = placement_bundle(placement)
    return Need(name, (bundle,) * (workers * placement.replicas), f"{setting}.placement or {setting}.engine")


def placement_bundle(placement: Placement) -> dict[str, float]:
    """What one worker takes, in Ray's resource names; memory in bytes."""
    bundle = {"CPU": placement.num_cpus}
    if placement.num_gpus:
        bundle["GPU"] = placement.num_gpus
    if placement.memory_gb:
        bundle["memory"] = placement.memory_gb * 2**30
    if placement.accelerator_type:
        bundle[f"accelerator_type:{placement.accelerator_type}"] = 0.001  # Ray's own way to ask for a kind of node
    return bundle


def reward_need(reward: RewardModel, setting: str) -> Need:
    """What a reward model takes beside the source that it asks."""
    if not isinstance(reward, OwnReward):
        return Need(reward.name, ({"CPU": 0.0},), setting)
    placement = reward.placement
    bundle = placement_bundle(placement)
    return Need(reward.name, (bundle,) * placement.replicas, f"{setting}.placement")


def needs(recipe: Recipe) -> list[Need]:
    """All that the recipe will ever have served, for the capacity check."""
    found = [engine_need(s.name, s.engine, s.placement, f"sources.{s.name}") for s in recipe.served]
    found += [reward_need(r, f"rewards.{r.name}") for r in recipe.rewards]
    evaluate = recipe.evaluate
    found.append(engine_need("evaluate", evaluate.engine, evaluate.placement, "evaluate"))
    for own in evaluate.models:
        if not isinstance(own, str) and (own.engine is not None or own.placement is not None):
            engine, placement = own.engine or evaluate.engine, own.placement or evaluate.placement
            found.append(engine_need("evaluate", engine, placement, f"evaluate.models.{own.name}"))
    return found
