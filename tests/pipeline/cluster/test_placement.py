"""Placement: bundles never split, first fit over nodes, turns in order, and refusals that say what to change."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from example_recipe import make_recipe, source_tree
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.cluster import connect, needs
from fusechat.pipeline.cluster.placement import Need, Resources, check, describe, describe_nodes, place, turns
from fusechat.pipeline.errors import CapacityError
from fusechat.pipeline.recipe import Cluster

GIB = 2**30


def need(name: str, *bundles: Resources) -> Need:
    return Need(name, bundles, f"sources.{name}.placement")


def cpus(name: str, *amounts: float) -> Need:
    return need(name, *({"CPU": a} for a in amounts))


def test_a_bundle_is_never_split_over_nodes() -> None:
    assert not place([cpus("a", 4)], [{"CPU": 2}, {"CPU": 2}])
    assert place([cpus("a", 2, 2)], [{"CPU": 2}, {"CPU": 2}])


def test_largest_bundles_go_first() -> None:
    assert place([cpus("small", 1, 1), cpus("large", 3)], [{"CPU": 3}, {"CPU": 2}])


def test_every_kind_of_resource_counts() -> None:
    node = {"CPU": 8, "GPU": 1, "memory": 4 * GIB}
    assert place([need("a", {"CPU": 1, "GPU": 1, "memory": 4 * GIB})], [node])
    assert not place([need("a", {"CPU": 1, "GPU": 2})], [node])
    assert not place([need("a", {"CPU": 1, "memory": 5 * GIB})], [node])
    assert not place([need("a", {"TPU": 1})], [node])


def test_tenths_of_a_cpu_add_up_to_one() -> None:
    assert place([cpus("a", *[0.1] * 10)], [{"CPU": 1}])
    assert not place([cpus("a", *[0.1] * 11)], [{"CPU": 1}])


def test_placing_leaves_the_nodes_as_they_were() -> None:
    nodes = [{"CPU": 2.0}]
    assert place([cpus("a", 2)], nodes)
    assert nodes == [{"CPU": 2.0}]


def test_nothing_fits_on_no_node() -> None:
    assert place([], [])
    assert not place([cpus("a", 0)], [])
    with pytest.raises(CapacityError, match="the cluster has no node"):
        check([cpus("a", 1)], [])


def test_a_refusal_names_the_source_what_it_needs_what_there_is_and_the_setting() -> None:
    nodes: list[Resources] = [{"CPU": 4, "GPU": 1, "object_store_memory": 9e9}, {"CPU": 2}]
    large = need("large", *[{"CPU": 1, "GPU": 2, "memory": 1.5 * GIB}] * 2)
    with pytest.raises(CapacityError) as caught:
        check([cpus("small", 1), large], nodes, [cpus("the batch workers", 0.1, 0.1)])
    error = caught.value
    assert error.who == "large"
    assert error.needs == "2 x (1 CPU, 2 GPU, 1.5 GiB memory) beside the batch workers (0.2 CPU)"
    assert error.has == "2 nodes: 4 CPU, 1 GPU; 2 CPU"
    assert error.setting == "sources.large.placement"
    assert str(error) == f"large needs {error.needs}, the cluster has {error.has}; change sources.large.placement"


def test_what_is_reserved_is_not_there_for_others() -> None:
    check([cpus("a", 2)], [{"CPU": 2}])
    with pytest.raises(CapacityError):
        check([cpus("a", 2)], [{"CPU": 2}], [cpus("reserved", 0.1)])


def test_words() -> None:
    assert describe({"memory": 3 * GIB, "GPU": 0, "CPU": 0.9}) == "0.9 CPU, 3.0 GiB memory"
    assert describe({}) == "nothing"
    assert describe_nodes([]) == "no node"
    assert describe_nodes([{"CPU": 2, "node:10.0.0.1": 1}]) == "2 CPU"


def names(groups: Sequence[Sequence[Need]]) -> list[list[str]]:
    return [[n.name for n in group] for group in groups]


def test_turns_keep_the_order_and_fill_earlier_turns_first() -> None:
    needs = [cpus("a", 2), cpus("b", 3), cpus("c", 1), cpus("d", 1), cpus("e", 2)]
    assert names(turns(needs, [{"CPU": 4}])) == [["a", "c", "d"], ["b"], ["e"]]
    assert names(turns(needs, [{"CPU": 4}], [cpus("reserved", 1)])) == [["a", "c"], ["b"], ["d", "e"]]
    assert names(turns(needs, [{"CPU": 9}])) == [["a", "b", "c", "d", "e"]]


amounts = st.fixed_dictionaries({"CPU": st.integers(0, 4), "GPU": st.integers(0, 2)})
clusters = st.lists(amounts, min_size=1, max_size=3)
all_needs = st.lists(st.lists(amounts, min_size=1, max_size=3), max_size=6).map(
    lambda lists: [need(str(i), *bundles) for i, bundles in enumerate(lists)]
)


def fits_somehow(needs: Sequence[Need], nodes: Sequence[Resources]) -> bool:
    """Tries every assignment of bundles to nodes."""
    bundles = [b for n in needs for b in n.bundles]
    for where in itertools.product(range(len(nodes)), repeat=len(bundles)):
        laid = [[b for b, w in zip(bundles, where, strict=True) if w == i] for i in range(len(nodes))]
        if all(sum(b[k] for b in on) <= node[k] for on, node in zip(laid, nodes, strict=True) for k in ("CPU", "GPU")):
            return True
    return False


@given(all_needs.map(lambda needs: needs[:2]), clusters)
def test_what_is_placed_truly_fits(needs: list[Need], nodes: list[Resources]) -> None:
    if place(needs, nodes):
        assert fits_somehow(needs, nodes)
    elif len(needs) == 1 and len(needs[0].bundles) == 1:  # first fit may miss a packing, never a single bundle's place
        assert not fits_somehow(needs, nodes)


@given(all_needs, clusters, st.lists(amounts, max_size=1).map(lambda b: [need("reserved", *b)] if b else []))
def test_each_turn_fits_and_each_need_has_one_turn(
    needs: list[Need], nodes: list[Resources], reserved: list[Need]
) -> None:
    alone = [n for n in needs if place([n, *reserved], nodes)]
    groups = turns(alone, nodes, reserved)
    assert all(place([*group, *reserved], nodes) for group in groups)
    assert sorted(n.name for group in groups for n in group) == sorted(n.name for n in alone)
    for group in groups:
        assert [n.name for n in group] == sorted(n.name for n in group)
    firsts = [group[0].name for group in groups]
    assert firsts == sorted(firsts)


# --- a whole recipe against a cluster


SOURCES = [
    source_tree(placement={"num_cpus": 0.9}),
    source_tree(
        "b-70b",
        engine={"tensor_parallel_size": 4},
        placement={"num_cpus": 1, "num_gpus": 1, "min_replicas": 2, "max_replicas": 2},
    ),
]
GPUS: list[Resources] = [{"CPU": 16.0, "GPU": 8.0}]


def test_a_plan_that_fits_passes() -> None:
    wanted = make_recipe(sources=SOURCES, training={"num_workers": 8, "num_gpus": 1})
    needs.check_capacity(wanted, GPUS)


def test_a_source_that_does_not_fit_is_named_with_its_setting() -> None:
    wanted = make_recipe(sources=SOURCES)
    with pytest.raises(CapacityError) as caught:
        needs.check_capacity(wanted, connect.local_nodes(Cluster(num_cpus=2)))
    assert caught.value.who == "b-70b"
    assert caught.value.needs == "8 x (1 CPU, 1 GPU) beside the batch workers (0.2 CPU)"
    assert caught.value.has.startswith("2 CPU, ")  # and the memory of the machine
    assert caught.value.setting == "sources.b-70b.placement or sources.b-70b.engine"


def test_a_training_that_does_not_fit_is_named_with_its_setting() -> None:
    wanted = make_recipe(sources=SOURCES, training={"num_workers": 9, "num_gpus": 1})
    with pytest.raises(CapacityError, match=r"^training needs 9 x \(1 CPU, 1 GPU\), .* change training\.num_workers"):
        needs.check_capacity(wanted, GPUS)


def test_an_evaluation_that_does_not_fit_is_named_with_its_setting() -> None:
    prompts = {"train": ["t.jsonl"], "heldout": ["h.jsonl"]}
    wanted = make_recipe(sources=SOURCES, prompts=prompts, evaluate={"placement": {"num_gpus": 9}})
    with pytest.raises(CapacityError, match=r"^evaluate needs 1 CPU, 9 GPU .* change evaluate\.placement"):
        needs.check_capacity(wanted, GPUS)
