"""Prompt intake: what can be used, what stops the run with its line, and what is a counted reject."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_recipe import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.prompts import intake as prompts
from fusechat.pipeline.prompts import sink
from fusechat.pipeline.prompts.rows import KEYS
from fusechat.pipeline.recipe import Contamination, Prompts
from fusechat.pipeline.records import PROMPT, REJECT, Message
from fusechat.pipeline.storage.run_dir import RunDir

MATH = {"id": "m1", "domain": "math", "prompt": "1 + 1?", "gold": "2"}
CODE = {"id": "c1", "domain": "code", "prompt": "Write f.", "tests": "assert f(1) == 2", "entry_point": "f"}
CHAT = {"id": "i1", "domain": "instruction", "prompt": "Name a colour."}

UNUSABLE: dict[str, tuple[Any, str, str]] = {
    "half a line": ('{"id": "x", "domain": "mat', "malformed", "not JSON"),
    "no object": ('["x"]', "malformed", "a row is a JSON object"),
    "too deep": ("[" * 200_000, "malformed", "not JSON"),
    "a number of 5000 digits": ('{"id": ' + "9" * 5000 + "}", "malformed", "not JSON"),
    "not UTF-8": (b'{"id": "x", "domain": "instruction", "prompt": "caf\xe9"}', "malformed", "not UTF-8"),
    "unknown key": ({**CHAT, "golden": "2"}, "unknown_key", "unknown key 'golden'; allowed: domain, "),
    "wrong type": ({**MATH, "gold": ["2"]}, "wrong_type", "gold must be a string, got list"),
    "wrong type of a flag": ({**CHAT, "template_seen": "yes"}, "wrong_type", "template_seen must be true or false"),
    "unknown domain": ({**CHAT, "domain": "maths"}, "unknown_domain", "unknown domain 'maths'; allowed: instruction"),
    "no domain": ({"id": "x", "prompt": "p"}, "unknown_domain", "unknown domain None"),
    "no id": ({**CHAT, "id": ""}, "no_id", "id is missing"),
    "math without gold": ({**MATH, "gold": " "}, "no_gold", "a math row needs gold"),
    "code without tests": ({**CODE, "tests": None}, "no_tests", "a code row needs tests"),
    "neither prompt nor messages": (
        {"id": "x", "domain": "chinese"},
        "no_prompt",
        "exactly one of prompt and messages",
    ),
    "prompt and messages": ({**CHAT, "messages": []}, "no_prompt", "exactly one of prompt and messages"),
    "unknown role": (
        {"id": "x", "domain": "chinese", "messages": [{"role": "bot", "content": "p"}]},
        "unknown_role",
        "messages[0].role is 'bot'; allowed: assistant, chatgpt, gpt, human, model, system, user",
    ),
    "a list for a role": (
        {"id": "x", "domain": "chinese", "messages": [{"role": [], "content": "p"}]},
        "unknown_role",
        "messages[0].role is []; allowed: assistant, ",
    ),
}

COUNTED: dict[str, tuple[dict[str, Any], str]] = {
    "empty prompt": ({**CHAT, "prompt": " \n"}, "empty"),
    "no message": ({"id": "x", "domain": "chinese", "messages": []}, "empty"),
    "ends with the assistant": (
        {"id": "x", "domain": "chinese", "messages": [{"role": "assistant", "content": "hi"}]},
        "ends_with_answer",
    ),
    "too long": ({**CHAT, "prompt": "x" * 101}, "too_long"),
    "lone surrogate": ({**CHAT, "prompt": "\ud800"}, "not_unicode"),
    "lone surrogate in the tests": ({**CODE, "tests": "\udfff"}, "not_unicode"),
    "lone surrogate in the id": ({**CHAT, "id": "\ud800"}, "not_unicode"),
}


def write(path: Path, rows: list[Any]) -> str:
    """Rows as a JSONL file; text and bytes go in as they are."""
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path.name


@dataclass
class Found:
    train: pa.Table
    heldout: pa.Table
    carried: pa.Table
    rejects: pa.Table
    digest: str


def read(config: Prompts, base: Path, imported: tuple[str, ...] = ()) -> Found:
    """The intake's tables, through a run directory."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(folder)
        reading = prompts.Intake(config, base, run, 4, imported)
        reading.read()
        tables = [s.parts.read() for s in (reading.train, reading.heldout, reading.carried)]
        assert [len(t) for t in tables] == [reading.train.num, reading.heldout.num, reading.carried.num]
        rejects = run.read_table("prompts", "rejects.parquet")
        assert len(rejects) == reading.num_rejects
        return Found(*tables, rejects, reading.digest())


