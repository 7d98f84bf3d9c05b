"""Names of ready-made suites in `evaluate.suites`, and the settings beside them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import example_recipe
import pytest

from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import JudgedSuite, PromptTable, Recipe, VerifiedSuite, load
from fusechat.pipeline.recipe.paths import input_paths

OWN = {"name": "own", "kind": "verified", "files": ["own.jsonl"]}
PAPER = {
    "instruction following": ["alpaca_eval_2", "arena_hard", "mt_bench", "align_bench"],
    "general": ["livebench", "mmlu_pro", "mmlu_redux", "gpqa_diamond"],
    "mathematics": ["gsm8k", "math", "amc23"],
    "coding": ["humaneval", "mbpp", "livecodebench"],
}


def read(folder: Path, suites: Any, *changes: str, **evaluate: Any) -> Recipe:
    tree = {"suites": suites, **evaluate}
    return load.load(example_recipe.write_recipe(folder / "recipe.yaml", evaluate=tree), changes)


def names(recipe: Recipe) -> list[str]:
    return [suite.name for suite in recipe.evaluate.suites]


def test_the_papers_collection_has_its_14_benchmarks_in_its_groups(tmp_path: Path) -> None:
    recipe = read(tmp_path, "fusechat3", suite_judge="a")
    groups: dict[str, list[str]] = {}
    for suite in recipe.evaluate.suites:
        groups.setdefault(suite.group, []).append(suite.name)
    assert groups == PAPER
    assert {s.judge for s in recipe.evaluate.suites if isinstance(s, JudgedSuite)} == {"a"}
    tables = [t for s in recipe.evaluate.suites if not isinstance(s, JudgedSuite) for t in getattr(s, "files", ())]
    assert all(isinstance(t, PromptTable) and t.hub and t.revision for t in tables)


def test_a_list_mixes_names_and_suites(tmp_path: Path) -> None:
    recipe = read(tmp_path, ["gsm8k", OWN, "modern/aime25", "fusechat3/livecodebench"])
    assert names(recipe) == ["gsm8k", "own", "aime25", "livecodebench"]
    *_, aime, code = recipe.evaluate.suites
    assert isinstance(aime, VerifiedSuite)
    assert aime.samples == 16
    assert isinstance(code, VerifiedSuite)
    assert (code.since, code.until) == (date(2024, 8, 1), date(2024, 11, 30))


def test_a_name_can_be_set_and_its_suites_be_changed_from_the_command_line(tmp_path: Path) -> None:
    changes = (
        "evaluate.suites=[gsm8k, math]",
        "evaluate.suites.gsm8k.sampling.max_tokens=7",
        "evaluate.suites.1.limit=5",
    )
    gsm8k, math = read(tmp_path, (), *changes).evaluate.suites
    assert isinstance(gsm8k, VerifiedSuite)
    assert isinstance(math, VerifiedSuite)
    assert (gsm8k.sampling and gsm8k.sampling.max_tokens, gsm8k.limit, math.limit) == (7, None, 5)
    again = read(tmp_path, ["gsm8k"]).evaluate.suites[0]  # the collection itself was not changed
    assert isinstance(again, VerifiedSuite)
    assert again.sampling
    assert again.sampling.max_tokens == 2048


def test_a_limit_is_for_all_suites_that_have_none(tmp_path: Path) -> None:
    harness = {"name": "h", "kind": "harness", "tasks": ["ifeval"]}
    recipe = read(tmp_path, ["gsm8k", {**OWN, "limit": 2}, harness], suite_limit=9)
    assert [s.limit for s in recipe.evaluate.suites] == [9, 2, 9]


def test_local_files_take_the_place_of_hub_data_sets_alone(tmp_path: Path) -> None:
    recipe = read(tmp_path, ["mmlu_redux", OWN], suite_files="data")
    assert [s.files for s in recipe.evaluate.suites if isinstance(s, VerifiedSuite)] == [
        ("data/mmlu_redux",),
        ("own.jsonl",),
    ]
    paths = [(named.key, named.path) for named in input_paths(recipe) if named.key.startswith("evaluate")]
    assert paths == [("evaluate.suites.own.files.0", "own.jsonl"), ("evaluate.suite_files", "data")]


def test_local_files_take_the_place_of_addresses_and_of_answers_too(tmp_path: Path) -> None:
    recipe = read(tmp_path, ["mt_bench", "arena_hard", "alpaca_eval_2"], suite_files="data", suite_judge="a")
    judged = [s for s in recipe.evaluate.suites if isinstance(s, JudgedSuite)]
    assert [(s.files, s.answers) for s in judged] == [
        (("data/mt_bench",), "data/mt_bench_answers"),
        (("data/arena_hard",), "data/arena_hard_answers"),
        (("data/alpaca_eval_2",), None),
    ]
    assert [n.path for n in input_paths(recipe) if n.key.startswith("evaluate")] == ["data"]


def test_what_is_dumped_has_the_suites_and_reads_the_same(tmp_path: Path) -> None:
    recipe = read(tmp_path, "fusechat3", suite_judge="a", suite_limit=3)
    dumped = recipe.evaluate.model_dump(mode="json")
    assert type(recipe.evaluate).model_validate(dumped) == recipe.evaluate
    plain = read(tmp_path, [OWN]).evaluate.model_dump(mode="json")
    new = {"suite_judge", "suite_limit", "suite_files", "limit", "since", "until"}
    assert not new & (plain.keys() | plain["suites"][0].keys())


BAD = [
    ("gsm9k", {}, "evaluate.suites: no collection or suite 'gsm9k'; there are fusechat3, modern, fusechat3/"),
    (["modern/gsm8k"], {}, "evaluate.suites: no collection or suite 'modern/gsm8k'"),
    (["../demo"], {}, "evaluate.suites: no collection or suite '../demo'"),
    ("fusechat3", {}, "evaluate.suites: alpaca_eval_2, arena_hard, mt_bench, align_bench need a judge: set "),
    ("gsm8k", {"suite_judge": "b"}, "evaluate.suite_judge: 'b' is not one of a (given: 'b')"),
    (["mmlu_redux", {**OWN, "kind": "verify"}], {}, "evaluate.suites.1.kind: must be one of 'verified', "),
    (["modern/aime25", {**OWN, "fom": "x"}], {}, "evaluate.suites.1.fom: unknown key; allowed here: ask, files, "),
    (["gsm8k", "humaneval", {**OWN, "samples": 2}], {}, "evaluate.suites.2.samples: must be 1 at sampling."),
    (["gsm8k", "fusechat3/gsm8k"], {}, "evaluate.suites: names must differ, got ['gsm8k', 'gsm8k']"),
    ([{**OWN, "since": "2024-08-01"}], {}, "since and until are for the forms livecodebench, livebench, not for rows"),
    (["fusechat3/gsm8k"], {"suite_limit": 0}, "evaluate.suite_limit: "),
    (7, {}, "evaluate.suites: Input should be a valid tuple (given: 7)"),
]  # fmt: skip


@pytest.mark.parametrize(("suites", "evaluate", "problem"), BAD)
def test_a_name_or_setting_that_cannot_be_used_is_named(
    tmp_path: Path, suites: Any, evaluate: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, suites, **evaluate)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
