"""Rows of suites in the plan: from their files, from what the recipe expects, or from the public sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from example_recipe import recipe_tree
from published_suites import gsm8k

from fusechat.pipeline.planning.suite_counts import suite_count
from fusechat.pipeline.recipe import Recipe


def counts(folder: Path, suites: Any, **changes: Any) -> dict[str, tuple[int | None, str]]:
    evaluate = {"suites": suites, "suite_judge": "a", **changes}
    recipe = Recipe.model_validate(recipe_tree(evaluate=evaluate))
    found = [suite_count(suite, recipe.evaluate, folder) for suite in recipe.evaluate.suites]
    return {count.name: (count.rows, count.basis) for count in found}


def test_the_collections_are_counted_without_their_files(tmp_path: Path) -> None:
    found = counts(tmp_path, "fusechat3")
    assert {name for name, (rows, _) in found.items() if rows is None} == {"livebench", "livecodebench"}
    assert (found["mmlu_redux"], found["gpqa_diamond"][0]) == ((5700, "expected_rows"), 198)
    limited = counts(tmp_path, "fusechat3", suite_limit=10, suite_files="data")
    assert (limited["gsm8k"][0], limited["mmlu_redux"][0]) == (10, None)


def test_local_files_of_a_form_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([gsm8k(i).row for i in range(7)]), tmp_path / "data" / "gsm8k.parquet")
    assert counts(tmp_path, "gsm8k", suite_files="data") == {"gsm8k": (7, "the files")}
    assert counts(tmp_path, "gsm8k", suite_files="data", suite_limit=3) == {"gsm8k": (3, "the files")}
