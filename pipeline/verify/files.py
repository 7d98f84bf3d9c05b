"""`fusechat verify`: reads responses from a JSONL file and writes one verdict per line, in the same order."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, UserError
from .forms.pairs import parse_pairs
from .pool import VerifierPool
from .tasks import CheckTask, Verdict, needs_entry_point

BAD_ROW = "bad_row"
KEYS = ("id", "domain", "response", "gold", "tests", "entry_point", "prompt")
MAX_LINE = 64 << 20
_ENTRY_POINT = re.compile(r"[^\W\d]\w*(?:(?:\(\))?\.[^\W\d]\w*)?")


@dataclass
class Summary:
    """What became of the rows of a file."""

    counts: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""
    num_unjudged: int = 0
    """Rows without a verdict: invalid ones, and those whose tests or gold answer can't judge the response."""
    first_bad: str = ""
    """File, line and cause of the first invalid row."""
    num_duplicates: int = 0
    """Rows whose id an earlier row has."""
    first_duplicate: str = ""
    """File, line and id of the first of them."""

    def __str__(self) -> str:
        reasons = sorted(self.counts.items(), key=lambda c: (-c[1], c[0]))
        text = f"{self.counts.total()} rows: " + ", ".join(f"{n} {reason}" for reason, n in reasons)
        if self.num_duplicates:
            text += f"; {self.num_duplicates} with an id that occurs before, the first: {self.first_duplicate}"
        return text + (f"; first bad row: {self.first_bad}" if self.first_bad else "")


def verify_file(file: Path, out: IO[str], pool: VerifierPool, on_row: Callable[[], None] = lambda: None) -> Summary:
    """Writes one JSON row per line: `id`, `correct`, `reason`, `detail` and the other fields of the verdict.

    An invalid input row gives an output row too: `correct` null, reason `bad_row`, and file, line and cause as detail.
    Rows with the same id are all verified.

    Args:
        on_row: called after each row that is written.

    Raises:
        InputError: the file can't be read, or has no rows.
    """
    summary = Summary()
    seen: dict[str, int] = {}
    ids: dict[int, str] = {}
    waiting: dict[int, dict[str, Any]] = {}
    next_index = 0

    def tasks() -> Iterator[CheckTask]:
        for i, (line, text) in enumerate(_lines(file)):
            ids[i] = _id(text)
            if ids[i] and seen.setdefault(ids[i], line) != line:
                summary.num_duplicates += 1
                summary.first_duplicate = (
                    summary.first_duplicate or f"{file}:{line}: {ids[i]!r:.60}, as in line {seen[ids[i]]}"
                )
            try:
                yield task_of(_object(text), str(i))
            except ValueError as error:
                detail = f"{file}:{line}: {error}"
                summary.first_bad = summary.first_bad or detail
                waiting[i] = {"id": ids[i], "correct": None, "reason": BAD_ROW, "detail": detail}

    def flush() -> None:
        nonlocal next_index
        while next_index in waiting:
            row = waiting.pop(next_index)
            ids.pop(next_index, None)
            summary.counts[row["reason"]] += 1
            summary.num_unjudged += row["correct"] is None
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            on_row()
            next_index += 1

    for index, verdict in pool.run(tasks()):
        waiting[int(index)] = row_of(ids[int(index)], verdict)
        flush()
    flush()
    if not summary.counts:
        raise InputError(str(file), 0, "holds no rows")
    return summary


def count_lines(file: Path) -> int:
    """Number of lines of a file; 0 if it is a pipe or can't be read."""
    if not file.is_file():
        return 0
    with contextlib.suppress(OSError), file.open("rb") as data:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: data.read(1 << 20), b""))
    return 0


def row_of(row_id: str, verdict: Verdict) -> dict[str, Any]:
    """The output row of a verdict."""
    row: dict[str, Any] = {
        "id": row_id,
        "correct": verdict.correct,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "extracted": verdict.extracted,
        "seconds": round(verdict.seconds, 4),
    }
    if verdict.memory_bytes:
        row |= {"memory_bytes": verdict.memory_bytes, "findings": list(verdict.findings)}
    # Lone surrogates can't be encoded, so they are escaped.
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in row.items()}


