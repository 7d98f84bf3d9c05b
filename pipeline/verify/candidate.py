"""The candidate process: holds only the model-written code, and answers calls until it is killed."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import types
from typing import TYPE_CHECKING, Any, NoReturn

from . import sandbox, values
from .frames import MAX_REPLY, RAISED, RETURNED, FrameReader, send

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PRINTED = MAX_REPLY // 4
PIPE_CAPACITY = 60_000
"""Bytes that always fit into a pipe without a reader."""


def serve(
    code: str, entry_point: str | None, ask: int, reply: int, limits: sandbox.ResourceLimits, address_space: int
) -> NoReturn:
    """Sandboxes the process, then runs the code and answers calls from the pipe `ask` on the pipe `reply`."""
    try:
        sandbox.keep_only(ask, reply)
        gc.enable()
        sandbox.confine_process(limits, address_space)
        calls = FrameReader(ask)
        if entry_point is None:
            _programs(code, calls, reply)
        else:
            _functions(code, entry_point, calls, reply)
    finally:
        os._exit(1)


def _functions(code: str, entry_point: str, calls: FrameReader, reply: int) -> None:
    names = _module("solution")
    problem = _run_caught(lambda: exec(compile(code, "<response>", "exec"), names))  # noqa: S102 - confined
    while True:
        args, kwargs = values.decode(calls.receive().decode())
        _answer(reply, (RAISED, problem) if problem else _call(names, entry_point, args, kwargs))


def _module(name: str) -> dict[str, Any]:
    """The namespace of a new module. It is registered in `sys.modules`, where dataclasses look it up."""
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
    # Encoding an iterator runs model-written code too.
    problem = _run_caught(lambda: encoded.append(values.encode(result[0])))
    return (RAISED, f"returned {problem}") if problem or not encoded else (RETURNED, encoded[0])


def _programs(code: str, calls: FrameReader, reply: int) -> None:
    while True:
        stdin = values.decode(calls.receive(64 << 20).decode())
        _answer(reply, _program(code, stdin))


def _program(code: str, stdin: str) -> tuple[bytes, str]:
    """Runs the code as a program with the text on `sys.stdin`, and on descriptor 0 if it fits into a pipe."""
    data = stdin.encode("utf-8", "surrogateescape")
    printed: Any = _LimitedStdout()
    read_end, write_end = os.pipe()
    if len(data) <= PIPE_CAPACITY:
        os.write(write_end, data)
    os.close(write_end)
    if read_end != 0:  # an earlier program may have closed descriptor 0
        os.dup2(read_end, 0)
        os.close(read_end)
    sys.stdin = io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape")
    sys.stdout = out = io.TextIOWrapper(printed, "utf-8", "surrogateescape", write_through=True)
    names = _module("__main__")
    problem = _run_caught(lambda: exec(compile(code, "<response>", "exec"), names))  # noqa: S102 - confined
    if problem:
        return RAISED, problem
    with contextlib.suppress(ValueError):  # the program may have closed its stdout
        out.flush()
    return RETURNED, values.encode(bytes(printed.kept).decode("utf-8", "replace"))


class _LimitedStdout(io.BufferedIOBase):
    """A stdout that raises an error after MAX_PRINTED bytes."""

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
    """Sends the result of a call: `=` and the value, or `!` and the exception."""
    send(reply, outcome[0] + outcome[1].encode("utf-8", "backslashreplace"))


def _run_caught(run: Callable[[], object]) -> str:
    """Runs model-written code; returns its exception as text, or an empty string if it succeeded."""
    try:
        run()
    except SystemExit as error:
        return "" if error.code is None or error.code == 0 else f"SystemExit: {error.code!r}"[:300]
    except BaseException as error:  # noqa: BLE001 - hostile code can raise anything
        try:
            return f"{type(error).__name__}: {error}"[:300]
        except BaseException:  # noqa: BLE001 - even `__str__` can raise
            return "an exception without a text"
    return ""
