"""The target's system-message policy: the rows that it is trained on, and the prompts that it answers, are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_recipe import MODEL, make_recipe, make_run

from fusechat.pipeline.evaluation.models_under_test import models_under_test
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages import graph, training

SYSTEM = [{"role": "system", "content": "Be brief."}]
USER = [{"role": "user", "content": "Hello."}]
MERGED = [{"role": "user", "content": "Be brief.\n\nHello."}]


def run_of(folder: Path, system: str) -> Run:
    return make_run(folder, target={"model": MODEL, "system": system}, evaluate={"models": ["target"]})


@pytest.mark.parametrize(("policy", "prompt"), [("keep", SYSTEM + USER), ("merge", MERGED), ("drop", USER)])
@pytest.mark.parametrize("table", ["sft", "pairs"])
def test_selected_rows_are_trained_on_under_the_targets_policy(
    tmp_path: Path, sft_rows: Any, pairs: Any, table: str, policy: str, prompt: list[dict[str, str]]
) -> None:
    run = run_of(tmp_path, policy)
    rows = sft_rows(2) if table == "sft" else pairs(2)
    lines = rows.to_pylist()
    lines[0]["prompt"] = SYSTEM + USER
    run.dir.write_table(pa.Table.from_pylist(lines, schema=rows.schema), "select", f"{table}.parquet")
    found = training.selected_rows(run, f"{table}.parquet")
    assert found.schema == rows.schema
    assert found["prompt"].to_pylist() == [prompt, lines[1]["prompt"]]
    assert found.drop_columns("prompt").to_pylist() == rows.drop_columns("prompt").to_pylist()


def test_a_run_directory_keeps_its_samples_under_another_policy(tmp_path: Path) -> None:
    for policy in ("keep", "merge", "drop"):
        run_of(tmp_path, policy).claim()


def test_the_target_answers_under_its_policy(tmp_path: Path) -> None:
    (kept,), (merged,) = (models_under_test(run_of(tmp_path, policy)) for policy in ("keep", "merge"))
    assert (kept.source.system, kept.template) == ("keep", "model/keep")
    assert (merged.source.system, merged.template) == ("merge", "model/merge")


def test_trainings_and_answers_depend_on_the_policy(tmp_path: Path) -> None:
    default, kept, merged = make_run(tmp_path), run_of(tmp_path, "keep"), run_of(tmp_path, "merge")
    for stage in ("sft", "dpo", "evaluate"):
        assert graph.settings(kept, stage) != graph.settings(merged, stage)
    for stage in ("sft", "dpo"):
        assert graph.settings(kept, stage) == graph.settings(default, stage)
    assert "system" not in make_recipe(target={"model": MODEL, "system": "keep"}).target.model_dump()
