"""Sizes of a recipe: which one a machine takes, what it changes, what is reported; the demo's own sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_recipe import recipe_tree, source_tree

from fusechat.pipeline.cluster.needs import reserved_needs
from fusechat.pipeline.errors import CapacityError, RecipeError
from fusechat.pipeline.recipe import Recipe, fields, prompt_options, sizes
from fusechat.pipeline.recipe.load import find, load
from fusechat.services.engine_args import cpu_env
from fusechat.training.ray_train import worker_env

TREE = recipe_tree(
    sources=[source_tree(samples={"math": 4})],
    sft={"learning_rate": 1e-5, "num_epochs": 3},
    size_minutes=10,
    sizes={
        "small": {
            "work": {"sample": {"tflop": 30, "seconds": 60}},
            "memory_gb": 4,
            "changes": {"sources.a.samples.math": 1, "sft.num_epochs": 1},
        },
        "full": {"work": {"sample": {"tflop": 300, "seconds": 60}}, "memory_gb": 8},
    },
)
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Simulates a machine with the given GFLOP/s, GiB of memory, cores and CPU limit."""

    def pretend(gflops: float = 1000, memory: float = 64, cores: int = 2, limit: float = float("inf")) -> None:
        monkeypatch.setattr(sizes, "cpu_precision", lambda: "float32")
        monkeypatch.setattr(sizes, "gflops", lambda precision: gflops)
        monkeypatch.setattr(sizes, "machine_memory", lambda: memory * sizes.GIB)
        monkeypatch.setattr(sizes, "cpu_limit", lambda: limit)
        for module in (sizes, fields):
            monkeypatch.setattr(module, "num_cores", lambda: cores)

    return pretend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(TREE | {"run_dir": str(tmp_path / "run")}))
    return file


@pytest.mark.parametrize(
    ("gflops", "memory", "limit", "size"),
    [
        (1000, 64, float("inf"), "full"),  # 60 + 300 s
        (500, 64, float("inf"), "small"),  # full takes 660 s
        (10, 64, float("inf"), "small"),  # nothing fits: the smallest
        (1000, 6, float("inf"), "small"),
        (1000, 64, 0.5, "small"),  # half of one of two cores
    ],
)
def test_the_largest_size_that_ends_in_time_is_taken(
    gflops: float, memory: float, limit: float, size: str, machine: Machine, path: Path
) -> None:
    machine(gflops, memory, limit=limit)
    assert load(path).size == size


def test_a_size_changes_the_recipe_and_the_users_changes_have_the_last_word(machine: Machine, path: Path) -> None:
    machine()
    assert load(path).sft.num_epochs == 3
    small = load(path, ("size=small",))
    assert (small.size, small.sft.num_epochs, small.sources[0].samples["math"]) == ("small", 1, 1)  # type: ignore[union-attr]
    both = load(path, ("sft.num_epochs=2", "size=small"))
    assert (both.sft.num_epochs, both.sources[0].samples["math"]) == (2, 1)  # type: ignore[union-attr]


def test_a_run_that_was_begun_keeps_its_size(machine: Machine, path: Path, tmp_path: Path) -> None:
    machine()
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"settings": {"size": "small"}}))
    assert load(path).size == "small"
    assert load(path, ("size=full",)).size == "full"
    machine(10)
    (run / "run.json").write_text(json.dumps({"settings": {}}))  # of a version without sizes
    assert load(path).size == "full"


def test_a_cluster_takes_the_largest(machine: Machine, path: Path) -> None:
    machine(10)
    assert load(path, ("cluster.address=auto",)).size == "full"


def test_an_unknown_size_is_one_line(machine: Machine, path: Path) -> None:
    machine()
    with pytest.raises(RecipeError, match=r"size: 'huge' is not one of auto, full, small"):
        load(path, ("size=huge",))
    with pytest.raises(RecipeError, match=r"sizes\.full\.work\.sleep.*must be|sizes\.full\.work"):
        load(path, ("sizes.full.work.sleep={tflop: 1}",))


