"""Code verification: static analysis, then the tests with judge and candidate in processes of their own.

The judge holds the tests and never sees the candidate's objects: calls go out over a pipe and come back as the text of
plain literals. So patched equality, exits, printed success and a look at the tests reach nothing.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import resource
import select
import signal
import struct
import time
from typing import Any, NoReturn

from fusechat.pipeline.verify import sandbox
from fusechat.pipeline.verify.extract import defines, extract_code

MAX_REPLY = 1 << 20
MAX_TESTS = 64 << 20
PLAIN = (type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
# Imported before the fork: what short programs use, so that the candidate needs to open nothing for it.
PRELOADED = (
    "bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "math",
    "operator", "random", "re", "statistics", "string", "typing",
)  # fmt: skip


class CandidateError(Exception):
    """What the candidate's function raised, or why there is no reply."""


def check(
    response: str, entry_point: str | None, tests: int, ask_for_tests: Any, timeout_s: float, memory_mb: int, level: str
) -> dict[str, Any]:
    """A verdict on one response.

    Args:
        entry_point: the function that the tests call; none for programs.
        tests: descriptor from which the judge reads the tests as one frame: assert lines, a `check(candidate)`
            function, or a JSON list of {"input", "output"} for programs that read stdin and print. This process never
            reads them, so no candidate that is forked from it can find them in its memory.
        ask_for_tests: called when they are wanted.
    """
    code = extract_code(response, entry_point)
    if code is None:
        return _verdict(False, "no_code", "the response holds no Python code")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _verdict(False, "error", f"does not parse: {error}", code)
    if entry_point is not None and not defines(tree, entry_point):
        return _verdict(False, "error", f"does not define {entry_point}", code)
    return _run(code, entry_point, tests, ask_for_tests, timeout_s, memory_mb, level)


def _verdict(correct: bool, reason: str, detail: str, code: str = "", memory: int = 0) -> dict[str, Any]:
    return {"correct": correct, "reason": reason, "detail": detail, "extracted": code, "memory": memory}


def _run(
    code: str, entry_point: str | None, tests: int, ask_for_tests: Any, timeout_s: float, memory_mb: int, level: str
) -> dict[str, Any]:
    """Forks candidate and judge, waits for the judge's verdict, kills both."""
    for name in PRELOADED:
        __import__(name)
    ask_read, ask_write = os.pipe()
    reply_read, reply_write = os.pipe()
    verdict_read, verdict_write = os.pipe()
    candidate = os.fork()
    if candidate == 0:
        _candidate(code, entry_point, ask_read, reply_write, timeout_s, memory_mb, level)
    judge = os.fork()
    if judge == 0:
        _judge(tests, entry_point, ask_write, reply_read, verdict_write, timeout_s, memory_mb, level)
    for fd in (ask_read, ask_write, reply_read, reply_write, verdict_write):
        os.close(fd)
    try:
        ask_for_tests()
        text = _read_all(verdict_read, time.monotonic() + timeout_s)
    finally:
        os.close(verdict_read)
        usage = [_end(pid) for pid in (judge, candidate)]
    status, memory = usage[1]
    if text is None:
        return _verdict(False, "timeout", f"no verdict within {timeout_s:g} s", code, memory)
    if not text:
        reason = "memory" if status == signal.SIGKILL else "error"
        return _verdict(False, reason, "the judge gave no verdict", code, memory)
    verdict = json.loads(text)
    return _verdict(verdict["reason"] == "passed", verdict["reason"], verdict["detail"], code, memory)


def _end(pid: int) -> tuple[int, int]:
    """Kills and reaps; returns the signal that ended it and its peak memory in bytes."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), usage.ru_maxrss * 1024


def _read_all(fd: int, deadline: float) -> str | None:
    """Everything up to the end of the pipe; none if that doesn't come in time."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk or len(data) > MAX_REPLY:
            return data.decode("utf-8", "replace")
        data += chunk


def _keep(*fds: int) -> None:
    """Closes all descriptors but these; stdio becomes /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))


def send(fd: int, message: bytes) -> None:
    """Writes one frame."""
    data = struct.pack("!I", len(message)) + message
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, limit: int = MAX_REPLY) -> bytes:
    """One frame: its length in four bytes, then so many bytes."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = os.read(fd, min(size - len(data), 1 << 16))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    (size,) = struct.unpack("!I", exactly(4))
    if size > limit:
        raise ValueError("the reply is too long")
    return exactly(size)


def _candidate(
    code: str, entry_point: str | None, ask: int, reply: int, timeout_s: float, memory_mb: int, level: str
) -> NoReturn:
    """Holds the untrusted code alone; answers calls until it is killed."""
    try:
        _keep(ask, reply)
        sandbox.confine(level, timeout_s, memory_mb)
        _serve(code, entry_point, ask, reply)
    finally:
        os._exit(1)


def _serve(code: str, entry_point: str | None, ask: int, reply: int) -> None:
    names: dict[str, Any] = {"__name__": "solution" if entry_point else "__main__"}
    problem = ""
    if entry_point is not None:
        problem = _caught(lambda: exec(compile(code, "<response>", "exec"), names))  # noqa: S102 - confined
    while True:
        request = ast.literal_eval(receive(ask).decode())
        if entry_point is None:
            answer = _program(code, request)
        elif problem:
            answer = repr(("raised", problem))
        else:
            answer = _call(names, entry_point, *request)
        send(reply, answer.encode("utf-8", "backslashreplace"))


