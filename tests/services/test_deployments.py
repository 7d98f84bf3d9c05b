"""What a recipe's services need and whether they fit: the parts of the deployments that need no Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from example_recipe import HUB_MODEL, make_recipe, source_tree

from fusechat.pipeline.cluster.needs import engine_need, serving_needs
from fusechat.pipeline.cluster.placement import Need
from fusechat.pipeline.cluster.services import RewardService, SourceService
from fusechat.pipeline.errors import CapacityError
from fusechat.pipeline.recipe import Engine, Placement, Recipe
from fusechat.services.deployments import ServeDeployments, Service, failure_reason, service_of

GIB = 2**30


def recipe(**changes: Any) -> Recipe:
    """A recipe with two sources, two rewards that ask a source, and one that needs a GPU of its own."""
    return make_recipe(
        sources=[source_tree(), source_tree("b", placement={"num_cpus": 0.9})],
        rewards=[
            {"name": "likelihood", "kind": "likelihood", "source": "a"},
            {"name": "judge", "kind": "judge", "source": "b", "rubric": "{prompt} {response}"},
            {"name": "armorm", "kind": "armorm", "model": HUB_MODEL, "placement": {"num_gpus": 1, "min_replicas": 1}},
        ],
        **changes,
    )


def never_built() -> Any:
    raise AssertionError("building starts an engine")


def service(name: str, *cpus: float) -> Service:
    return Service(name, Need(name, tuple({"CPU": c} for c in cpus), f"sources.{name}.placement"), never_built)


def fleet(*cpus: float, reserved: float = 0) -> ServeDeployments:
    held = [Need("the batch workers", ({"CPU": reserved},), "cluster.num_cpus")] if reserved else []
    return ServeDeployments([{"CPU": c} for c in cpus], held, say=lambda _: None)


# --- needs


@pytest.mark.parametrize(
    ("engine", "placement", "num", "bundle"),
    [
        ({}, {}, 1, {"CPU": 1}),
        ({}, {"num_cpus": 0.9}, 1, {"CPU": 0.9}),
        ({"tensor_parallel_size": 4}, {"num_gpus": 1}, 4, {"CPU": 1, "GPU": 1}),
        (
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
            {"num_gpus": 1, "min_replicas": 3, "max_replicas": 9},
            24,
            {"CPU": 1, "GPU": 1},
        ),
        ({}, {"memory_gb": 1.5}, 1, {"CPU": 1, "memory": 1.5 * GIB}),
    ],
)
def test_an_engine_takes_a_bundle_a_worker_and_replica(
    engine: dict[str, Any], placement: dict[str, Any], num: int, bundle: dict[str, float]
) -> None:
    need = engine_need("a", Engine(**engine), Placement(**placement), "sources.a")
    assert need.bundles == (bundle,) * num
    assert need.setting == "sources.a.placement or sources.a.engine"


def test_a_reward_that_asks_a_source_takes_no_place_of_its_own() -> None:
    needs = {n.name: n for n in serving_needs(recipe())}
    for name in ("likelihood", "judge"):
        assert needs[name].total == "nothing"
    assert needs["armorm"].total == "1 CPU, 1 GPU"
    assert needs["armorm"].setting == "rewards.armorm.placement"


def test_all_that_is_ever_served_is_counted() -> None:
    heldout = {"train": ["t.jsonl"], "heldout": ["h.jsonl"]}
    needs = {n.name: n for n in serving_needs(recipe(prompts=heldout, evaluate={"placement": {"num_cpus": 3}}))}
    assert list(needs) == ["a", "b", "likelihood", "judge", "armorm", "evaluate"]
    assert needs["b"].total == "0.9 CPU"
    assert needs["evaluate"].total == "3 CPU"
    assert needs["evaluate"].setting == "evaluate.placement or evaluate.engine"
    assert "evaluate" not in [n.name for n in serving_needs(recipe())]  # there is nothing to evaluate on


def test_a_service_is_made_without_building_what_it_serves() -> None:
    wanted = recipe()
    source = service_of(SourceService(wanted.sources[1], "nowhere", None, "sources.b", 64))
    reward = service_of(RewardService(wanted.rewards[2], None, "rewards.armorm"))
    assert (source.name, source.need.total) == ("b", "0.9 CPU")
    assert (reward.name, reward.need.total) == ("armorm", "1 CPU, 1 GPU")


# --- the fleet


def test_a_service_fits_where_its_bundles_and_what_is_reserved_do() -> None:
    assert fleet(2).fits(service("a", 2), keep=())
    assert not fleet(2, reserved=0.2).fits(service("a", 2), keep=())
    assert fleet(2, reserved=0.2).fits(service("a", 0.9, 0.9), keep=())
    assert not fleet(1, 1).fits(service("a", 2), keep=())
    assert fleet(1, 1).fits(service("a", 1, 1), keep=())


def test_names_that_are_not_up_take_no_place() -> None:
    assert fleet(2).fits(service("a", 2), keep=("stopped", "a"))


def test_work_that_fits_on_no_node_is_refused_and_told_what_to_change() -> None:
    training = Need("training", ({"CPU": 3},), "training.num_cpus")
    with pytest.raises(
        CapacityError, match=r"^training needs 3 CPU, the cluster has 2 CPU; change training\.num_cpus$"
    ):
        fleet(2).make_room(training)


def test_work_that_fits_beside_the_reserve_for_batches_stops_nothing() -> None:
    said: list[str] = []
    empty = ServeDeployments([{"CPU": 2}], [Need("the batch workers", ({"CPU": 1},), "cluster.num_cpus")], said.append)
    empty.make_room(Need("training", ({"CPU": 2},), "training.num_cpus"))
    assert said == []


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (
            "ValidationError: 1 validation error for ModelConfig\n  Value error, The checkpoint has model type `x`.\n\n"
            "You can update it with `pip`. [type=value_error]\n    For further information visit https://errors.x/v",
            "Value error, The checkpoint has model type `x`.",
        ),
        (
            "Traceback:\n  File 'error.py'\nRuntimeError: no such file\nThe replica is restarted.",
            "RuntimeError: no such file",
        ),
        ("an error, in its own words\nand more", "an error, in its own words"),
        ("nothing said", "nothing said"),
    ],
)
def test_a_failed_start_is_told_by_the_line_that_says_why(trace: str, reason: str) -> None:
    assert failure_reason(SimpleNamespace(message="", deployments={"d": SimpleNamespace(message=trace)})) == reason
