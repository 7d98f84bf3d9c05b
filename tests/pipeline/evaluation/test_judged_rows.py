"""The judged benchmarks' own files, ten rows each: prompts, references, turns, categories; and files of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import judged_sets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.evaluation import suites
from fusechat.pipeline.recipe import JudgedSuite, Prompts


def load(folder: Path, rows: list[Any], answers: list[Any] | None = None, **changes: Any) -> suites.LoadedSuite:
    judged_sets.write_lines(folder / "question.jsonl", rows)
    tree: dict[str, Any] = {"name": "s", "kind": "judged", "judge": "j", "files": ["question.jsonl"]}
    if answers is not None:
        judged_sets.write_lines(folder / "answers.jsonl", answers)
        tree["answers"] = "answers.jsonl"
    invalid = changes.pop("invalid", "stop")
    return suites.load(JudgedSuite(**tree, **changes), folder, Prompts(train=("x",), invalid=invalid))


def references(found: suites.LoadedSuite) -> list[str | None]:
    return [found.references.get(p["prompt_id"]) for p in found.prompts]


def test_alpaca_eval_has_the_baselines_answers_in_its_rows(tmp_path: Path) -> None:
    found = load(tmp_path, judged_sets.alpaca_eval(), form="alpaca_eval", baseline="reference")
    assert [p["messages"][-1]["content"] for p in found.prompts] == judged_sets.ASKED
    assert references(found) == [f"It is a bird, of which there are many, number {i}." for i in range(10)]


@pytest.mark.parametrize("made", [judged_sets.arena_hard_first(), judged_sets.arena_hard("v0.1", "gpt-4-0314")])
def test_arena_hard_is_held_against_a_file_of_answers(tmp_path: Path, made: tuple[list[Any], list[Any]]) -> None:
    found = load(tmp_path, *made, form="arena_hard", baseline="reference")
    assert [p["messages"][-1]["content"] for p in found.prompts] == judged_sets.ASKED
    assert references(found) == [f"It is a bird, of which there are many, number {i}." for i in range(10)]
    assert [c for c, _ in found.categories.values()] == ["arena-hard-v0.1"] * 10


def test_arena_hard_v2_has_a_baseline_for_each_category(tmp_path: Path) -> None:
    hard = load(
        tmp_path, *judged_sets.arena_hard(), form="arena_hard", baseline="reference", categories=("hard_prompt",)
    )
    assert [p["id"] for p in hard.prompts] == [f"u{i}" for i in range(6)]
    assert hard.rejects == []
    with pytest.raises(InputError, match="suite s contains no usable row of the categories hard"):
        load(tmp_path, *judged_sets.arena_hard(), form="arena_hard", baseline="reference", categories=("hard",))


def test_mt_bench_has_references_for_three_categories(tmp_path: Path) -> None:
    rows, answers = judged_sets.mt_bench()
    found = load(tmp_path, rows, answers, form="mt_bench", method="rating")
    referred = {2, 3, 4, 8, 9}
    assert references(found) == [f"reference {i}" if i in referred else None for i in range(10)]
    for i, prompt in enumerate(found.prompts):
        second = found.references.get(suites.second_turn(prompt["prompt_id"]))
        assert second == (f"second reference {i}" if i in referred else None)
    assert [found.follow_ups[p["prompt_id"]] for p in found.prompts] == [f"And number {i}?" for i in range(10)]
    own = load(tmp_path, rows, form="mt_bench", method="rating")
    assert references(own)[3] == "hint 3"
    on_the_hub = [{"reference": [], **row} for row in rows]  # lighteval/mt-bench
    assert load(tmp_path, on_the_hub, form="mt_bench", method="rating").references == own.references
    assert references(own)[5] is None  # extraction has hints, but its judge sees none
    compared = load(tmp_path, rows, form="mt_bench", baseline="target")
    assert compared.references == {}


def test_a_baseline_of_mt_bench_may_be_a_file_of_answers(tmp_path: Path) -> None:
    rows, answers = judged_sets.mt_bench()
    math = ("math",)
    found = load(tmp_path, rows, answers, form="mt_bench", baseline="reference", categories=math)
    assert sorted(found.references.values()) == [
        "reference 3",
        "reference 8",
        "second reference 3",
        "second reference 8",
    ]
    with pytest.raises(InputError, match=r"question.jsonl:1: .*the file of answers has none for the row's id '81'"):
        load(tmp_path, rows, answers, form="mt_bench", baseline="reference")
    short = [{**a, "choices": [{"index": 0, "turns": ["one"]}]} for a in answers]
    with pytest.raises(InputError, match="a follow_up has no reference in the file of answers"):
        load(tmp_path, rows, short, form="mt_bench", baseline="reference", categories=math)


def test_align_bench_has_references_and_categories(tmp_path: Path) -> None:
    found = load(tmp_path, judged_sets.align_bench(), form="align_bench", method="rating")
    assert references(found) == [f"它叫{i}号。" for i in range(10)]
    assert [found.categories[p["prompt_id"]] for p in found.prompts] == list(judged_sets.ALIGN)


def test_own_rows_may_have_all_of_it(tmp_path: Path) -> None:
    row = {"id": "a", "domain": "instruction", "prompt": "One?", "follow_up": "Two?", "category": "x"}
    found = load(tmp_path, [{**row, "reference": ["1", "2"]}], method="rating")
    assert list(found.references.values()) == ["1", "2"]
    other = load(tmp_path, [row], [{"id": "a", "reference": ["3", "4"]}], method="rating")
    assert list(other.references.values()) == ["3", "4"]
    assert load(tmp_path, [row], [{"id": "b", "reference": "3"}], method="rating").references == {}


@pytest.mark.parametrize("kind", ["csv", "parquet", "hub"])
def test_own_rows_may_have_it_in_any_kind_of_file(tmp_path: Path, kind: str) -> None:
    row = {"id": "a", "domain": "instruction", "prompt": "One?", "follow_up": "Two?", "category": "x"}
    table = pa.Table.from_pylist([{**row, "reference": "1" if kind == "csv" else ["1", "2"]}])
    (tmp_path / "set").mkdir()
    file: Any = f"rows.{kind}" if kind != "hub" else {"hub": "set", "revision": "main", "split": "train"}
    if kind == "csv":
        csv.write_csv(table, tmp_path / "rows.csv")
    else:
        pq.write_table(table, tmp_path / ("rows.parquet" if kind == "parquet" else "set/train.parquet"))
    suite = JudgedSuite(name="s", kind="judged", judge="j", files=(file,), method="rating")
    found = suites.load(suite, tmp_path, Prompts(train=("x",)))
    assert list(found.references.values()) == (["1"] if kind == "csv" else ["1", "2"])
    assert list(found.follow_ups.values()) == ["Two?"]
    assert set(found.categories.values()) == {("x", "")}


def test_a_column_that_no_row_may_have_is_refused_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,domain,prompt,note\na,instruction,One?,x\n")
    suite = JudgedSuite(name="s", kind="judged", judge="j", files=("rows.csv",), baseline="target")
    with pytest.raises(InputError, match=r"rows.csv:2: unknown key 'note'"):
        suites.load(suite, tmp_path, Prompts(train=("x",)))


def test_another_reference_is_another_identity(tmp_path: Path) -> None:
    rows, answers = judged_sets.mt_bench()
    first = load(tmp_path, rows, answers, form="mt_bench", method="rating")
    answers[0]["choices"][0]["turns"][1] = "other"
    assert load(tmp_path, rows, answers, form="mt_bench", method="rating").identity != first.identity


ANSWER = {"id": "a", "reference": "x"}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["{"], "answers.jsonl:1: not JSON"),
        ([json.dumps({"id": "a"})], "answers.jsonl:1: holds no answer; a line has uid, question_id or id; and choices"),
        ([json.dumps({"reference": "a"})], "answers.jsonl:1: holds no answer"),
        ([json.dumps({"id": 1, "choices": []})], "answers.jsonl:1: holds no answer"),
        ([json.dumps({"id": 1, "choices": [{"turns": [5]}]})], "answers.jsonl:1: holds no answer"),
        ([json.dumps({"id": 1, "messages": [{"role": "user", "content": "q"}]})], "answers.jsonl:1: holds no answer"),
        ([json.dumps(ANSWER), json.dumps({**ANSWER, "reference": "y"})], "answers.jsonl:2: a second answer to 'a'"),
        (None, "answers.jsonl: prompt file not found"),
    ],
)
def test_a_file_of_answers_that_cant_be_used_names_its_line(
    tmp_path: Path, lines: list[str] | None, problem: str
) -> None:
    if lines is not None:
        (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    judged_sets.write_lines(tmp_path / "q.jsonl", [{"id": "a", "domain": "instruction", "prompt": "One?"}])
    suite = JudgedSuite(
        name="s", kind="judged", judge="j", files=("q.jsonl",), answers="answers.jsonl", baseline="reference"
    )
    with pytest.raises(InputError) as error:
        suites.load(suite, tmp_path, Prompts(train=("x",)))
    assert problem in str(error.value)


@pytest.mark.parametrize("reference", [3, [], ["a", "b", "c"], ["a", 1]])
def test_a_reference_of_another_type_is_refused(tmp_path: Path, reference: Any) -> None:
    row = {"id": "a", "domain": "instruction", "prompt": "One?", "reference": reference}
    with pytest.raises(
        InputError, match=r"question.jsonl:1: reference must be a string, or a list of one for each turn"
    ):
        load(tmp_path, [row], method="rating")


def test_a_reference_that_is_no_unicode_is_a_reject(tmp_path: Path) -> None:
    good = {"id": "a", "domain": "instruction", "prompt": "One?", "reference": "fine"}
    rows = [good, {**good, "id": "b", "prompt": "Two?"}]
    answers = [{"id": "a", "reference": "fine"}, {"id": "b", "reference": "half \ud800"}]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    judged_sets.write_lines(tmp_path / "q.jsonl", rows)
    suite = JudgedSuite(
        name="s", kind="judged", judge="j", files=("q.jsonl",), answers="answers.jsonl", baseline="reference"
    )
    found = suites.load(suite, tmp_path, Prompts(train=("x",)))
    assert [p["id"] for p in found.prompts] == ["a"]
    assert found.rejects == [("q.jsonl:2", "not_unicode", "reference holds a lone surrogate")]
