"""The candidate's process: holds model-written code and nothing else, and answers calls until it is killed."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import types
from typing import Any, NoReturn

from fusechat.pipeline.verify import sandbox, values
from fusechat.pipeline.verify.frames import MAX_REPLY, RAISED, RETURNED, FrameReader, send

MAX_PRINTED = MAX_REPLY // 4
PIPE_CAPACITY = 60_000
"""Bytes that surely fit into a pipe."""


def serve(
    code: str, entry_point: str | None, ask: int, reply: int, limits: sandbox.ResourceLimits, address_space: int
) -> NoReturn:
    """Confines the process, then runs the code and answers what `ask` brings on `reply`."""
    try:
        sandbox.keep_only(ask, reply)
        gc.enable()
        sandbox.confine_process(limits, address_space)
        asked = FrameReader(ask)
        if entry_point is None:
            _programs(code, asked, reply)
        else:
            _functions(code, entry_point, asked, reply)
    finally:
        os._exit(1)


def _functions(code: str, entry_point: str, asked: FrameReader, reply: int) -> None:
    names = _module("solution")
    problem = _run_caught(lambda: exec(compile(code, "<response>", "exec"), names))  # noqa: S102 - confined
    while True:
        args, kwargs = values.decode(asked.receive().decode())
        _answer(reply, (RAISED, problem) if problem else _call(names, entry_point, args, kwargs))


def _module(name: str) -> dict[str, Any]:
    """The names of a new module, which is found under its own name, as dataclasses look for it."""
    module = sys.modules[name] = types.ModuleType(name)
    return vars(module)


def _call(names: dict[str, Any], entry_point: str, args: Any, kwargs: Any) -> tuple[bytes, str]:
    result: list[Any] = []
    problem = _run_caught(lambda: result.append(names[entry_point](*args, **kwargs)))
    if problem:
        return RAISED, problem
    if not result:
        return RAISED, "SystemExit: it exited"
    encoded: list[str] = []
    # An iterator's own code runs here too.
    problem = _run_caught(lambda: encoded.append(values.encode(result[0])))
    return (RAISED, f"returned {problem}") if problem or not encoded else (RETURNED, encoded[0])


def _programs(code: str, asked: FrameReader, reply: int) -> None:
    while True:
        stdin = values.decode(asked.receive(64 << 20).decode())
        _answer(reply, _program(code, stdin))


def _program(code: str, stdin: str) -> tuple[bytes, str]:
    """Runs the code as a program: `sys.stdin`, its `buffer`, `input()` and, where it fits into a pipe, descriptor 0."""
    given = stdin.encode("utf-8", "surrogateescape")
    printed: Any = _LimitedStdout()
    read_end, write_end = os.pipe()
    if len(given) <= PIPE_CAPACITY:
        os.write(write_end, given)
    os.close(write_end)
    if read_end != 0:  # a program before this one may have closed it
        os.dup2(read_end, 0)
        os.close(read_end)
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), "utf-8", "surrogateescape")
    sys.stdout = out = io.TextIOWrapper(printed, "utf-8", "surrogateescape", write_through=True)
    names = _module("__main__")
    problem = _run_caught(lambda: exec(compile(code, "<response>", "exec"), names))  # noqa: S102 - confined
    if problem:
        return RAISED, problem
    with contextlib.suppress(ValueError):  # it may have closed its stdout
        out.flush()
    return RETURNED, values.encode(bytes(printed.kept).decode("utf-8", "replace"))


class _LimitedStdout(io.BufferedIOBase):
    """A stdout that holds so much and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.kept += data
        if len(self.kept) > MAX_PRINTED:
            raise OSError(f"printed more than {MAX_PRINTED} bytes")
        return len(data)


def _answer(reply: int, outcome: tuple[bytes, str]) -> None:
    """What came of a call: `=` and the value, or `!` and what was raised."""
    send(reply, outcome[0] + outcome[1].encode("utf-8", "backslashreplace"))


def _run_caught(run: Any) -> str:
    """Runs model-written code; what it raised in words, empty where it ended well."""
    try:
        run()
    except SystemExit as error:
        return "" if error.code is None or error.code == 0 else f"SystemExit: {error.code!r}"[:300]
    except BaseException as error:  # noqa: BLE001 - hostile code raises what it likes
        try:
            return f"{type(error).__name__}: {error}"[:300]
        except BaseException:  # noqa: BLE001 - and its text may raise again
            return "an exception without a text"
    return ""
