"""Runs whose responses bring their scores along: no reward model, no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_run, source_tree
from pydantic import ValidationError

from fusechat.pipeline.dataset.check import check
from fusechat.pipeline.dataset.trace import trace
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages.walk import walk

TEXTS = ["Red.", "Blue.", "Green."]
IMPORTED: dict[str, Any] = {
    "sources": [{"kind": "imported", "name": "gpt"}],
    "rewards": [{"kind": "imported", "name": "grade"}],
    "select": {"instruction": {"sft_fraction": 0, "margin": {"min": 0.01, "max": 0.5}}},
}
SCORES: dict[str, float | None] = {"Red.": 0.9, "Blue.": 0.5, "Green.": 0.7}


def rows(scores: dict[str, float | None]) -> list[dict[str, Any]]:
    """Four prompts, each with three responses and these scores."""
    grades = {"grade": {"gpt": [scores.get(text) for text in TEXTS]}}
    row = {"domain": "instruction", "responses": {"gpt": TEXTS}, "scores": grades}
    return [{**row, "id": f"p{i}", "prompt": f"Name {i} colours."} for i in range(4)]


def scored_run(folder: Path, scores: dict[str, float | None]) -> Run:
    """A run up to the stage `sample`."""
    run = make_run(folder, rows(scores), **IMPORTED)
    walk(run, ("prompts",))
    walk(run, ("sample",))
    return run


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("imported scores need no cluster")

    monkeypatch.setattr("fusechat.pipeline.cluster.connect.connected", refused)


@pytest.mark.usefixtures("no_cluster")
def test_imported_scores_are_selected_by_without_a_reward_model(tmp_path: Path) -> None:
    run = scored_run(tmp_path, SCORES)
    walk(run, ("score",))
    walk(run, ("select",))
    manifest = run.dir.manifest("score")
    assert manifest is not None
    assert manifest.counts == {"responses": 12, "verified": 0, "correct": 0, "rewarded": 12, "no score": 0}
    pairs = run.dir.read_table("select", "pairs.parquet").to_pylist()
    assert len(pairs) == 4
    for pair in pairs:
        assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("Red.", "Blue.")
        assert (pair["chosen_reward"], pair["margin"]) == (0.9, 0.4)
    assert trace(run.dir, run.recipe, pairs[0]["row_id"])["responses"][0]["rewards"] == {"grade": 0.9}  # type: ignore[typeddict-item]
    assert not [v for v in check(run.dir, run.recipe) if v.rule == "rewards as scored"]


@pytest.mark.usefixtures("no_cluster")
def test_a_response_without_a_score_is_rejected_as_no_score_and_counted(tmp_path: Path) -> None:
    run = scored_run(tmp_path, {"Red.": 0.9, "Green.": 0.7, "Blue.": None})
    walk(run, ("score",))
    walk(run, ("select",))
    manifest = run.dir.manifest("score")
    assert manifest is not None
    assert (manifest.counts["rewarded"], manifest.counts["no score"]) == (8, 4)
    pairs = run.dir.read_table("select", "pairs.parquet").to_pylist()
    assert {pair["rejected"][0]["content"] for pair in pairs} == {"Green."}
    funnel = run.dir.read_json("select", "funnel.json")
    assert funnel["responses"]["gpt"]["instruction"] == {"chosen": 4, "dispreferred": 4, "no_score": 4}


@pytest.mark.usefixtures("no_cluster")
def test_without_any_score_every_prompt_ends_with_no_score(tmp_path: Path) -> None:
    run = scored_run(tmp_path, {})
    walk(run, ("score",))
    walk(run, ("select",))
    assert run.dir.read_json("select", "funnel.json")["reasons"] == {"no_score": 4}


def test_an_imported_reward_needs_an_imported_source(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="grade comes with imported responses; give a source of kind imported"):
        make_run(tmp_path, rows(SCORES), **{**IMPORTED, "sources": [source_tree()]})
