"""Runs the response as a program: stdin in, stdout out."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import types
from typing import Any

MAX_PRINTED = 1 << 18
PIPE_CAPACITY = 60_000
"""Bytes that always fit into a pipe without a reader."""
PROGRAM_NAME = "main.py"
_OS_READ, _OS_WRITE = os.read, os.write


def run_program(code: types.CodeType, stdin: str) -> str:
    """Runs the code as a program with the text on `sys.stdin`, and on descriptor 0 if it fits into a pipe.

    Returns:
        What it printed.
    """
    data = stdin.encode("utf-8", "surrogateescape")
    printed: Any = _LimitedStdout()
    read_end, write_end = os.pipe()
    if len(data) <= PIPE_CAPACITY:
        os.write(write_end, data)
    os.close(write_end)
    if read_end != 0:  # an earlier program may have closed descriptor 0
        os.dup2(read_end, 0)
        os.close(read_end)
    stdin_bytes = _Stdin(data)
    text: Any = io.TextIOWrapper(stdin_bytes, "utf-8", "surrogateescape")
    out: Any = io.TextIOWrapper(printed, "utf-8", "surrogateescape", write_through=True)
    text.mode, out.mode = "r", "w"  # fast readers ask for it
    sys.stdin, sys.stdout = text, out
    sys.argv = [PROGRAM_NAME]
    os.read = lambda fd, size: stdin_bytes.read(size) if fd == 0 else _OS_READ(fd, size)
    os.write = lambda fd, part: printed.write(part) if fd == 1 else _OS_WRITE(fd, part)
    import threading  # not before the fork: see modules.preload

    # A program that starts a thread to have a larger stack, and waits for it, can run it at once.
    threading.Thread.start = threading.Thread.run  # type: ignore[method-assign]
    threading.Thread.join = lambda *_: None  # type: ignore[method-assign]
    functions, modules = dict(vars(builtins)), dict(sys.modules)
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        exec(code, vars(module))  # noqa: S102 - confined
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        fileinput: Any = sys.modules.get("fileinput")
        if fileinput is not None:  # it keeps its place in stdin
            fileinput._state = None
        for before, now in ((functions, vars(builtins)), (modules, sys.modules)):  # the next program starts anew
            for name in now.keys() - before.keys():
                del now[name]
            now.update(before)
    with contextlib.suppress(ValueError):  # the program may have closed its stdout
        out.flush()
    return bytes(printed.kept).decode("utf-8", "replace")


class _Stdin(io.BytesIO):
    """The bytes of stdin, for which fast readers ask by their descriptor."""

    def fileno(self) -> int:
        return 0


class _LimitedStdout(io.BufferedIOBase):
    """A stdout that raises an error after MAX_PRINTED bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = bytearray()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any) -> int:
        self.kept += data
        if len(self.kept) > MAX_PRINTED:
            raise OSError(f"printed more than {MAX_PRINTED} bytes")
        return len(data)