def task_of(row: Mapping[str, Any], task_id: str) -> CheckTask:
    """The task of an input row.

    Raises:
        ValueError: a key is missing or has an invalid value; the message names the key.
    """
    domain = row.get("domain")
    if domain not in ("math", "code"):
        raise ValueError(f"domain: must be math or code (given: {domain!r:.60})")
    for key in ("id", "response"):
        if key not in row:
            raise ValueError(f"{key}: is missing")
    if not isinstance(row["id"], str | int) or isinstance(row["id"], bool):
        raise ValueError(f"id: must be a string (given: {row['id']!r:.60})")
    for key in ("response", "entry_point", "prompt"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ValueError(f"{key}: must be a string (given: {row[key]!r:.60})")
    if row["response"] is None:
        raise ValueError("response: must be a string (given: null)")
    common = {"id": task_id, "domain": domain, "response": row["response"], "prompt": row.get("prompt") or ""}
    if domain == "math":
        return CheckTask(**common, gold=_gold(row.get("gold")))
    tests, entry_point = _tests(row.get("tests")), row.get("entry_point") or None
    if entry_point is not None and not _ENTRY_POINT.fullmatch(entry_point):
        raise ValueError(
            f"entry_point: must be a function name, or a method as in Solution().f (given: {entry_point!r:.60})"
        )
    if entry_point is None and needs_entry_point(tests):
        raise ValueError('entry_point: is missing; it may be left out only if tests is a list of {"input", "output"}')
    return CheckTask(**common, tests=tests, entry_point=entry_point)


def _gold(gold: object) -> str:
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        return str(gold)
    if not isinstance(gold, str) or not gold.strip():
        raise ValueError(f"gold: must be a non-empty string or a number (given: {gold!r:.60})")
    return gold


def _tests(tests: object) -> str:
    """The tests as text: a string unchanged, a list of assert lines joined, inputs and outputs as JSON."""
    if isinstance(tests, list) and tests and all(isinstance(t, str) for t in tests):
        return "\n".join(tests)
    if isinstance(tests, list | dict) and tests and parse_pairs(json.dumps(tests)) is not None:
        return json.dumps(tests)
    if not isinstance(tests, str) or not tests.strip():
        raise ValueError(
            f'tests: must be a string, or a list of lines or of {{"input", "output"}}, or {{"inputs", "outputs"}} '
            f"(given: {tests!r:.60})"
        )
    return tests


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The line number and bytes of each line that is not blank.

    Raises:
        InputError: the file can't be read.
    """
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise InputError(str(file), number, f"the line is longer than {MAX_LINE >> 20} MiB")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InputError(str(file), 0, f"can't be read: {error.strerror}") from error


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"must be a JSON object (given: a {type(row).__name__})")
    return row


def _id(text: bytes) -> str:
    try:
        return str(_object(text).get("id", ""))
    except ValueError:
        return ""


def open_out(path: Path) -> IO[str]:
    """Opens a temporary file next to `path`, which `finish_out` renames. If the command is interrupted, `path` is
    unchanged.

    Raises:
        UserError: the file can't be written.
    """
    try:
        return Path(f"{path}.{os.getpid()}.part").open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out: {path} can't be written: {error.strerror}") from error


def finish_out(path: Path, written: IO[str], *, complete: bool) -> None:
    """Closes the temporary file, and renames it to `path` if it is complete or else removes it.

    Raises:
        UserError: the file can't be written.
    """
    try:
        written.close()
        if complete:
            os.replace(written.name, path)
    except OSError as error:
        Path(written.name).unlink(missing_ok=True)
        raise UserError(f"--out: {path} can't be written: {error.strerror}") from error
    if not complete:
        Path(written.name).unlink(missing_ok=True)
