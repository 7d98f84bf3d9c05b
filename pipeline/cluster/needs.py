"""The resources that a recipe needs on the cluster, and whether they fit."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..errors import CapacityError
from ..recipe import Engine, OwnReward, Placement, Recipe, ScoredModel
from .connect import nodes
from .placement import Need, Resources, check
from .ray_data import WORKER_CPUS


def reserved_needs() -> list[Need]:
    """Resources of the batch workers that send requests to the deployments: four at a time on a small machine."""
    return [Need("the batch workers", ({"CPU": WORKER_CPUS},) * 4, "cluster.num_cpus")]


def training_need(recipe: Recipe) -> Need:
    """Resources of all of Ray Train's workers."""
    training = recipe.training
    bundle = _bundle(training.num_cpus, training.num_gpus, training.accelerator_type)
    return Need(
        "training", (bundle,) * training.num_workers, "training.num_workers, num_cpus, num_gpus or accelerator_type"
    )


def check_capacity(recipe: Recipe, cluster: Sequence[Resources], wait_s: float = 0) -> None:
    """Checks that everything the recipe serves and trains fits on the cluster, before anything starts.

    Args:
        cluster: resources of each node.
        wait_s: seconds that an autoscaling cluster may take to grow until the recipe fits.

    Raises:
        CapacityError: names what can't be placed, what it needs, what the cluster has, and the setting to change.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            check(serving_needs(recipe), cluster, reserved_needs())
            check([training_need(recipe)] if recipe.trainings else [], cluster)
            return
        except CapacityError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(2)
            cluster = nodes()


def engine_need(name: str, engine: Engine, placement: Placement, setting: str) -> Need:
    """Bundles of an engine: for each replica, one per tensor and pipeline parallel worker."""
    workers = engine.num_workers
    bundle = placement_bundle(placement)
    return Need(name, (bundle,) * (workers * placement.replicas), f"{setting}.placement or {setting}.engine")


def placement_bundle(placement: Placement) -> dict[str, float]:
    """Resources of one worker, under Ray's names; memory in bytes."""
    return _bundle(placement.num_cpus, placement.num_gpus, placement.accelerator_type, placement.memory_gb)


def _bundle(
    num_cpus: float, num_gpus: float, accelerator_type: str | None, memory_gb: float | None = None
) -> dict[str, float]:
    bundle = {"CPU": num_cpus}
    if num_gpus:
        bundle["GPU"] = num_gpus
    if memory_gb:
        bundle["memory"] = memory_gb * 2**30
    if accelerator_type:
        bundle[f"accelerator_type:{accelerator_type}"] = 0.001  # how Ray requests a type of node
    return bundle


def reward_need(reward: ScoredModel, setting: str) -> Need:
    """Resources of a reward model, without the source that it uses."""
    if not isinstance(reward, OwnReward):
        return Need(reward.name, ({"CPU": 0.0},), setting)
    placement = reward.placement
    bundle = placement_bundle(placement)
    return Need(reward.name, (bundle,) * placement.replicas, f"{setting}.placement")


def serving_needs(recipe: Recipe) -> list[Need]:
    """Resources of everything that the recipe serves at any time, for the capacity check."""
    found = [engine_need(s.name, s.engine, s.placement, f"sources.{s.name}") for s in recipe.served]
    found += [reward_need(r, f"rewards.{r.name}") for r in recipe.scored_models]
    evaluate = recipe.evaluate
    if "evaluate" not in recipe.stages:
        return found
    found.append(engine_need("evaluate", evaluate.engine, evaluate.placement, "evaluate"))
    for own in evaluate.models:
        if not isinstance(own, str) and (own.engine is not None or own.placement is not None):
            engine, placement = own.engine or evaluate.engine, own.placement or evaluate.placement
            found.append(engine_need("evaluate", engine, placement, f"evaluate.models.{own.name}"))
    return found
