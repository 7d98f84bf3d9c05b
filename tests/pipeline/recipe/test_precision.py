"""Precision: what `auto` becomes, where it is stored, and what is reported when a run continues in another one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_recipe import HUB_MODEL, recipe_tree, source_tree, write_jsonl
from rich.console import Console

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import Recipe, precision
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages.walk import walk

GPU = {"placement": {"num_gpus": 1}}
SOURCE = source_tree(model=HUB_MODEL, samples={"math": 1})
TREE = recipe_tree(
    sources=[SOURCE],
    rewards=[
        {"name": "likelihood", "kind": "likelihood", "source": "a"},
        {"name": "own", "kind": "classifier", "model": HUB_MODEL},
    ],
    target={"model": HUB_MODEL},
)
KEYS = ("sources.a.engine.dtype", "rewards.own.dtype", "sft.bf16", "dpo.bf16", "evaluate.engine.dtype")
Processor = Callable[[str], None]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    """Simulates a processor whose native precision is the given one."""

    def pretend(dtype: str) -> None:
        monkeypatch.setattr(precision, "cpu_precision", lambda: dtype)
        monkeypatch.setattr(precision, "processor", lambda: "The Processor")
        monkeypatch.setattr(precision, "gflops", lambda p: {"float32": 60.0, "bfloat16": 10.0}[p])

    return pretend


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(TREE | changes)


def opened(folder: Path, out: io.StringIO | None = None, **changes: Any) -> Run:
    write_jsonl(folder / "train.jsonl", [{"id": "1", "domain": "math", "prompt": "1 + 1?", "gold": "2"}])
    console = Console(file=out or io.StringIO(), soft_wrap=True, highlight=False)
    return Run(recipe(run_dir=str(folder / "run"), **changes), folder, Progress(console))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_auto_is_what_suits_the_processor(dtype: str, processor: Processor) -> None:
    processor(dtype)
    assert precision.taken(precision.settled(recipe())) == dict.fromkeys(KEYS, dtype)


def test_auto_is_bfloat16_on_gpus_whatever_the_drivers_processor_is(processor: Processor) -> None:
    processor("float32")
    found = recipe(
        sources=[SOURCE | GPU],
        rewards=[TREE["rewards"][0], TREE["rewards"][1] | GPU],
        training={"num_gpus": 1},
        evaluate=GPU,
    )
    assert precision.taken(precision.settled(found)) == dict.fromkeys(KEYS, "bfloat16")


def test_a_precision_by_name_is_taken(processor: Processor) -> None:
    processor("float32")
    found = precision.settled(
        recipe(
            sources=[SOURCE | {"engine": {"dtype": "float16"}}],
            sft=TREE["sft"] | {"bf16": True},
            evaluate={"models": ["target", {"name": "x", "model": HUB_MODEL, "engine": {"dtype": "bfloat16"}}]},
        )
    )
    assert precision.taken(found) == dict.fromkeys(KEYS, "float32") | {
        "sources.a.engine.dtype": "float16",
        "sft.bf16": "bfloat16",
        "evaluate.models.x.engine.dtype": "bfloat16",
    }


def test_identities_name_a_precision_that_is_not_bfloat16(processor: Processor, tmp_path: Path) -> None:
    processor("bfloat16")
    assert opened(tmp_path).pinned_sources[0].revision == "owner/model@main"
    processor("float32")
    assert opened(tmp_path).pinned_sources[0].revision == "owner/model@main/float32"


def test_a_training_hangs_on_its_precision_and_a_default_one_on_what_it_was(
    processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusechat.pipeline.stages import graph

    monkeypatch.setattr("fusechat.pipeline.run.revision", lambda model, base: "weights")
    found = {}
    for dtype in ("bfloat16", "float32"):
        processor(dtype)
        found[dtype] = [graph.settings(opened(tmp_path), stage) for stage in ("sft", "dpo", "evaluate", "score")]
    assert all(a != b for a, b in zip(found["bfloat16"], found["float32"], strict=True))
    by_name = opened(tmp_path, sft=TREE["sft"] | {"bf16": True})  # the default before `auto`
    assert graph.settings(by_name, "sft") == found["bfloat16"][0]


@pytest.mark.parametrize(("dtype", "has"), [("bfloat16", "has"), ("float32", "lacks")])
def test_what_auto_became_is_said_in_one_line(dtype: str, has: str, processor: Processor) -> None:
    processor(dtype)
    assert list(precision.decisions(recipe())) == [f"precision: {dtype}: The Processor {has} bfloat16 arithmetic"]


def test_bfloat16_by_name_is_done_with_a_warning_that_says_what_it_costs(processor: Processor) -> None:
    processor("float32")
    wanted = recipe(sources=[SOURCE | {"engine": {"dtype": "bfloat16"}}])
    assert precision.taken(precision.settled(wanted))["sources.a.engine.dtype"] == "bfloat16"
    (warning,) = [line for line in precision.decisions(wanted) if "warning" in line]
    assert "sources.a.engine.dtype" in warning and "6 times as long as in float32" in warning
    processor("bfloat16")
    assert not [line for line in precision.decisions(wanted) if "warning" in line]


def test_a_run_that_goes_on_in_another_precision_says_so(processor: Processor, tmp_path: Path) -> None:
    processor("bfloat16")
    walk(opened(tmp_path), ("prompts",))
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["precision"] == dict.fromkeys(KEYS, "bfloat16")

    out = io.StringIO()
    walk(opened(tmp_path, out), ("prompts",))
    assert "began in" not in out.getvalue()

    processor("float32")
    out = io.StringIO()
    moved = opened(tmp_path, out)
    walk(moved, ("prompts",))
    assert (
        "precision: this run began in bfloat16; sources.a.engine.dtype and 4 more continue in float32, which repeats "
        "finished work; to keep bfloat16: --set sources.a.engine.dtype=bfloat16 and so on"
    ) in out.getvalue()
    assert moved.pinned_sources[0].revision.endswith("/float32")
    assert "prompts: up to date" in out.getvalue()


def test_a_run_of_an_earlier_version_keeps_its_identities(processor: Processor, tmp_path: Path) -> None:
    processor("bfloat16")
    source = SOURCE | {"engine": {"dtype": "float32"}}
    run = opened(tmp_path, sources=[source])
    walk(run, ("prompts",))
    file = tmp_path / "run" / "run.json"
    before = json.loads(file.read_text())
    del before["precision"], before["unmarked"]  # as earlier versions wrote it
    file.write_text(json.dumps(before))

    again = opened(tmp_path, sources=[source])
    assert again.pinned_sources[0].revision == "owner/model@main"
    walk(again, ("prompts",))
    assert json.loads(file.read_text())["unmarked"] == ["sources.a.engine.dtype"]
    assert opened(tmp_path, sources=[source]).pinned_sources[0].revision == "owner/model@main"
    other = SOURCE | {"engine": {"dtype": "float16"}}
    assert opened(tmp_path, sources=[other]).pinned_sources[0].revision == "owner/model@main/float16"


def test_a_manifest_says_what_its_stage_computed_in(processor: Processor) -> None:
    processor("float32")
    found = precision.settled(recipe())
    assert precision.of_stage(found, "sample") == {"sources.a.engine.dtype": "float32"}
    assert precision.of_stage(found, "sft") == {"sft.bf16": "float32"}
    assert precision.of_stage(found, "prompts") == {}
    assert set(precision.of_stage(found, "evaluate")) == {
        "sources.a.engine.dtype",
        "rewards.own.dtype",
        "evaluate.engine.dtype",
    }


@pytest.mark.parametrize("kept", [{}, {"settings": {"name": "small", "sorces": []}}])
def test_a_run_whose_settings_are_of_another_version_is_taken_as_it_is(kept: dict[str, Any]) -> None:
    assert precision.begun_in(kept) == ({}, [])
