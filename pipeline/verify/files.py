"""`fusechat verify`: a JSONL file of responses in, one of verdicts out, line by line in the same order."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from fusechat.pipeline.errors import InputError, UserError
from fusechat.pipeline.verify.pool import VerifierPool
from fusechat.pipeline.verify.tasks import CheckTask, Verdict, is_stdio_pairs

BAD_ROW = "bad_row"
KEYS = ("id", "domain", "response", "gold", "tests", "entry_point", "prompt")
MAX_LINE = 64 << 20


def verify_file(file: Path, out: IO[str], pool: VerifierPool) -> tuple[Counter[str], str]:
    """Writes a row a line: `id`, `correct`, `reason`, `detail`, and what else the verdict carries.

    A row that can't be used becomes a row too: `correct` null, reason `bad_row`, the detail says file, line and why.

    Returns:
        How often each reason came, and the first bad row's detail.

    Raises:
        InputError: the file can't be read, or holds no row.
    """
    counts: Counter[str] = Counter()
    first_bad = ""
    ids: dict[int, str] = {}
    waiting: dict[int, dict[str, Any]] = {}
    place = 0

    def tasks() -> Iterator[CheckTask]:
        nonlocal first_bad
        for i, (line, text) in enumerate(_lines(file)):
            ids[i] = str(i)
            try:
                task = task_of(_object(text), str(i))
            except ValueError as error:
                given = _id(text)
                detail = f"{file}:{line}: {error}"
                first_bad = first_bad or detail
                waiting[i] = {"id": given, "correct": None, "reason": BAD_ROW, "detail": detail}
                continue
            ids[i] = _id(text)
            yield task

    def flush() -> None:
        nonlocal place
        while place in waiting:
            row = waiting.pop(place)
            ids.pop(place, None)
            counts[row["reason"]] += 1
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            place += 1

    for index, verdict in pool.run(tasks()):
        waiting[int(index)] = row_of(ids[int(index)], verdict)
        flush()
    flush()
    if not counts:
        raise InputError(str(file), 0, "holds no rows")
    return counts, first_bad


def row_of(given_id: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a row."""
    row: dict[str, Any] = {
        "id": given_id,
        "correct": verdict.correct,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "extracted": verdict.extracted,
        "seconds": round(verdict.seconds, 4),
    }
    if verdict.memory_bytes:
        row |= {"memory_bytes": verdict.memory_bytes, "findings": list(verdict.findings)}
    # Lone surrogates can be written nowhere.
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in row.items()}


def task_of(row: Mapping[str, Any], task_id: str) -> CheckTask:
    """A row as a task.

    Raises:
        ValueError: a key is missing, unknown or of another kind; the message says which.
    """
    domain = row.get("domain")
    if domain not in ("math", "code"):
        raise ValueError(f"domain: math or code (given: {domain!r:.60})")
    for key in ("id", "response"):
        if key not in row:
            raise ValueError(f"{key}: is missing")
    if not isinstance(row["id"], str | int) or isinstance(row["id"], bool):
        raise ValueError(f"id: a text (given: {row['id']!r:.60})")
    for key in ("response", "entry_point", "prompt"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ValueError(f"{key}: a text (given: {row[key]!r:.60})")
    if row["response"] is None:
        raise ValueError("response: a text (given: null)")
    given = {"id": task_id, "domain": domain, "response": row["response"], "prompt": row.get("prompt") or ""}
    if domain == "math":
        return CheckTask(**given, gold=_gold(row.get("gold")))
    tests, entry_point = _tests(row.get("tests")), row.get("entry_point") or None
    if entry_point is not None and not entry_point.isidentifier():
        raise ValueError(f"entry_point: a function's name (given: {entry_point!r:.60})")
    if entry_point is None and not is_stdio_pairs(tests):
        raise ValueError('entry_point: is missing; only tests that are a list of {"input", "output"} need none')
    return CheckTask(**given, tests=tests, entry_point=entry_point)


def _gold(gold: object) -> str:
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        return str(gold)
    if not isinstance(gold, str) or not gold.strip():
        raise ValueError(f"gold: a text that is not empty (given: {gold!r:.60})")
    return gold


def _tests(tests: object) -> str:
    """Text as it is; a list of assert lines or of stdin/stdout pairs as text."""
    if isinstance(tests, list) and tests and all(isinstance(t, str) for t in tests):
        return "\n".join(tests)
    if isinstance(tests, list) and tests and is_stdio_pairs(json.dumps(tests)):
        return json.dumps(tests)
    if not isinstance(tests, str) or not tests.strip():
        raise ValueError(f'tests: a text, or a list of lines or of {{"input", "output"}} (given: {tests!r:.60})')
    return tests


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line that is not blank.

    Raises:
        InputError: the file can't be read.
    """
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise InputError(str(file), number, f"a line of more than {MAX_LINE >> 20} MiB")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InputError(str(file), 0, f"can't be read: {error.strerror}") from error


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is expected (given: a {type(row).__name__})")
    return row


def _id(text: bytes) -> str:
    try:
        return str(_object(text).get("id", ""))
    except ValueError:
        return ""


def open_out(path: Path) -> IO[str]:
    """A file beside `path` that `finish_out` puts in its place: a run that breaks off leaves what was there.

    Raises:
        UserError: it can't be written.
    """
    try:
        return Path(f"{path}.{os.getpid()}.part").open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out: {path} can't be written: {error.strerror}") from error


def finish_out(path: Path, written: IO[str], *, whole: bool) -> None:
    """Closes the file; in its place if it is whole, removed otherwise.

    Raises:
        UserError: it can't be written.
    """
    try:
        written.close()
        if whole:
            os.replace(written.name, path)
    except OSError as error:
        Path(written.name).unlink(missing_ok=True)
        raise UserError(f"--out: {path} can't be written: {error.strerror}") from error
    if not whole:
        Path(written.name).unlink(missing_ok=True)
