"""Readers: the same rows out of JSONL, Parquet, CSV and a hub data set; what is said of files that can't be read."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_recipe import write_jsonl

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.prompts.intake import Intake
from fusechat.pipeline.prompts.readers import PromptReader
from fusechat.pipeline.prompts.rows import UnusableError
from fusechat.pipeline.recipe import Prompts, PromptTable
from fusechat.pipeline.storage.run_dir import RunDir

ROWS = [
    {"uid": 7, "question": "1 + 1?", "answer": 2, "extra": "x"},
    {"uid": 8, "question": "请问，1 + 2？\n谢谢", "answer": 3, "extra": "y"},
]
COLUMNS = {"id": "uid", "prompt": "question", "gold": "answer"}


def written(folder: Path, kind: str, rows: list[dict[str, Any]] = ROWS) -> dict[str, Any]:
    """The rows in a file or data set; returns its part of an entry."""
    if kind == "csv":
        with (folder / "p.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return {"path": "p.csv"}
    if kind == "jsonl":
        texts = [{k: str(v) for k, v in row.items()} for row in rows]
        write_jsonl(folder / "p.jsonl", texts)
        return {"path": "p.jsonl"}
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "p.parquet")
        return {"path": "p.parquet"}
    (folder / "set" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "set" / "data" / "test-00000.parquet")
    return {"hub": "set", "revision": "main", "split": "test"}


def read(folder: Path, **entry: Any) -> list[dict[str, Any]]:
    found = [line.row for line in PromptReader(PromptTable(**entry), folder).lines()]
    assert not [r for r in found if isinstance(r, UnusableError)]
    return [r for r in found if isinstance(r, dict)]


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "hub"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    found = read(tmp_path, **written(tmp_path, kind), columns=COLUMNS)
    assert found == [
        {"id": "7", "prompt": "1 + 1?", "gold": "2"},
        {"id": "8", "prompt": "请问，1 + 2？\n谢谢", "gold": "3"},
    ]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "hub"])
def test_every_kind_of_file_goes_through_the_intake(tmp_path: Path, kind: str) -> None:
    entry = PromptTable(**written(tmp_path, kind), columns=COLUMNS, domain="math")
    intake = Intake(Prompts(train=(entry,)), tmp_path, RunDir(str(tmp_path / "run")), 2, ())
    intake.read()
    rows = sorted(intake.train.parts.read().to_pylist(), key=lambda r: r["id"])
    assert [(r["id"], r["gold"], r["domain"]) for r in rows] == [("7", "2", "math"), ("8", "3", "math")]
    assert rows[0]["file"] == ("set/test" if kind == "hub" else f"p.{kind}")
    assert [r["line"] for r in rows] == {"csv": [2, 3]}.get(kind, [1, 2])


def test_a_configuration_of_a_hub_data_set_is_taken_where_one_is_named(tmp_path: Path) -> None:
    for name in ("main", "socratic"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "train.jsonl").write_text(json.dumps({"q": name}) + "\n")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: main/*.jsonl\n"
        "- config_name: socratic\n  data_files: socratic/*.jsonl\n---\n"
    )
    entry = {"hub": "set", "revision": "main", "columns": {"prompt": "q"}}
    assert read(tmp_path, **entry, config="socratic") == [{"prompt": "socratic"}]
    for given, says in (({"config": "none"}, "'none'"), ({"config": "main", "split": "dev"}, "dev")):
        with pytest.raises(InputError, match=says) as caught:
            read(tmp_path, **entry, **given)
        assert "\n" not in str(caught.value)
        assert "set@main: the data set can't be loaded: " in str(caught.value)


def test_conversations_come_in_either_form_and_lose_their_answer_where_the_entry_says_so(tmp_path: Path) -> None:
    ours = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]
    theirs = [{"from": "human", "value": "C?"}, {"from": "gpt", "value": "D."}]
    for name, turns in (("a.parquet", ours), ("b.parquet", theirs)):
        pq.write_table(pa.table({"conversation": [turns]}), tmp_path / name)
    entries = tuple(
        PromptTable(
            path=name,
            columns={"messages": "conversation"},
            domain="auto",
            id="generated",
            last_answer="drop",
        )
        for name in ("a.parquet", "b.parquet")
    )
    intake = Intake(Prompts(train=entries), tmp_path, RunDir(str(tmp_path / "run")), 1, ())
    intake.read()
    rows = {r["id"]: r for r in intake.train.parts.read().to_pylist()}
    assert {i: [m["content"] for m in r["messages"]] for i, r in rows.items()} == {"a-1": ["A?"], "b-1": ["C?"]}
    assert {r["domain"] for r in rows.values()} == {"instruction"}


def test_answers_that_a_data_set_carries_become_a_source_s_responses(tmp_path: Path) -> None:
    table = pa.table({"q": ["A?", "B?"], "solution": ["a", None], "tries": [["x", "y"], ["z"]]})
    pq.write_table(table, tmp_path / "p.parquet")
    entry = PromptTable(
        path="p.parquet",
        columns={"prompt": "q"},
        responses={"llama": "solution", "qwen": "tries"},
        domain="instruction",
        id="generated",
    )
    intake = Intake(Prompts(train=(entry,)), tmp_path, RunDir(str(tmp_path / "run")), 1, ("llama", "qwen"))
    intake.read()
    found = sorted((r["source"], r["text"]) for r in intake.carried.parts.read().to_pylist())
    assert found == [("llama", "a"), ("qwen", "x"), ("qwen", "y"), ("qwen", "z")]


def test_tests_may_be_a_list(tmp_path: Path) -> None:
    pq.write_table(pa.table({"p": ["f"], "t": [["assert f(1)", "assert f(2)"]]}), tmp_path / "p.parquet")
    found = read(tmp_path, path="p.parquet", columns={"prompt": "p", "tests": "t"})
    assert found == [{"prompt": "f", "tests": "assert f(1)\nassert f(2)"}]


@pytest.mark.parametrize("kind", ["csv", "parquet", "hub"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"no column 'query' \(columns\.prompt\); there are uid, question, answer"):
        read(tmp_path, **written(tmp_path, kind), columns={"prompt": "query"})


@pytest.mark.parametrize("kind", ["csv", "parquet", "hub"])
def test_an_unknown_column_is_named_where_none_is_mapped(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"unknown column 'answer'; allowed: domain, .*; columns maps others"):
        read(tmp_path, **written(tmp_path, kind))


@pytest.mark.parametrize(
    ("column", "field", "says"),
    [
        (pa.array([1.5]), "prompt", r"column 'c' \(columns\.prompt\) holds double, allowed: text"),
        (pa.array([1.5]), "id", r"column 'c' \(columns\.id\) holds double, allowed: text or whole numbers"),
        (pa.array([["a"]]), "messages", r"holds list<.*string>, allowed: a list of role and content"),
        (pa.array([True]), "tests", "holds bool, allowed: text or a list of texts"),
    ],
)
def test_a_parquet_column_of_a_wrong_type_is_named(tmp_path: Path, column: pa.Array, field: str, says: str) -> None:
    pq.write_table(pa.table({"c": column}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match=says):
        read(tmp_path, path="p.parquet", columns={field: "c"})


def broken(folder: Path, text: bytes) -> list[tuple[int, Any]]:
    (folder / "p.csv").write_bytes(b"id,prompt\n" + text)
    found = [(line.number, line.row) for line in PromptReader("p.csv", folder).lines()]
    return [(line, str(raw) if isinstance(raw, UnusableError) else raw["id"]) for line, raw in found]


def test_a_broken_row_of_a_csv_file_is_told_by_its_line_and_leaves_the_others_alone(tmp_path: Path) -> None:
    assert broken(tmp_path, b'a,"two\nlines"\nb\nc,caf\xe9\nd,"x"y\ne,fine\n') == [
        (2, "a"),
        (4, "1 cells, the header has 2"),
        (5, "not UTF-8"),
        (6, "not CSV: ',' expected after '\"'"),
        (7, "e"),
    ]
    assert broken(tmp_path, b'a,b\nc,"never closed\nd,e\n') == [(2, "a"), (3, "not CSV: unexpected end of data")]
    with pytest.raises(InputError, match=r"p\.csv:4: 1 cells, the header has 2"):
        broken(tmp_path, b'a,"two\nlines"\nb\n')
        config = Prompts(train=(PromptTable(path="p.csv", domain="instruction"),))
        Intake(config, tmp_path, RunDir(str(tmp_path / "run")), 1, ()).read()


def test_a_cell_may_be_longer_than_the_csv_module_s_default(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,prompt\na," + "x" * 150_000)
    assert len(read(tmp_path, path="p.csv")[0]["prompt"]) == 150_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.parquet", b"", "it can't be read as Parquet: "),
        ("p.parquet", b"PAR1 and no more", "it can't be read as Parquet: "),
        ("p.csv", b"", "empty; the first line of a CSV file names its columns"),
        ("p.csv", b"id,id\n", "two columns have the name 'id'"),
        ("p.jsonl", b"", "no usable prompt"),
    ],
)
def test_a_file_that_holds_nothing_readable_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        Intake(Prompts(train=(name,)), tmp_path, RunDir(str(tmp_path / "run")), 1, ()).read()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_breaks_in_the_middle_says_where(tmp_path: Path) -> None:
    rows = [{"id": str(i), "prompt": os.urandom(50).hex(), "domain": "chinese"} for i in range(4000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet", row_group_size=1000, use_dictionary=False)
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60_000] = bytes(60_000)
    (tmp_path / "p.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"p\.parquet: after row \d+, it can't be read as Parquet"):
        list(PromptReader("p.parquet", tmp_path).lines())


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="prompt file not found"):
        list(PromptReader(name, tmp_path).lines())


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "time.sleep = lambda seconds: None\n"  # the hub's client would wait 23 s in all between its tries
        "from pathlib import Path\n"
        "from fusechat.pipeline.recipe import PromptTable\n"
        "from fusechat.pipeline.errors import InputError\n"
        "from fusechat.pipeline.prompts.readers import PromptReader\n"
        "entry = PromptTable(hub='nobody/nothing', revision='main')\n"
        "try:\n    list(PromptReader(entry, Path('.')).lines())\n"
        "except InputError as error:\n    print(error)\n"
    )
    places = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env={**os.environ, **places}, cwd=tmp_path, capture_output=True, text=True).stdout
    assert told.startswith("nobody/nothing@main: the data set can't be loaded: ")
    assert len(told.splitlines()) == 1


def test_a_fingerprint_changes_with_what_is_there(tmp_path: Path) -> None:
    for kind in ("csv", "hub"):
        source = PromptReader(PromptTable(**written(tmp_path, kind)), tmp_path)
        before = source.fingerprint()
        assert source.fingerprint() == before
        written(tmp_path, "csv", ROWS[:1])
        (tmp_path / "set" / "more").mkdir(parents=True) if kind == "csv" else (tmp_path / "set" / "x").write_text("x")
        assert source.fingerprint() != before
        if kind == "csv":
            (tmp_path / "set" / "more").rmdir()
            (tmp_path / "set").rmdir()
    away = PromptReader(PromptTable(hub="a/b", revision="abc"), tmp_path)
    assert away.fingerprint() == "a/b@abc"


def test_the_fingerprint_of_a_folder_of_files_is_that_of_the_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "p" / "deep").mkdir(parents=True)
    write_jsonl(tmp_path / "p" / "deep" / "a.jsonl", [{"id": "1"}])
    reader = PromptReader("p", tmp_path)
    before = reader.fingerprint()
    for name in (".hidden.jsonl", "_metadata.parquet", "README.md", "deep/x.txt"):
        (tmp_path / "p" / name).write_text("not read")
    assert reader.fingerprint() == before
    (tmp_path / "p" / "deep" / "a.jsonl").rename(tmp_path / "p" / "deep" / "b.jsonl")
    assert reader.fingerprint() != before


def test_the_delimiter_of_a_file_at_an_address_follows_from_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0a1b2c").write_text("id\tprompt\na\tOne, two?\n")
    monkeypatch.setattr("fusechat.pipeline.prompts.download.fetched", lambda _: tmp_path / "0a1b2c")
    assert read(tmp_path, path="https://host/p.tsv") == [{"id": "a", "prompt": "One, two?"}]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "hub"])
def test_a_filter_without_columns_leaves_the_rows_whole(tmp_path: Path, kind: str) -> None:
    rows = [{"id": str(i), "domain": "instruction", "prompt": f"Why {i}?"} for i in range(3)]
    found = read(tmp_path, **written(tmp_path, kind, rows), where={"id": "1"})
    assert found == [rows[1]]
    if kind != "jsonl":
        with pytest.raises(InputError, match=r"no column 'uid' \(where\.uid\); there are id, domain, prompt"):
            read(tmp_path, **given(tmp_path, kind), where={"uid": "1"})


def given(folder: Path, kind: str) -> dict[str, Any]:
    """The part of an entry for a file that `written` wrote before."""
    return {"hub": "set", "revision": "main", "split": "test"} if kind == "hub" else {"path": f"p.{kind}"}


@pytest.mark.parametrize("is_gated", [True, False])
def test_a_data_set_is_called_gated_by_the_hub_s_answer_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gated: bool
) -> None:
    from datasets.exceptions import DatasetNotFoundError
    from httpx2 import Request, Response
    from huggingface_hub.errors import GatedRepoError

    def load(*_args: object, **_kwargs: object) -> None:
        answer = Response(403, request=Request("GET", "http://hub"))
        cause = GatedRepoError("no", response=answer) if is_gated else OSError("aggregated.json")
        raise DatasetNotFoundError("The aggregated dataset has not been found") from cause

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(InputError) as caught:
        read(tmp_path, hub="a/aggregated", revision="main")
    assert ("accept its terms on its page" in str(caught.value)) is is_gated
