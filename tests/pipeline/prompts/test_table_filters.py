"""Which rows of a table are taken: filters, samples, limits and functions, and their counts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_recipe
from prompt_tables import OWN, jsonl, refused, take
from pydantic import ValidationError

from fusechat.pipeline.prompts.readers import PromptReader
from fusechat.pipeline.recipe import JudgedSuite, Prompts, PromptTable

ROWS = [{"q": f"Why {i}?", "n": i, "kind": "even" if i % 2 == 0 else "odd"} for i in range(20)]
ENTRY: dict[str, Any] = {"columns": {"prompt": "q"}, **OWN}


def entry(folder: Path, rows: list[dict[str, Any]] = ROWS, **keys: Any) -> dict[str, Any]:
    return {"path": jsonl(folder, rows), **ENTRY, **keys}


def test_rows_that_do_not_fulfil_a_condition_are_counted_by_its_column(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, where={"kind": "even", "n": {"min": 10}}))
    assert taken.texts == [f"Why {i}?" for i in range(10, 20, 2)]
    assert taken.left_out == {"where.kind": 10, "where.n": 5}
    assert taken.rejects == []
    assert taken.tables[0].line() == "p.jsonl: 20 rows, 5 prompts, 5 left out by where.n, 10 left out by where.kind"


NOTHING: dict[str, dict[str, Any]] = {
    "where.kind": {"where": {"kind": "prime"}},
    "languages": {"languages": ["zh"]},
    "exclude_topics.code": {"exclude_topics": ["code"], "columns": {"prompt": "Write a Python script for {q}"}},
}


@pytest.mark.parametrize("invalid", ["stop", "reject"])
@pytest.mark.parametrize("key", NOTHING)
def test_a_filter_that_leaves_nothing_stops_the_run_and_is_named(tmp_path: Path, key: str, invalid: str) -> None:
    line = refused(tmp_path, entry(tmp_path, **NOTHING[key]), invalid=invalid)
    assert line == f"p.jsonl: no usable prompt in 20 rows (20 left out by {key})"


def test_one_table_of_two_that_gives_nothing_stops_the_run(tmp_path: Path) -> None:
    other = jsonl(tmp_path, [{"id": str(i), "domain": "code", "prompt": f"f{i}"} for i in range(3)], "lost.jsonl")
    assert refused(tmp_path, entry(tmp_path), other, invalid="reject") == (
        "lost.jsonl: no usable prompt in 3 rows (3 rejected: no_tests); lost.jsonl:1: a code row needs tests"
    )


def test_a_held_out_table_that_gives_nothing_stops_the_run(tmp_path: Path) -> None:
    other = jsonl(tmp_path, [{"id": "a", "prompt": "b"}], "h.jsonl")
    line = refused(tmp_path, entry(tmp_path), heldout=[other], invalid="reject")
    assert line.startswith("h.jsonl: no usable prompt in 1 rows (1 rejected: heldout_unknown_domain); h.jsonl:1: ")


def test_languages_are_those_of_the_prompts(tmp_path: Path) -> None:
    rows = [
        {"q": "请问今天的天气怎么样？"},
        {"q": "What is the weather like in this town today?"},
        {"q": "今日の天気はどうですか。"},
    ]
    assert take(tmp_path, entry(tmp_path, rows, languages=["zh"])).texts == ["请问今天的天气怎么样？"]
    assert take(tmp_path, entry(tmp_path, rows, languages=["en", "ja"])).left_out == {"languages": 1}


ENGLISH, CHINESE = "What is the weather like in this town today?", "请问今天的天气怎么样？"


def conversation(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"m": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


def test_filters_by_text_do_not_look_at_an_answer_that_is_dropped(tmp_path: Path) -> None:
    rows = [conversation(ENGLISH, CHINESE * 9), conversation(CHINESE, ENGLISH * 9)]
    keys = {"columns": {"messages": "m"}, "last_answer": "drop"}
    assert take(tmp_path, entry(tmp_path, rows, languages=["zh"], **keys)).texts == [CHINESE]
    rows = [conversation("Tell me a story.", "```python\ndef f(): pass\n```")]
    taken = take(tmp_path, entry(tmp_path, rows, exclude_topics=["code"], **keys))
    assert (taken.texts, taken.left_out) == (["Tell me a story."], {})


def test_a_row_that_cannot_be_used_is_a_reject_whatever_the_filters_by_text(tmp_path: Path) -> None:
    rows = [conversation(CHINESE), {"m": "no turns"}, {"m": [{"role": "tool", "content": CHINESE}]}]
    table = entry(tmp_path, rows, languages=["zh"], exclude_topics=["code"], columns={"messages": "m"})
    taken = take(tmp_path, table, invalid="reject")
    assert (taken.texts, taken.left_out) == ([CHINESE], {})
    assert taken.reasons == ["wrong_type", "tool_turn"]
    numbers = jsonl(tmp_path, [{"q": 7}, {"q": CHINESE}], "n.jsonl")
    assert take(tmp_path, {"path": numbers, **ENTRY, "languages": ["zh"]}, invalid="reject").reasons == ["wrong_type"]


# --- limit, sample, expected_rows


def test_a_limit_counts_the_rows_before_the_filters(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, where={"kind": "odd"}, limit=5))
    assert taken.texts == ["Why 1?", "Why 3?"]
    assert taken.tables[0].rows == 5


def test_a_sample_is_the_same_in_every_order_of_the_rows(tmp_path: Path) -> None:
    first = take(tmp_path, entry(tmp_path, sample=6))
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    second = take(tmp_path, entry(tmp_path, shuffled, sample=6))
    assert first.texts == second.texts
    assert len(first.texts) == 6
    assert first.left_out == {"sample": 14}


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path: Path) -> None:
    small, large = (set(take(tmp_path, entry(tmp_path, sample=n)).texts) for n in (4, 9))
    assert small < large


def test_a_sample_is_taken_of_what_the_filters_leave(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, where={"kind": "odd"}, sample=6))
    assert taken.left_out == {"where.kind": 10, "sample": 4}
    assert len(taken.texts) == 6


def test_every_row_of_a_prompt_in_the_sample_is_taken(tmp_path: Path) -> None:
    rows = [{"q": f"Why {i % 10}?", "a": f"{i}"} for i in range(30)]
    taken = take(tmp_path, entry(tmp_path, rows, responses={"old": "a"}, sample=4), imported=["old"])
    assert (len(taken.prompts), len(taken.responses)) == (4, 12)


def test_a_sample_larger_than_the_table_takes_all(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, sample=20))
    assert (len(taken.prompts), taken.left_out) == (20, {})


def test_rows_that_cannot_be_used_are_no_part_of_a_sample(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, [*ROWS[:3], {"q": ""}, {"q": 7}], sample=3), invalid="reject")
    assert len(taken.prompts) == 3
    assert sorted(taken.reasons) == ["empty", "wrong_type"]


def test_the_expected_number_of_prompts_stands_beside_the_count(tmp_path: Path) -> None:
    taken = take(tmp_path, entry(tmp_path, expected_rows=51098))
    assert taken.tables[0].line() == "p.jsonl: 20 rows, 20 prompts (51,098 expected)"
    assert taken.tables[0].summary()["expected"] == 51098


@pytest.mark.parametrize(
    "where",
    [
        {"prompts": {"contamination": {"sets": [{"path": "e.jsonl", "sample": 3}]}}},
        {"suite": {"files": [{"path": "e.jsonl", "sample": 3}]}},
        {"suite": {"files": ["e.jsonl"], "answers": {"path": "e.jsonl", "sample": 3}}},
    ],
)
def test_a_sample_of_what_is_read_whole_is_refused_with_the_recipe(where: dict[str, Any]) -> None:
    says = "sample is for prompts.train and prompts.heldout"
    if "prompts" in where:
        with pytest.raises(ValidationError, match=f"sets: {says}"):
            Prompts.model_validate(where["prompts"])
        return
    suite = {"name": "s", "kind": "judged", "judge": "j", "baseline": "reference", **where["suite"]}
    with pytest.raises(ValidationError, match=f"(files|answers): {says}; a suite has limit"):
        JudgedSuite.model_validate(suite)


# --- functions


def function(folder: Path, code: str, file: str = "rows.py") -> None:
    (folder / file).write_text(code)


def test_a_function_may_change_a_row_split_it_or_leave_it_out(tmp_path: Path) -> None:
    function(
        tmp_path,
        "def f(row):\n"
        "    if row['n'] > 2: return None\n"
        "    return [{'q': f'{row[\"q\"]} {k}'} for k in range(row['n'])] if row['n'] else {'q': 'None.'}\n",
    )
    taken = take(tmp_path, entry(tmp_path, function="rows.py:f"))
    assert taken.texts == ["None.", "Why 1? 0", "Why 2? 0", "Why 2? 1"]
    assert sorted(prompt["id"] for prompt in taken.prompts) == ["p-1", "p-2", "p-3", "p-3-2"]
    assert taken.left_out == {"function": 17}


def test_rows_behind_a_bad_one_of_a_function_are_read_on(tmp_path: Path) -> None:
    function(tmp_path, "def f(row): return [{'q': 'A?'}, {'x': 1}, {'q': 'B?'}, {'q': ''}, {'q': 'C?'}]")
    taken = take(tmp_path, entry(tmp_path, ROWS[:1], function="rows.py:f"), invalid="reject")
    assert taken.texts == ["A?", "B?", "C?"]
    assert taken.reasons == ["missing_column", "empty"]
    assert sorted(prompt["id"] for prompt in taken.prompts) == ["p-1", "p-1-3", "p-1-5"]


def test_a_function_s_file_may_define_data_classes(tmp_path: Path) -> None:
    code = (
        "from __future__ import annotations\nfrom dataclasses import asdict, dataclass\n\n"
        "@dataclass\nclass Row:\n    q: str\n\ndef f(row):\n    return asdict(Row(row['q'].upper()))\n"
    )
    function(tmp_path, code)
    assert "WHY 1?" in take(tmp_path, entry(tmp_path, function="rows.py:f")).texts


FAILING: dict[str, tuple[str, str]] = {
    "raises": ("def f(row): return row['absent']", "rows.py:f raised KeyError: 'absent'"),
    "exits": ("import sys\ndef f(row): sys.exit(0)", "rows.py:f raised SystemExit: 0"),
    "returns text": ("def f(row): return 'x'", "rows.py:f must return a dict, a list of dicts, or None"),
    "returns texts": ("def f(row): return [{}, 'x']", "rows.py:f must return a dict, a list of dicts, or None"),
    "takes no row": ("def f(): return {}", "rows.py:f raised TypeError: f() takes 0 positional arguments but 1 was"),
    "returns keys that are no texts": ("def f(row): return {1: 'x', 'b': 2}", "no column 'q' (columns.prompt); there"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_function_that_fails_is_named_with_the_row(tmp_path: Path, case: str) -> None:
    code, says = FAILING[case]
    function(tmp_path, code)
    assert refused(tmp_path, entry(tmp_path, function="rows.py:f")).startswith(f"p.jsonl:1: {says}")


UNUSABLE: dict[str, tuple[str, str]] = {
    "a missing file": ("absent.py:f", "absent.py: file of a prompt table's function not found"),
    "a missing name": ("rows.py:g", "rows.py: has no function 'g'"),
    "no function": ("rows.py:x", "rows.py: has no function 'x'"),
    "broken code": ("broken.py:f", "broken.py: can't be run: SyntaxError: "),
    "code that exits": ("exits.py:f", "exits.py: can't be run: SystemExit: "),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_function_that_is_not_there_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    function(tmp_path, "x = 1\ndef f(row): return row")
    function(tmp_path, "def f(:", "broken.py")
    function(tmp_path, "raise SystemExit(3)", "exits.py")
    name, says = UNUSABLE[case]
    assert refused(tmp_path, entry(tmp_path, function=name)).startswith(says)


@pytest.mark.parametrize("name", ["rows.py", "rows:f", ":f", "rows.py:", "rows.py:f.g", "rows.py:2"])
def test_a_name_of_another_form_is_refused_with_the_recipe(name: str) -> None:
    with pytest.raises(ValidationError, match=r"function must have the form FILE\.py:NAME"):
        PromptTable(path="p.jsonl", function=name)


def test_the_fingerprint_changes_with_the_function_s_file(tmp_path: Path) -> None:
    function(tmp_path, "def f(row): return row")
    table = PromptTable.model_validate(entry(tmp_path, function="rows.py:f"))
    before = PromptReader(table, tmp_path).fingerprint()
    assert PromptReader(table, tmp_path).fingerprint() == before
    function(tmp_path, "def f(row): return [row]")
    assert PromptReader(table, tmp_path).fingerprint() != before


def test_a_function_without_columns_may_return_rows_of_any_keys(tmp_path: Path) -> None:
    function(tmp_path, "def f(row):\n    return {'id': 'a', 'domain': 'instruction', 'prompt': 'A?', 1: 2, 'x': 3}")
    line = refused(tmp_path, {"path": jsonl(tmp_path, ROWS), "function": "rows.py:f"})
    assert line.startswith("p.jsonl:1: unknown key 1; allowed: ")


def test_filters_leave_the_dump_of_a_table_that_has_none_as_it_was() -> None:
    dumped = json.loads(PromptTable(path="p.jsonl").model_dump_json())
    assert not set(dumped) & {"where", "languages", "exclude_topics", "limit", "sample", "function", "extract", "turns"}


@pytest.mark.parametrize("filters", [{"languages": ["en"]}, {"exclude_topics": ["code"]}])
def test_filters_on_the_prompt_are_refused_where_a_suites_form_makes_it(filters: dict[str, Any]) -> None:
    suite = {"name": "s", "kind": "verified", "form": "gsm8k", "files": [{"path": "a.jsonl", **filters}]}
    with pytest.raises(ValidationError, match="files: languages and exclude_topics are for tables whose columns name"):
        make_recipe(evaluate={"suites": [suite]})
