"""Files in every form that is read, and what is said of the others."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_tables import OWN, jsonl, refused, take

ROWS = [{"q": "Name a colour."}, {"q": "Où est l'été ?\n说说吧"}]
TEXTS = sorted(row["q"] for row in ROWS)
ENTRY = {"columns": {"prompt": "q"}, **OWN}
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'q\nName a colour.\n"Où est l\'été ?\n说说吧"\n'


def packed(pack: str, data: bytes) -> bytes:
    return pa.compress(data, pack, asbytes=True) if pack == "zstd" else {"gzip": gzip, "bz2": bz2}[pack].compress(data)


READABLE: dict[str, tuple[str, bytes]] = {
    "lines": ("p.jsonl", LINES.encode()),
    "lines that end with CRLF": ("p.jsonl", LINES.replace("\n", "\r\n").encode()),
    "lines without the last end": ("p.jsonl", LINES.rstrip().encode()),
    "an array on one line": ("p.json", json.dumps(ROWS).encode()),
    "an array on many lines": ("p.json", b"\xef\xbb\xbf\n " + json.dumps(ROWS, indent=2).encode()),
    "an array in a .jsonl file": ("p.jsonl", json.dumps(ROWS).encode()),
    "UTF-16 lines": ("p.jsonl", LINES.encode("utf-16")),
    "big-endian UTF-16 lines": ("p.jsonl", b"\xfe\xff" + LINES.encode("utf-16-be")),
    "a UTF-16 array": ("p.json", json.dumps(ROWS).encode("utf-16")),
    "UTF-16 TSV": ("p.tsv", TABLE.encode("utf-16")),
    "CSV with a byte order mark": ("p.csv", TABLE.encode("utf-8-sig")),
    "CSV packed with gzip": ("p.csv.gz", packed("gzip", TABLE.encode())),
    "lines packed with gzip": ("p.jsonl.gz", packed("gzip", LINES.encode())),
    "lines packed with bz2": ("p.jsonl.bz2", packed("bz2", LINES.encode())),
    "lines packed with zstd": ("p.jsonl.zst", packed("zstd", LINES.encode())),
    "a packed array": ("p.json.gz", packed("gzip", json.dumps(ROWS).encode())),
    "gzip without its ending": ("p.jsonl", packed("gzip", LINES.encode())),
}


@pytest.mark.parametrize("form", READABLE)
def test_a_file_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    name, data = READABLE[form]
    (tmp_path / name).write_bytes(data)
    assert take(tmp_path, {"path": name, **ENTRY}).texts == TEXTS


def zipped(data: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("p.jsonl", data)


UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "xz": (
        "p.jsonl.xz",
        lambda path: path.write_bytes(lzma.compress(LINES.encode())),
        "p.jsonl.xz: is compressed with xz; allowed: gzip, bz2, zstd, or no compression",
    ),
    "zip": (
        "p.zip",
        lambda path: zipped(LINES.encode(), path),
        "p.zip: is compressed with zip; allowed: gzip, bz2, zstd, or no compression",
    ),
    "half of a gzip file": (
        "p.jsonl.gz",
        lambda path: path.write_bytes(packed("gzip", LINES.encode() * 9)[:40]),
        "p.jsonl.gz: can't be read: ",
    ),
    "half of a CSV gzip file": (
        "p.csv.gz",
        lambda path: path.write_bytes(packed("gzip", TABLE.encode() * 9)[:40]),
        "p.csv.gz: can't be read: ",
    ),
    "a broken gzip file": (
        "p.jsonl.gz",
        lambda path: path.write_bytes(packed("gzip", LINES.encode())[:12] + b"\xff" * 60),
        "p.jsonl.gz: can't be read: ",
    ),
    "a broken bz2 file": (
        "p.jsonl.bz2",
        lambda path: path.write_bytes(packed("bz2", LINES.encode())[:12] + b"\xff" * 60),
        "p.jsonl.bz2: can't be read: ",
    ),
    "a broken zstd file": (
        "p.jsonl.zst",
        lambda path: path.write_bytes(packed("zstd", LINES.encode())[:6] + b"\xff" * 60),
        "p.jsonl.zst: can't be read: ",
    ),
    "half a unit of UTF-16": (
        "p.jsonl",
        lambda path: path.write_bytes(LINES.encode("utf-16")[:-1]),
        "p.jsonl: not UTF-16, though it has its byte order mark: ",
    ),
    "half a unit of UTF-16 TSV": (
        "p.tsv",
        lambda path: path.write_bytes(TABLE.encode("utf-16")[:-1]),
        "p.tsv: not UTF-16, though it has its byte order mark: ",
    ),
    "an array of texts": (
        "p.json",
        lambda path: path.write_text('["a"]'),
        "p.json:1: a row is a JSON object",
    ),
    "an object of columns": (
        "p.json",
        lambda path: path.write_text(json.dumps({"q": ["a", "b"]}, indent=1)),
        "p.json:1: not JSON",
    ),
    "half an array": ("p.json", lambda path: path.write_text('[\n{"q": "a"},\n{"q": '), "p.json:1: not JSON: "),
    "an empty array": ("p.json", lambda path: path.write_text("[]"), "p.json: no usable prompt: it has no rows"),
    "a broken pattern": ("p**q*.jsonl", lambda path: None, "p**q*.jsonl: not a pattern: "),
    "a pattern of nothing": ("p-*.jsonl", lambda path: None, "p-*.jsonl: no file matches this pattern"),
}


@pytest.mark.parametrize("form", UNREADABLE)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, form: str) -> None:
    name, write, says = UNREADABLE[form]
    write(tmp_path / name)
    assert refused(tmp_path, {"path": name, **ENTRY}).startswith(says)


# --- folders and patterns


def shards(folder: Path) -> None:
    for i, text in enumerate(("One?", "Two?", "Three?")):
        pq.write_table(pa.table({"q": [text]}), folder / f"{i}.parquet")


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "s" / "deep").mkdir(parents=True)
    shards(tmp_path / "s")
    jsonl(tmp_path, [{"q": "Four?"}], "s/deep/0.jsonl")
    jsonl(tmp_path, [{"q": "One?"}], "s/deep/1.jsonl")
    (tmp_path / "s" / "README.md").write_text("no rows")
    (tmp_path / "s" / "_SUCCESS.json").write_text("no rows")
    taken = take(tmp_path, {"path": "s", **ENTRY})
    assert sorted((p["file"], p["line"], p["messages"][0]["content"]) for p in taken.prompts) == [
        ("s/0.parquet", 1, "One?"),
        ("s/1.parquet", 1, "Two?"),
        ("s/2.parquet", 1, "Three?"),
        ("s/deep/0.jsonl", 1, "Four?"),
    ]
    assert [reject["id"] for reject in taken.rejects] == ["s/deep/1.jsonl:1"]
    assert len({prompt["id"] for prompt in taken.prompts}) == 4


def test_a_pattern_names_files_wherever_the_recipe_lies(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    for name in ("a/0.jsonl", "b/0.jsonl"):
        jsonl(folder, [{"q": f"{name}?"}], name)
    taken = take(folder, {"path": "*/0.jsonl", **ENTRY})
    assert taken.texts == ["a/0.jsonl?", "b/0.jsonl?"]
    assert len({prompt["id"] for prompt in taken.prompts}) == 2
    assert {prompt["file"] for prompt in taken.prompts} == {"a/0.jsonl", "b/0.jsonl"}


def test_one_broken_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    shards(tmp_path / "s")
    pq.write_table(pa.table({"query": ["Two?"]}), tmp_path / "s" / "1.parquet")
    assert refused(tmp_path, {"path": "s", **ENTRY}) == ("s/1.parquet: no column 'q' (columns.prompt); there are query")


def test_two_files_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("a/p.jsonl", "b/p.jsonl"):
        jsonl(tmp_path, [{"q": f"{name}?"}], name)
    taken = take(tmp_path, {"path": "a/p.jsonl", **ENTRY}, {"path": "b/p.jsonl", **ENTRY})
    assert sorted(prompt["id"] for prompt in taken.prompts) == ["a/p-1", "b/p-1"]


def test_a_file_that_is_read_twice_gives_its_prompts_once(tmp_path: Path) -> None:
    entry = {"path": jsonl(tmp_path, ROWS), **ENTRY}
    taken = take(tmp_path, entry, entry)
    assert taken.texts == TEXTS
    assert [(reject["id"], reject["reason"]) for reject in taken.rejects] == [
        ("p.jsonl#2:1", "duplicate"),
        ("p.jsonl#2:2", "duplicate"),
    ]


def test_a_file_of_which_two_entries_read_other_columns_gives_ids_of_their_own(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"q": "One?", "r": "Two?"}])
    taken = take(tmp_path, {"path": name, **ENTRY}, {"path": name, "columns": {"prompt": "r"}, **OWN})
    assert sorted(prompt["id"] for prompt in taken.prompts) == ["p#2-1", "p-1"]


# --- Arrow's types

TYPES: dict[str, pa.Array] = {
    "string": pa.array(["A?", "B?"]),
    "large_string": pa.array(["A?", "B?"], pa.large_string()),
    "string_view": pa.array(["A?", "B?"], pa.string_view()),
    "dictionary": pa.array(["A?", "B?"]).dictionary_encode(),
}
LISTS: dict[str, pa.DataType] = {
    "list": pa.list_(pa.string()),
    "large_list": pa.large_list(pa.large_string()),
    "fixed_size_list": pa.list_(pa.string(), 2),
}


@pytest.mark.parametrize("kind", TYPES)
def test_text_is_read_from_every_column_type(tmp_path: Path, kind: str) -> None:
    pq.write_table(pa.table({"q": TYPES[kind]}), tmp_path / "p.parquet")
    assert take(tmp_path, {"path": "p.parquet", **ENTRY}).texts == ["A?", "B?"]


@pytest.mark.parametrize("kind", LISTS)
def test_tests_are_read_from_every_type_of_list(tmp_path: Path, kind: str) -> None:
    tests = pa.array([["assert f(1)", "assert f(2)"]], LISTS[kind])
    pq.write_table(pa.table({"q": ["Write f."], "t": tests}), tmp_path / "p.parquet")
    entry = {"path": "p.parquet", "columns": {"prompt": "q", "tests": "t"}, "domain": "code", "id": "generated"}
    assert take(tmp_path, entry).prompts[0]["tests"] == "assert f(1)\nassert f(2)"


NUMBERS: dict[str, tuple[pa.Array, list[str]]] = {
    "whole numbers": (pa.array([1, 22]), ["1", "22"]),
    "floats": (pa.array([1.5, 22.0]), ["1.5", "22.0"]),
    "decimals": (pa.array([1, 22], pa.decimal128(6, 2)), ["1.00", "22.00"]),
    "a float and no number": (pa.array([1.5, float("nan")]), ["1.5"]),
    "a number and null": (pa.array([7, None]), ["7"]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_as_gold_become_text_and_what_is_no_number_is_missing(tmp_path: Path, kind: str) -> None:
    gold, expected = NUMBERS[kind]
    pq.write_table(pa.table({"q": ["A?", "B?"], "a": gold}), tmp_path / "p.parquet")
    entry = {"path": "p.parquet", "columns": {"prompt": "q", "gold": "a"}, "domain": "math", "id": "generated"}
    taken = take(tmp_path, entry, invalid="reject")
    assert sorted(prompt["gold"] for prompt in taken.prompts) == expected
    assert taken.reasons == ["no_gold"] * (2 - len(expected))


@pytest.mark.parametrize("value", [1.0, True, ["a"], {}])
def test_an_id_of_another_type_is_named(tmp_path: Path, value: object) -> None:
    name = jsonl(tmp_path, [{"q": "A?", "n": value}])
    entry = {"path": name, "columns": {"prompt": "q", "id": "n"}, "domain": "instruction"}
    assert refused(tmp_path, entry) == f"p.jsonl:1: id must be a string, got {type(value).__name__}"


def test_a_row_with_a_null_id_is_named(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"q": "A?", "n": None}])
    entry = {"path": name, "columns": {"prompt": "q", "id": "n"}, "domain": "instruction"}
    assert refused(tmp_path, entry) == "p.jsonl:1: id is missing"
