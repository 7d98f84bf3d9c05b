"""Columns as a recipe names them: names, paths and templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_tables import OWN, jsonl, refused, take

from fusechat.pipeline.prompts.columns import NoPathError, is_template, lookup, path_steps, top_level

ROW: dict[str, Any] = {
    "a": {"b": [{"c": 1}, {"c": None}, {}], "d": "x"},
    "none": None,
    "list": ["p", "q"],
    "a.d": "a name with a dot",
    "with space": 7,
    "text": "t",
}


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a", ("a",)),
        ("a.b[0].c[]", ("a", "b", 0, "c", None)),
        ("a[-1]", ("a", -1)),
        ("with space.b", ("with space", "b")),
        ("a[][0]", ("a", None, 0)),
    ],
)
def test_a_path_has_keys_indices_and_all_items(path: str, steps: tuple[object, ...]) -> None:
    assert path_steps(path) == steps


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "[0]", "a[", "a]", "a[x]", "a[]b", "a[-]", "a[1.5]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(NoPathError, match="is not a path; a path has the form"):
        path_steps(path)


@pytest.mark.parametrize(
    ("path", "aligned", "is_there"),
    [
        ("a.d", ["a name with a dot"], True),  # a column of exactly this name is taken first
        ("a.b[0].c", [1], True),
        ("a.b[].c", [1, None, None], True),
        ("a.b[7].c", [None], True),  # the column is there, only this row has fewer items
        ("a.b[-1]", [{}], True),
        ("list[1]", ["q"], True),
        ("list[]", ["p", "q"], True),
        ("list", [["p", "q"]], True),
        ("none", [None], True),
        ("none.x[0]", [None], True),
        ("none[]", [], True),
        ("absent", [None], False),
        ("text.x", [None], False),
        ("text[0]", [None], False),
        ("a.x", [None], False),
    ],
)
def test_a_path_finds_values_and_says_whether_the_column_is_there(
    path: str, aligned: list[object], is_there: bool
) -> None:
    assert lookup(ROW, path) == (aligned, is_there)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{text}", "t"),
        ("{text}\n\n{with space}!", "t\n\n7!"),
        ("{text}\n\n{none}", "t"),  # space around the result is removed
        ("{none}", None),
        ("Only {none} words", None),  # without any value there is no text
        ("{{{text}}}", "{t}"),
        ("a {{b}} {text}", "a {b} t"),
        ("{list}", "p\nq"),
        ("{list[]}", "p\nq"),
        ("{a.b[0].c}:", "1:"),
        ("{text} }", "t }"),
    ],
)
def test_a_template_is_filled_with_the_row_s_values(template: str, text: str | None) -> None:
    assert lookup(ROW, template) == ([text], True)


def test_a_template_with_a_column_that_is_not_there_has_no_text() -> None:
    assert lookup(ROW, "{text} {absent}") == ([None], False)


def test_braces_alone_make_no_template() -> None:
    assert not is_template("{{a}}")
    assert not is_template("{}")
    assert is_template("{a}")


def test_the_columns_that_a_template_needs_are_those_of_the_table() -> None:
    assert top_level("{a.b} {c[0]} {d.e}", {"d.e"}) == ["a", "c", "d.e"]


FILES = ["jsonl", "parquet", "csv", "json"]
TABLE = {"q": "Name a colour.", "a": "Red.", "n": "gpt"}


def file_of(folder: Path, kind: str) -> dict[str, Any]:
    name = f"p.{kind}"
    if kind == "csv":
        (folder / name).write_text("q,a,n\nName a colour.,Red.,gpt\n")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([TABLE]), folder / name)
    else:
        jsonl(folder, [TABLE], name)
    return {"path": name, **OWN}


MISSING: dict[str, dict[str, Any]] = {
    "columns.prompt": {"columns": {"prompt": "absent"}},
    "columns.gold": {"columns": {"prompt": "q", "gold": "absent"}},
    "columns.tests": {"columns": {"prompt": "q", "tests": "absent"}},
    "responses.old": {"columns": {"prompt": "q"}, "responses": {"old": "absent"}},
    "responses.old.response": {"columns": {"prompt": "q"}, "responses": {"old": {"response": "absent"}}},
    "responses.old.scores.r": {
        "columns": {"prompt": "q"},
        "responses": {"old": {"response": "a", "scores": {"r": "absent"}}},
    },
    "where.absent": {"columns": {"prompt": "q"}, "where": {"absent": "x"}},
    "extract.e.column": {"columns": {"prompt": "q"}, "extract": {"e": {"column": "absent", "kind": "code"}}},
    "extract.e.function": {
        "columns": {"prompt": "q"},
        "extract": {"e": {"column": "a", "kind": "examples", "function": "absent"}},
        "where": {"e": "x"},
    },
    "response_rows.source": {"columns": {"prompt": "q"}, "response_rows": {"source": "absent", "response": "a"}},
    "response_rows.response": {"columns": {"prompt": "q"}, "response_rows": {"source": "n", "response": "absent"}},
    "response_rows.scores.r": {
        "columns": {"prompt": "q"},
        "response_rows": {"source": "n", "response": "a", "scores": {"r": "absent"}},
    },
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("key", MISSING)
def test_a_column_that_is_not_there_is_named_with_its_key(tmp_path: Path, key: str, kind: str) -> None:
    entry = file_of(tmp_path, kind) | MISSING[key]
    line = refused(tmp_path, entry, imported=["old", "gpt"], invalid="reject")
    there = "a, n, q" if kind.startswith("json") else "q, a, n"
    assert "'absent'" in line
    assert f"({key})" in line
    assert there in line


@pytest.mark.parametrize("kind", FILES)
def test_a_template_with_a_column_that_is_not_there_names_its_key(tmp_path: Path, kind: str) -> None:
    entry = file_of(tmp_path, kind) | {"columns": {"prompt": "{q}\n\n{absent}"}}
    line = refused(tmp_path, entry)
    assert "absent" in line
    assert "(columns.prompt); there are " in line


@pytest.mark.parametrize("column", ["{q} {}", "q..x", "{q[}", "[0]"])
def test_a_text_that_is_no_column_is_named_with_its_key(tmp_path: Path, column: str) -> None:
    entry = {"path": jsonl(tmp_path, [TABLE]), "columns": {"prompt": column}, **OWN}
    line = refused(tmp_path, entry)
    assert line.startswith("p.jsonl: columns.prompt: ")
    assert "is not a path; a path has the form a.b[0].c[]" in line


def test_a_path_with_several_values_is_no_prompt(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"turns": ["A?", "B?"]}])
    assert refused(tmp_path, {"path": name, "columns": {"prompt": "turns[]"}, **OWN}) == (
        "p.jsonl:1: 'turns[]' (columns.prompt) gives 2 values, not one"
    )
    assert take(tmp_path, {"path": name, "columns": {"prompt": "turns[0]"}, **OWN}).texts == ["A?"]


def test_nested_columns_of_a_parquet_file_are_read_by_path(tmp_path: Path) -> None:
    rows = [{"chosen": [{"role": "user", "content": "A?"}], "meta": {"gold": 4}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    columns = {"prompt": "chosen[0].content", "gold": "meta.gold"}
    taken = take(tmp_path, {"path": "p.parquet", "columns": columns, "domain": "auto", "id": "generated"})
    assert [(p["messages"][0]["content"], p["gold"], p["domain"]) for p in taken.prompts] == [("A?", "4", "math")]


def test_alpaca_s_input_is_part_of_the_prompt(tmp_path: Path) -> None:
    rows = [{"instruction": "Translate.", "input": text} for text in ("Haus", "Baum", "")]
    entry = {"path": jsonl(tmp_path, rows), "columns": {"prompt": "{instruction}\n\n{input}"}, **OWN}
    assert take(tmp_path, entry).texts == ["Translate.", "Translate.\n\nBaum", "Translate.\n\nHaus"]