def intake(folder: Path, train: list[Any], heldout: list[Any] | None = None, **config: Any) -> Found:
    files: dict[str, Any] = {"train": (write(folder / "train.jsonl", train),)}
    if heldout is not None:
        files["heldout"] = (write(folder / "heldout.jsonl", heldout),)
    return read(Prompts(**files, **config), folder)


def reasons(found: Found) -> dict[str, str]:
    return {r["id"]: r["reason"] for r in found.rejects.to_pylist()}


def test_rows_become_records_with_the_place_they_came_from(tmp_path: Path) -> None:
    system = {"id": "s", "domain": "chinese", "messages": [{"role": "system", "content": "s"}, user("你好")]}
    heldout = {**CHAT, "template": "t", "template_seen": True}
    found = intake(tmp_path, [{**MATH, "template": "t"}, "", CODE, system], [heldout])
    assert found.train.schema == PROMPT
    assert found.rejects.schema == REJECT
    assert found.rejects.num_rows == 0
    rows = {r["id"]: r for r in found.train.to_pylist()}
    assert {i: r["line"] for i, r in rows.items()} == {"m1": 1, "c1": 3, "s": 4}
    assert rows["m1"]["messages"] == [user("1 + 1?")]
    assert rows["m1"]["prompt_id"] == prompt_id([user("1 + 1?")])
    assert rows["s"]["messages"] == system["messages"]
    assert (rows["c1"]["tests"], rows["c1"]["entry_point"]) == (CODE["tests"], "f")
    assert found.heldout.to_pylist()[0]["template_seen"] is True
    ids = found.train.column("prompt_id").to_pylist()
    assert ids == sorted(ids)


def user(content: str) -> Message:
    return Message(role="user", content=content)


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_row_stops_the_run_with_its_file_and_line(tmp_path: Path, case: str) -> None:
    row, _, says = UNUSABLE[case]
    with pytest.raises(InputError) as caught:
        intake(tmp_path, [MATH, row, CHAT])
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "train.jsonl"), 2)
    assert says in caught.value.problem


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_row_is_a_counted_reject_where_the_recipe_says_so(tmp_path: Path, case: str) -> None:
    row, reason, says = UNUSABLE[case]
    found = intake(tmp_path, [MATH, row, CHAT], invalid="reject")
    assert reasons(found) == {"train.jsonl:2": reason}
    assert says in found.rejects.to_pylist()[0]["detail"]
    assert sorted(found.train.column("id").to_pylist()) == ["i1", "m1"]


@pytest.mark.parametrize("invalid", ["stop", "reject"])
@pytest.mark.parametrize("case", COUNTED)
def test_what_needs_no_mending_is_always_a_counted_reject(tmp_path: Path, case: str, invalid: str) -> None:
    row, reason = COUNTED[case]
    found = intake(tmp_path, [row, MATH], invalid=invalid, max_chars=100)
    assert reasons(found) == {"train.jsonl:1": reason}
    assert found.train.column("id").to_pylist() == ["m1"]


def test_a_prompt_as_long_as_allowed_is_used(tmp_path: Path) -> None:
    assert intake(tmp_path, [{**CHAT, "prompt": "x" * 100}], max_chars=100).train.num_rows == 1


def test_a_duplicate_is_a_reject_that_names_the_first(tmp_path: Path) -> None:
    found = intake(tmp_path, [CHAT, MATH, {**CHAT, "id": "again"}])
    assert found.rejects.to_pylist() == [
        {
            "stage": "prompts",
            "id": "train.jsonl:3",
            "reason": "duplicate",
            "detail": "same prompt as train.jsonl:1",
            "domain": "instruction",
        }
    ]


def test_a_training_prompt_that_stands_in_the_heldout_set_is_a_reject(tmp_path: Path) -> None:
    found = intake(tmp_path, [CHAT, MATH], [{**CHAT, "id": "h"}])
    assert reasons(found) == {"train.jsonl:1": "duplicate"}
    assert found.heldout.column("id").to_pylist() == ["h"]
    assert found.train.column("id").to_pylist() == ["m1"]


