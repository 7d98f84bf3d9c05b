"""Builds the Serve application of a recipe from its deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from fusechat.pipeline.recipe import COMBINED, OwnReward

if TYPE_CHECKING:
    from ray.serve import Application

    from fusechat.pipeline.run import Run
    from fusechat.pipeline.scoring.agreement import AgreementReport


class ServiceArgs(TypedDict, total=False):
    """Arguments of the Serve application."""

    recipe: str
    """A recipe file, or the name of a built-in recipe."""
    set: list[str]
    """Settings to change, as `section.key=value`."""
    groups: bool
    """Whether each model has its own nodes, which offer the resource `source:NAME` or `reward:NAME`."""


def build(args: ServiceArgs) -> Application:
    """The REST service of a recipe, as one Serve application (`import_path: fusechat.services.app:build`).

    Raises:
        FusechatError: see pipeline/errors.py.
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
    """The REST service of a run.

    Args:
        groups: see `ServiceArgs`.
    """
    from ray import serve

    from fusechat.pipeline.cluster.ray_internals import ModelCard
    from fusechat.pipeline.models.branches import MODELS

    from . import gateway
    from .llm import build_source
    from .reward_models import build_reward
    from .verifier import build_verifier

    run.pin_branches(MODELS)
    recipe = run.recipe
    settings, concurrency = recipe.serve, recipe.sample.concurrency
    models = {s.name: s.model for s in recipe.served}
    models |= {f"reward {r.name}": r.model for r in recipe.rewards if isinstance(r, OwnReward)}
    folders = run.fetch(models)
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
            resources=_node_group("source", s.name) if groups else {},
        )
        for s in recipe.served
    }
    rewards = {
        r.name: build_reward(r, folders[f"reward {r.name}"], resources=_node_group("reward", r.name) if groups else {})
        if isinstance(r, OwnReward)
        else build_reward(r, source=sources[r.source])
        for r in recipe.scored_models
    }
    keys = None if settings.keys is None else str(run.base / settings.keys)
    cards = {
        s.name: ModelCard(id=s.name, object="model", owned_by="fusechat", permission=[], metadata={})
        for s in recipe.served
    }
    deployment = serve.deployment(
        name="gateway",
        num_replicas=settings.replicas,
        max_ongoing_requests=2 * settings.max_in_flight,  # the gateway itself enforces max_in_flight
        ray_actor_options={"num_cpus": 0},
        logging_config={"log_level": "INFO", "enable_access_log": False},
    )(gateway.ingress(settings, keys, list(sources)))
    return deployment.bind(
        sources,
        cards,
        recipe=recipe,
        asked=run.pinned_sources,
        rewards=rewards,
        verifier=build_verifier(recipe.score.verify, settings.max_queued),
        chosen=_chosen_reward_model(run),
    )


def _node_group(kind: str, name: str) -> dict[str, float]:
    """Resources that place a model on its own group of nodes. Any amount above 0 has this effect."""
    return {f"{kind}:{name}": 0.001}


def _chosen_reward_model(run: Run) -> str:
    """The reward that selection uses, or the combination. If the run has not chosen yet, or the service can't compute
    it because scores were imported: the first reward model; "" if there is none."""
    rule = run.recipe.score.reward
    served = [reward.name for reward in run.recipe.scored_models]
    if not isinstance(rule, str):
        return COMBINED if set(rule.names) <= set(served) else next(iter(served), "")
    chosen = rule
    if rule == "auto" and run.dir.exists("score", "agreement.json"):
        agreement: AgreementReport = run.dir.read_json("score", "agreement.json")
        chosen = agreement["chosen"]
    return chosen if chosen in served else next(iter(served), "")