def _call(names: dict[str, Any], entry_point: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    result: list[Any] = []
    problem = _caught(lambda: result.append(names[entry_point](*args, **kwargs)))
    if problem:
        return repr(("raised", problem))
    try:
        return repr(("returned", plain(result[0])))
    except (TypeError, RecursionError) as error:
        return repr(("raised", f"returned {error}"))


def _program(code: str, stdin: str) -> str:
    import sys

    out = io.StringIO()
    sys.stdin, sys.stdout = io.StringIO(stdin), out
    problem = _caught(lambda: exec(compile(code, "<response>", "exec"), {"__name__": "__main__"}))  # noqa: S102
    return repr(("raised", problem) if problem else ("returned", out.getvalue()[: MAX_REPLY // 4]))


def _caught(run: Any) -> str:
    """Runs model-written code; what it raised in words, empty where it ended well."""
    try:
        run()
    except SystemExit as error:
        return "" if error.code in (None, 0) else f"SystemExit: {error.code!r}"[:300]
    except BaseException as error:  # noqa: BLE001 - hostile code raises what it likes
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def plain(value: Any, depth: int = 50) -> Any:
    """The value if it is built of plain types alone, subclasses refused: nothing of it can run code in the judge."""
    kind = type(value)
    if depth == 0 or kind not in PLAIN:
        raise TypeError(f"a {kind.__name__}, which is no plain value")
    if kind is dict:
        return {plain(k, depth - 1): plain(v, depth - 1) for k, v in value.items()}
    if kind in (list, tuple, set, frozenset):
        items = [plain(v, depth - 1) for v in value]
        return set(items) if kind is frozenset else kind(items)
    return Special(value) if kind is float and (value != value or abs(value) == float("inf")) else value


class Special(float):
    """A float that `repr` can't write as a literal: written as an overflowing or invalid expression instead."""

    def __repr__(self) -> str:
        return "'__nan__'" if self != self else ("1e999" if self > 0 else "-1e999")


def _judge(
    source: int,
    entry_point: str | None,
    ask: int,
    reply: int,
    verdict: int,
    timeout_s: float,
    memory_mb: int,
    level: str,
) -> NoReturn:
    """Holds the tests; its verdict pipe is the only way to a verdict."""
    try:
        source = os.dup(source)
        _keep(ask, reply, verdict, source)
        sandbox.confine(level, timeout_s, memory_mb)
        tests = receive(source, MAX_TESTS).decode()

        def call(request: Any) -> Any:
            try:
                send(ask, repr(request).encode("utf-8", "backslashreplace"))
                outcome, value = ast.literal_eval(receive(reply).decode("utf-8", "replace"))
            except (OSError, EOFError) as error:
                raise CandidateError("the candidate's process ended") from error
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise CandidateError(f"the reply is no plain value: {type(error).__name__}") from error
            if outcome != "returned":
                raise CandidateError(str(value)[:300])
            return float("nan") if value == "__nan__" else value

        reason, detail = _programs(tests, call) if entry_point is None else _functions(tests, entry_point, call)
        _write(verdict, json.dumps({"reason": reason, "detail": detail[:500]}).encode())
    finally:
        os._exit(0)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _functions(tests: str, entry_point: str, call: Any) -> tuple[str, str]:
    """Runs assert lines or `check(candidate)` statement by statement against the candidate's function."""

    def candidate(*args: Any, **kwargs: Any) -> Any:
        return call((args, kwargs))

    names: dict[str, Any] = {"__name__": "tests", entry_point: candidate, "candidate": candidate}
    tree = ast.parse(tests)
    if any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body):
        tree.body.append(ast.parse(f"check({entry_point})").body[0])
    num_asserts = 0
    for statement in tree.body:
        num_asserts += isinstance(statement, ast.Assert | ast.Expr)
        shown = ast.unparse(statement)[:300]
        try:
            exec(compile(ast.Module([statement], []), "<tests>", "exec"), names)  # noqa: S102 - the tests, confined too
        except AssertionError:
            return "failed", shown
        except CandidateError as error:
            kind = _kind(str(error))
            return kind, f"{shown}: {error}"
        except Exception as error:  # noqa: BLE001 - the tests compare what a model returned
            return "failed", f"{shown}: {type(error).__name__}: {error}"
    return ("passed", "") if num_asserts else ("error", "the tests assert nothing")


def _programs(tests: str, call: Any) -> tuple[str, str]:
    """Runs stdin/stdout pairs; output is compared line by line, trailing space aside."""
    pairs = json.loads(tests)
    for pair in pairs:
        try:
            printed = call(pair["input"])
        except CandidateError as error:
            return _kind(str(error)), f"input {pair['input'][:100]!r}: {error}"
        if _lines(str(printed)) != _lines(pair["output"]):
            return "failed", f"input {pair['input'][:100]!r}: printed {str(printed)[:100]!r}"
    return ("passed", "") if pairs else ("error", "there are no tests")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _kind(problem: str) -> str:
    if problem.startswith("MemoryError"):
        return "memory"
    if problem.startswith(("PermissionError", "BlockingIOError")) or "can't start new thread" in problem:
        return "forbidden"
    return "error"