def test_a_duplicate_in_a_file_of_the_same_name_on_the_same_line_is_a_reject_too(tmp_path: Path) -> None:
    write(tmp_path / "train" / "p.jsonl", [CHAT, MATH])
    write(tmp_path / "heldout" / "p.jsonl", [CHAT])
    found = read(Prompts(train=("train/p.jsonl",), heldout=("heldout/p.jsonl",)), tmp_path)
    assert found.train.column("id").to_pylist() == ["m1"]
    assert reasons(found) == {"train/p.jsonl:1": "duplicate"}


def test_rejects_of_the_heldout_set_are_told_apart(tmp_path: Path) -> None:
    found = intake(tmp_path, [MATH], [CHAT, CHAT, {**CHAT, "prompt": ""}])
    assert reasons(found) == {"heldout.jsonl:2": "heldout_duplicate", "heldout.jsonl:3": "heldout_empty"}


@pytest.mark.parametrize("kind", ["train", "heldout"])
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    files: dict[str, Any] = {"train": (write(tmp_path / "train.jsonl", [MATH]),), kind: ("absent.jsonl",)}
    with pytest.raises(InputError, match=r"absent\.jsonl: prompt file not found"):
        read(Prompts(**files), tmp_path)


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(InputError, match=r"train\.jsonl: the folder has no files that end in \.parquet, "):
        read(Prompts(train=("train.jsonl",)), tmp_path)


def test_a_set_of_rejects_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.jsonl: no usable prompt"):
        intake(tmp_path, [{**CHAT, "prompt": ""}])


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    assert intake(tmp_path, [b"\xef\xbb\xbf" + json.dumps(MATH).encode()]).train.num_rows == 1


def test_the_order_of_lines_changes_nothing_but_places(tmp_path: Path) -> None:
    one, other = (intake(tmp_path / n, rows) for n, rows in (("a", [MATH, CODE, CHAT]), ("b", [CHAT, MATH, CODE])))
    assert one.train.drop_columns("line") == other.train.drop_columns("line")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)  # it writes a run directory each time