def test_a_change_of_what_is_not_there_says_which_sizes_it_is(machine: Machine, path: Path) -> None:
    machine()
    changed = path.read_text().replace("sources.a.samples.math", "sources.b.samples.math")
    assert changed != path.read_text()
    path.write_text(changed)
    assert load(path, ("size=full",)).size == "full"
    with pytest.raises(RecipeError, match=r"sizes\.small\.changes\.sources\.b\.samples\.math: no such item"):
        load(path, ("size=small",))


def test_too_little_memory_is_one_line_before_anything_is_fetched(machine: Machine, path: Path) -> None:
    machine(memory=2)
    with pytest.raises(CapacityError, match=r"size small needs 4 GiB of memory, the cluster has 2\.0 GiB"):
        sizes.check(load(path))
    machine(memory=6)
    with pytest.raises(CapacityError, match=r"size full needs 8 GiB of memory.*change size: small"):
        sizes.check(load(path, ("size=full",)))


def test_what_the_machine_computes_and_how_long_it_will_take_is_said(machine: Machine, path: Path) -> None:
    machine()
    (line,) = sizes.summary(load(path))
    assert line == (
        "size: full, about 6 minutes in all on 2 cores that compute 1000 GFLOP/s in float32; another: --set size=small"
    )


def test_a_recipe_without_sizes_says_nothing_and_reads_no_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "gflops", None)
    tree = {key: value for key, value in TREE.items() if not key.startswith("size")}
    path.write_text(yaml.safe_dump(tree))
    found = load(path)
    assert found.size is None
    assert list(sizes.summary(found)) == []
    sizes.check(found)


DEMO_SIZES = ("small", "full")


def demo(size: str) -> Recipe:
    return load(find("demo"), (f"size={size}",))


@pytest.mark.parametrize("size", DEMO_SIZES)
def test_each_size_of_the_demo_has_all_sources_domains_and_seen_templates(size: str) -> None:
    found = demo(size)
    assert tuple(found.sizes) == DEMO_SIZES
    assert [s.name for s in found.sources] == ["smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"]
    folder = find("demo").parent

    def rows(files: tuple[str | prompt_options.PromptTable, ...]) -> list[dict[str, Any]]:
        lines = []
        for file in files:
            name, limit = (file, None) if isinstance(file, str) else (str(file.path), file.limit)
            lines += [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()[:limit]]
        return lines

    train, heldout = rows(found.prompts.train), rows(found.prompts.heldout)
    assert {r["domain"] for r in train} == {r["domain"] for r in heldout} == set(fields.DOMAINS)
    trained = {r["template"] for r in train}
    for row in heldout:
        assert row["template_seen"] is (row["template"] in trained), row["id"]
    verified = [r["template_seen"] for r in heldout if r["domain"] in fields.VERIFIED_DOMAINS]
    assert set(verified) == {True, False}


@pytest.mark.parametrize(("cores", "share", "whole"), [(1, 1, 1), (2, 1, 2), (4, 2, 4), (8, 4, 8), (16, 8, 16)])
def test_the_demos_threads_follow_the_cores(cores: int, share: int, whole: int, machine: Machine) -> None:
    machine(cores=cores)
    found = demo("full")
    threads = {s.name: int(cpu_env(s.placement)["OMP_NUM_THREADS"]) for s in found.served}
    assert threads == {"qwen2.5-coder-0.5b": whole, "smollm2-135m": share, "gemma3-270m": share}
    assert worker_env(found.training)["OMP_NUM_THREADS"] == str(whole)
    assert found.training.num_cpus == cores
    two_sources = sum(s.placement.num_cpus for s in found.served[:2])
    three_models = 3 * found.evaluate.placement.num_cpus
    (feeding,) = reserved_needs()
    held = sum(b["CPU"] for b in feeding.bundles)
    assert len(feeding.bundles) >= 3  # one asks each model
    if cores > 1:  # on one core they take turns
        assert max(two_sources, three_models) + held <= cores


def test_on_a_cluster_a_share_of_cores_is_one_cpu(machine: Machine) -> None:
    machine(cores=8)
    found = load(find("demo"), ("size=full", "cluster.address=auto"))
    assert [s.placement.num_cpus for s in found.served] == [1, 1, 1]
    assert found.training.num_cpus == 1
