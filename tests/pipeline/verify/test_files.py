"""`fusechat verify`: rows in, verdicts out, and what is wrong with a file in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.verify.files import task_of
from fusechat.pipeline.verify.sandbox import missing_layers

pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
CODE = {"domain": "code", "response": "def f(x): return x + 1", "entry_point": "f"}
ROWS: list[tuple[str | dict[str, Any], bool | None, str]] = [
    ({"id": "a", "domain": "math", "response": "The answer is 5.", "gold": "5"}, True, "correct"),
    ({"id": "b", "domain": "math", "response": "The answer is 5.", "gold": 6}, False, "wrong"),
    ({"id": "c", "domain": "math", "response": "Who knows?", "gold": "6"}, False, "no_answer"),
    ({"id": "d", **CODE, "tests": "assert f(1) == 2"}, True, "passed"),
    ({"id": "e", **CODE, "tests": ["assert f(1) == 2", "assert f(2) == 2"]}, False, "failed"),
    ({"id": "f", **CODE, "tests": "def check(candidate):\n    assert candidate(1) == 2"}, True, "passed"),
    (
        {"id": "g", "domain": "code", "response": "print(6)", "tests": [{"input": "3", "output": "6\n"}]},
        True,
        "passed",
    ),
    ("{not json", None, "bad_row"),
    ("[1]", None, "bad_row"),
    ({"id": "h", "domain": "poetry", "response": "x"}, None, "bad_row"),
    ({"id": "i", "domain": "math", "response": None, "gold": "6"}, None, "bad_row"),
    ({"id": "j", "domain": "code", "response": "x", "tests": "assert f(1)"}, None, "bad_row"),
    ({"id": "k", "domain": "math", "response": "x"}, None, "bad_row"),
]


def verify(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusechat.pipeline.cli.main", "verify", "--sandbox", "basic", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


def test_a_row_for_every_row_in_the_same_order(tmp_path: Path) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row, _, _ in ROWS]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n\n")
    done = verify("in.jsonl", "--out", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(r["correct"], r["reason"]) for r in rows] == [(correct, reason) for _, correct, reason in ROWS]
    assert [r["id"] for r in rows] == [row["id"] if isinstance(row, dict) else "" for row, _, _ in ROWS]
    assert rows[4]["detail"] == "assert f(2) == 2"
    assert rows[7]["detail"].startswith("in.jsonl:8: is not JSON")
    assert rows[11]["detail"].startswith("in.jsonl:12: entry_point: is missing")
    assert done.stderr.startswith("13 rows: 6 bad_row, 3 passed, ") and "first bad row: in.jsonl:8: " in done.stderr
    assert done.stdout == "" and sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_strict_fails_when_a_row_has_no_verdict(tmp_path: Path) -> None:
    judged = {"id": "a", "domain": "math", "response": "The answer is 5.", "gold": "5"}
    unjudged = {"id": "b", **CODE, "tests": "f(1)"}
    (tmp_path / "in.jsonl").write_text(json.dumps(judged) + "\n" + json.dumps(unjudged) + "\n")
    assert verify("in.jsonl", cwd=tmp_path).returncode == 0
    strict = verify("in.jsonl", "--strict", cwd=tmp_path)
    assert strict.returncode == 1 and len(strict.stdout.splitlines()) == 2
    assert strict.stderr.splitlines()[-1] == "fusechat: in.jsonl: 1 rows got no verdict (--strict)"
    (tmp_path / "in.jsonl").write_text(json.dumps(judged) + "\n")
    assert verify("in.jsonl", "--strict", cwd=tmp_path).returncode == 0


def test_duplicates_are_counted_and_verified(tmp_path: Path) -> None:
    rows = [{"id": i, "domain": "math", "response": "The answer is 5.", "gold": "5"} for i in ("a", "b", "a", "a")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = verify("in.jsonl", cwd=tmp_path)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["a", "b", "a", "a"]
    said = "4 rows: 4 correct; 2 with an id that occurs before, the first: in.jsonl:3: 'a', as in line 1"
    assert (done.returncode, done.stderr.strip()) == (0, said)


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (None, [], "fusechat: in.jsonl: can't be read: No such file or directory"),
        ("", [], "fusechat: in.jsonl: holds no rows"),
        (
            "x",
            ["--out", "no/such/folder/out"],
            "fusechat: --out: no/such/folder/out can't be written: No such file or directory",
        ),
        ("x", ["--sandbox", "none"], "fusechat: --sandbox: must be strict or basic (given: 'none')"),
    ],
)
def test_an_unusable_file_is_one_line(tmp_path: Path, content: str | None, args: list[str], said: str) -> None:
    if content is not None:
        (tmp_path / "in.jsonl").write_text(content)
    done = verify("in.jsonl", *args, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": None}, "id: must be a string (given: None)"),
        ({"response": 7}, "response: must be a string (given: 7)"),
        ({"tests": 7}, "tests: must be a string, or a list"),
        ({"tests": [{"input": 1}]}, "tests: must be a string, or a list"),
        ({"tests": " "}, "tests: must be a string, or a list"),
        ({"entry_point": "f; import os"}, "entry_point: must be a function name"),
        ({"domain": "math", "gold": True}, "gold: must be a non-empty string"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("(", r"\(").replace(")", r"\)")):
        task_of({"id": "a", **CODE, "tests": "assert f(1) == 2", **changed}, "0")
