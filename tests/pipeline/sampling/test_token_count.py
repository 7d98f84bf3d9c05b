"""Imported responses have as many tokens as the target's tokenizer says, where a rule of selection limits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import MODEL, make_run, source_tree
from example_rows import score_row
from tiny_model import make_tokenizer

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.records import RESPONSE, SCORE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import generate
from fusechat.pipeline.selection.apply_rule import run_select
from fusechat.pipeline.stages import graph
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts

SHORT, LONG = "Red.", "Red, or blue, or any of the colours between them."
LIMIT = {"instruction": {"sft_fraction": 1, "max_tokens": 10}}


def run_of(folder: Path, **changes: Any) -> Run:
    """A run with two imported responses, and whose other source serves no prompt."""
    sources = [source_tree(samples={"chinese": 1}), {"name": "old", "kind": "imported"}]
    prompt = {"id": "i", "domain": "instruction", "prompt": "Name a colour.", "responses": {"old": [LONG, SHORT]}}
    run = make_run(folder, [prompt], sources=sources, sample={"buckets": 2}, **changes)
    walk(run, ("prompts",))
    return run


def tokens(run: Run) -> dict[str, int]:
    """Text -> its tokens, as the sample stage leaves them."""
    generate.import_carried(run)
    generate.finish(run, 0)
    return {
        r["text"]: r["completion_tokens"] for r in Parts(run.dir, "sample", RESPONSE, "response_id").read().to_pylist()
    }


def test_a_limit_binds_imported_responses(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / MODEL["path"])
    run = run_of(tmp_path, select=LIMIT)
    found = tokens(run)
    counted = {t: len(make_tokenizer()(t, add_special_tokens=False)["input_ids"]) for t in (SHORT, LONG)}
    assert found == counted
    assert counted[SHORT] <= 10 < counted[LONG]
    scores = [score_row(r, {"m": float(len(r["text"]))}) for r in generate.responses(run)]
    Parts(run.dir, "score", SCORE, "response_id").write_all(scores, 2)
    assert run_select(run.dir, run.recipe, "m")["sft"] == 1
    (row,) = run.dir.read_table("select", "sft.parquet").to_pylist()
    assert row["completion"][0]["content"] == SHORT  # the other one has the higher reward
    statuses = run.dir.read_json("select", "funnel.json")["responses"]["old"]["instruction"]
    assert statuses == {"sft": 1, "too_long": 1}


def test_responses_that_were_imported_without_a_limit_are_counted_once_there_is_one(tmp_path: Path) -> None:
    before = run_of(tmp_path)
    assert tokens(before) == {SHORT: 0, LONG: 0}  # no tokenizer is there, and none was needed
    make_tokenizer().save_pretrained(tmp_path / MODEL["path"])
    after = run_of(tmp_path, select=LIMIT)
    assert graph.settings(after, "sample") != graph.settings(before, "sample")
    assert min(tokens(after).values()) > 0


def test_a_limit_changes_nothing_where_no_source_is_imported(tmp_path: Path) -> None:
    settings = {graph.settings(make_run(tmp_path, **changes), "sample") for changes in ({}, {"select": LIMIT})}
    assert len(settings) == 1


def test_a_target_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"target\.model: .*has no tokenizer") as refused:
        tokens(run_of(tmp_path, select=LIMIT))
    assert "\n" not in str(refused.value)