@given(st.lists(st.dictionaries(st.sampled_from(sorted(KEYS)), values, max_size=9) | values, max_size=4))
def test_every_line_ends_as_a_prompt_or_as_a_reject(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    lines = [json.dumps(row) for row in rows]
    found = intake(tmp_path_factory.mktemp("p"), [MATH, *lines], invalid="reject")
    assert found.train.num_rows + found.rejects.num_rows == 1 + len(rows)


@pytest.mark.parametrize(("template", "seen", "telling"), [("t", False, "uses template 't' too"), ("u", True, "'u'")])
def test_held_out_templates_are_what_their_rows_say(tmp_path: Path, template: str, seen: bool, telling: str) -> None:
    train = {"id": "a", "domain": "instruction", "prompt": "A?", "template": "t"}
    heldout = {"id": "b", "domain": "instruction", "prompt": "B?", "template": template, "template_seen": seen}
    (tmp_path / "train.jsonl").write_text(json.dumps(train), "utf-8")
    (tmp_path / "heldout.jsonl").write_text(json.dumps(heldout), "utf-8")
    with pytest.raises(InputError, match=telling):
        read(Prompts(train=("train.jsonl",), heldout=("heldout.jsonl",)), tmp_path)
    heldout["template_seen"] = not seen
    (tmp_path / "heldout.jsonl").write_text(json.dumps(heldout), "utf-8")
    assert read(Prompts(train=("train.jsonl",), heldout=("heldout.jsonl",)), tmp_path).heldout.num_rows == 1


# --- responses that rows carry


CARRIES = {**CHAT, "responses": {"old": ["Red.", "Blue."], "older": []}}


def carrying(folder: Path, *rows: Any, imported: tuple[str, ...] = ("old", "older"), **config: Any) -> Found:
    write_jsonl(folder / "train.jsonl", rows)
    return read(Prompts(train=("train.jsonl",), **config), folder, imported)


def test_responses_that_a_row_carries_come_with_their_prompt(tmp_path: Path) -> None:
    found = carrying(tmp_path, CARRIES)
    rows = found.carried.sort_by("sample_index").to_pylist()
    assert [(r["source"], r["sample_index"], r["text"]) for r in rows] == [("old", 0, "Red."), ("old", 1, "Blue.")]
    assert {r["prompt_id"] for r in rows} == set(found.train.column("prompt_id").to_pylist())


@pytest.mark.parametrize(
    ("responses", "says"),
    [
        ({"new": ["x"]}, "responses of 'new'; imported sources: old, older"),
        (["x"], "responses maps the name of a source to a list of texts"),
        ({"old": "x"}, "responses maps the name of a source to a list of texts"),
        ({"old": [7]}, "responses maps the name of a source to a list of texts"),
    ],
)
def test_responses_that_cannot_be_used_stop_the_run_with_their_line(tmp_path: Path, responses: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        carrying(tmp_path, MATH, {**CHAT, "responses": responses})
    assert error.value.line == 2
    assert says in str(error.value)
    found = carrying(tmp_path, MATH, {**CHAT, "responses": responses}, invalid="reject")
    assert (len(found.train), len(found.carried), len(found.rejects)) == (1, 0, 1)


def test_the_responses_of_rows_with_one_prompt_are_merged(tmp_path: Path) -> None:
    again = {**CARRIES, "id": "again", "responses": {"old": ["Green."], "older": ["Grey."]}}
    found = carrying(tmp_path, CARRIES, MATH, again)
    rows = sorted((r["source"], r["sample_index"], r["text"]) for r in found.carried.to_pylist())
    assert rows == [("old", 0, "Red."), ("old", 1, "Blue."), ("old", 2, "Green."), ("older", 0, "Grey.")]
    assert (found.train.num_rows, found.rejects.num_rows) == (2, 0)


def test_a_row_that_contradicts_an_earlier_one_of_its_prompt_is_a_reject(tmp_path: Path) -> None:
    right = {**MATH, "responses": {"old": ["2"]}}
    found = carrying(tmp_path, right, {**right, "gold": "3", "responses": {"old": ["3"]}})
    assert found.carried.column("text").to_pylist() == ["2"]
    assert [(r["reason"], r["detail"]) for r in found.rejects.to_pylist()] == [
        ("contradiction", "same prompt as train.jsonl:1, but another gold, tests, entry point or domain")
    ]


@pytest.mark.parametrize("where", ["heldout", "contaminated"])
def test_responses_to_a_prompt_that_is_left_out_are_rejects_with_it(tmp_path: Path, where: str) -> None:
    write(tmp_path / "other.jsonl", [{**CHAT, "id": "h"}])
    files: dict[str, Any] = {"heldout": ("other.jsonl",)}
    if where == "contaminated":
        files = {"contamination": Contamination(sets=("other.jsonl",))}
    found = carrying(tmp_path, CARRIES, MATH, CARRIES, **files)
    assert found.carried.num_rows == 0
    first = "duplicate" if where == "heldout" else "contaminated"
    assert [r["reason"] for r in found.rejects.to_pylist()] == [first, "duplicate"]
    assert found.rejects.to_pylist()[1]["detail"].endswith("which is no training prompt")


def test_a_held_out_row_carries_nothing(tmp_path: Path) -> None:
    (tmp_path / "heldout.jsonl").write_text(json.dumps(CARRIES) + "\n", "utf-8")
    with pytest.raises(InputError, match="a held-out row carries no responses"):
        carrying(tmp_path, MATH, heldout=("heldout.jsonl",))


# --- many rows


def test_what_is_read_does_not_hang_on_how_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**CHAT, "id": str(i), "prompt": f"Name colour {i}."} for i in range(50)] + ["{half"] * 20
    whole = intake(tmp_path, rows, invalid="reject")
    monkeypatch.setattr(sink, "FLUSH_ROWS", 7)
    in_pieces = intake(tmp_path, rows, invalid="reject")
    assert in_pieces.digest == whole.digest
    assert in_pieces.train == whole.train
    assert in_pieces.rejects.column("id").to_pylist() == whole.rejects.column("id").to_pylist()


def test_control_characters_survive_and_a_million_characters_pass_where_they_may(tmp_path: Path) -> None:
    odd = {**CHAT, "prompt": "a\u0000b\u0007\u001b[2J"}
    long = {**CHAT, "id": "long", "prompt": "x" * 1_000_000}
    found = intake(tmp_path, [odd, long], max_chars=2_000_000)
    contents = [m[0]["content"] for m in found.train.column("messages").to_pylist()]
    assert sorted(contents, key=len) == ["a\u0000b\u0007\u001b[2J", "x" * 1_000_000]
    assert reasons(intake(tmp_path, [odd, long])) == {"train.jsonl:2": "too_long"}
