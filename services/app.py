"""What a recipe needs served: the only place that composes deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusechat.pipeline.recipe import COMBINED, OwnReward

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

    from . import gateway
    from .llm import build_source
    from .reward_models import build_reward
    from .verifier import build_verifier

    run.pin_branches()
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
        asked=run.pinned_sources,
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
