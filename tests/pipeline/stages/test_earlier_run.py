"""A run directory from version 0.1.0 is read, continued and reported; no finished work is repeated."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from example_recipe import quiet_run

from fusechat.pipeline.cluster import connect
from fusechat.pipeline.dataset.check import check
from fusechat.pipeline.dataset.locate import locate_run
from fusechat.pipeline.dataset.trace import trace
from fusechat.pipeline.planning.prompt_counts import counted
from fusechat.pipeline.planning.sampling_cost import estimate, sampled_lengths
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages import graph
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.manifest import STAGES

EARLIER = Path(__file__).parents[2] / "data/earlier_run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the earlier run, with its recipe and prompts."""
    return Path(shutil.copytree(EARLIER, tmp_path / "earlier"))


def run_of(folder: Path, *changes: str) -> Run:
    """The earlier run, opened by this version. It can start no Ray, no engine and no training."""
    recipe = load(folder / "recipe.yaml", (f"run_dir={folder / 'run'}", *changes))
    return quiet_run(recipe, folder)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("nothing is left that needs a cluster")

    monkeypatch.setattr(connect, "connected", refused)


def test_every_stage_is_up_to_date(folder: Path) -> None:
    before = {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file() and p.name != "run.json"}
    assert walk(run_of(folder)) == dict.fromkeys(STAGES, False)
    after = {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file() and p.name != "run.json"}
    assert after.keys() - before.keys() == {folder / "run/.lock"}
    assert all(after[p] == content for p, content in before.items())


def test_settings_hash_as_they_did(folder: Path) -> None:
    run = run_of(folder)
    for stage in STAGES:
        manifest = json.loads((folder / "run" / stage / "manifest.json").read_text())
        assert graph.settings(run, stage) == manifest["config"], stage
        assert graph.inputs(run, stage) == manifest["inputs"], stage


def test_no_response_is_missing(folder: Path) -> None:
    run = run_of(folder)
    estimates, seconds = estimate(run, counted(run), sampled_lengths(run))
    assert [(e.name, e.missing) for e in estimates] == [("qwen", 0)]
    assert seconds == 0


def test_stages_that_need_no_cluster_write_the_same_again(folder: Path) -> None:
    """Sampling finds every response there, and selection reads the stored scores."""
    for stage in ("prompts", "sample", "select"):
        (folder / "run" / stage / "manifest.json").unlink()
    worked = walk(run_of(folder))
    assert {stage for stage, did in worked.items() if did} == {"prompts", "sample", "select"}
    for stage in ("prompts", "sample", "select"):
        was = json.loads((EARLIER / "run" / stage / "manifest.json").read_text())
        now = json.loads((folder / "run" / stage / "manifest.json").read_text())
        assert (now["data"], now["fingerprint"], now["counts"]) == (was["data"], was["fingerprint"], was["counts"])


def test_it_is_reported_as_it_was(folder: Path) -> None:
    (folder / "run/report/manifest.json").unlink()
    walk(run_of(folder), ("report",))
    now, was = ((f / "run/report/report.md").read_text() for f in (folder, EARLIER))
    assert re.findall(r"[-+]?\d[\d.]*", now) == re.findall(r"[-+]?\d[\d.]*", was)  # words may have changed since
    assert "<svg" in (folder / "run/report/report.html").read_text()


def test_another_window_selects_from_the_stored_scores(folder: Path) -> None:
    run = run_of(folder, "select.instruction.margin.max=0.01")
    assert walk(run, ("prompts", "sample", "score", "select")) == {
        "prompts": False,
        "sample": False,
        "score": False,
        "select": True,
    }


def test_its_data_set_is_read(folder: Path) -> None:
    directory, recipe = locate_run(str(folder / "run"))
    assert recipe.name == "earlier"
    assert not check(directory, recipe)
    pairs = directory.read_table("select", "pairs.parquet").to_pylist()
    assert pairs and trace(directory, recipe, pairs[0]["row_id"])["prompt"]
