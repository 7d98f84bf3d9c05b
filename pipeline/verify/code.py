"""Code verification: static analysis, then the tests with judge and candidate in processes of their own.

The judge holds the tests and never sees the candidate's objects: calls go out over a pipe and come back as the text of
plain values. So patched equality, exits, printed success and a look at the tests reach nothing.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import os
import signal
import time
from typing import Any

from fusechat.pipeline.verify import candidate, judge
from fusechat.pipeline.verify.blocks import defines, extract_code, extract_prelude
from fusechat.pipeline.verify.frames import read_all
from fusechat.pipeline.verify.sandbox import ResourceLimits

GRACE_S = 0.3
"""The judge says first which test was late; it is killed this much after the deadline."""
MAX_FINDINGS = 20
# Imported before the fork: what short programs use, and the tests of HumanEval+ and MBPP+ (numpy). Whether a candidate
# can import anything else hangs on whether its user may read Python's installation.
PRELOADED = (
    "abc", "argparse", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
    "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools",
    "graphlib", "hashlib", "heapq", "hmac", "html", "inspect", "io", "itertools", "json", "keyword", "locale",
    "logging", "math", "numbers", "numpy", "numpy.random", "numpy.testing", "operator", "os", "pprint", "queue",
    "random", "re", "secrets", "statistics", "string", "struct", "sys", "textwrap", "threading", "time", "timeit",
    "traceback", "types", "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
)  # fmt: skip


def preload() -> None:
    """Imports what checks need, so that neither they nor the candidates open a file for it; for what forks."""
    import pyflakes.checker  # noqa: F401

    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # no thread lives on in a fork
    for name in PRELOADED:
        __import__(name)
    gc.disable()  # a fork turns it on again; here each check collects
    gc.collect()
    gc.freeze()


def check(
    response: str,
    entry_point: str | None,
    prompt: str,
    tests: int,
    ask_for_tests: Any,
    limits: ResourceLimits,
) -> dict[str, Any]:
    """A verdict on one response.

    Args:
        entry_point: the function that the tests call; none for programs.
        prompt: where it holds Python that defines the entry point (HumanEval), its imports and helpers come before the
            response, and a bare body completes it.
        tests: descriptor from which the judge reads the tests as one frame: assert lines, a `check(candidate)`
            function, or a JSON list of {"input", "output"} for programs that read stdin and print. This process never
            reads them, so no candidate that is forked from it can find them in its memory.
        ask_for_tests: called when they are wanted.
    """
    code = extract_code(response, entry_point, prompt)
    if code is None:
        return _verdict("no_code", "the response holds no Python code")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _verdict("error", f"does not parse: {error}", code)
    found = lint(tree)
    if entry_point is not None and not defines(tree, entry_point):
        return _verdict("error", f"does not define {entry_point}", code, found)
    prelude = extract_prelude(prompt, entry_point)
    return _run(code, entry_point, prelude, found, tests, ask_for_tests, limits)


def lint(tree: ast.Module) -> list[str]:
    """What static analysis has to say (`line: message`): undefined names, unused ones; it decides nothing."""
    from pyflakes.checker import Checker

    try:
        messages = Checker(tree, filename="response").messages
    except (RecursionError, MemoryError, ValueError) as error:
        return [f"not analysed: {type(error).__name__}"]
    told = [f"{m.lineno}: {m.message % m.message_args}" for m in sorted(messages, key=lambda m: (m.lineno, m.col))]
    return [line[:200] for line in told[:MAX_FINDINGS]]


def _verdict(
    reason: str, detail: str, code: str = "", found: list[str] | None = None, memory: int = 0
) -> dict[str, Any]:
    # Tests that don't run say nothing about the response.
    correct = None if reason == "no_tests" else reason == "passed"
    reason = "error" if reason == "no_tests" else reason
    return {
        "correct": correct,
        "reason": reason,
        "detail": detail,
        "extracted": code,
        "findings": found or [],
        "memory": memory,
    }


def _run(
    code: str,
    entry_point: str | None,
    prelude: str,
    found: list[str],
    tests: int,
    ask_for_tests: Any,
    limits: ResourceLimits,
) -> dict[str, Any]:
    """Forks candidate and judge, waits for the judge's verdict, kills both."""
    address_space = limits.address_space()
    # pyflakes leaves cycles. What else is new is then out of collectors' sight: a fork's would write to it, and what a
    # fork writes to is copied.
    gc.collect()
    gc.freeze()
    ask_read, ask_write = os.pipe()
    reply_read, reply_write = os.pipe()
    verdict_read, verdict_write = os.pipe()
    candidate_pid = os.fork()
    if candidate_pid == 0:
        whole = f"{prelude}\n{code}" if prelude else code
        candidate.serve(whole, entry_point, ask_read, reply_write, limits, address_space)
    deadline = time.monotonic() + limits.timeout_s
    judge_pid = os.fork()
    if judge_pid == 0:
        ends = ask_write, reply_read, verdict_write
        judge.serve(tests, entry_point, prelude, *ends, deadline, limits, address_space)
    for fd in (ask_read, ask_write, reply_read, reply_write, verdict_write):
        os.close(fd)
    try:
        ask_for_tests()
        text = read_all(verdict_read, deadline + GRACE_S)
    finally:
        os.close(verdict_read)
        ended = [_end(pid) for pid in (judge_pid, candidate_pid)]
    sign, memory = ended[1]
    if text is None:
        return _verdict("timeout", f"no verdict within {limits.timeout_s:g} s", code, found, memory)
    if not text:
        return _verdict("error", "the judge gave no verdict", code, found, memory)
    told = json.loads(text)
    reason, detail = told["reason"], told["detail"]
    if detail.endswith("process ended") and sign:
        reason = "forbidden" if sign == signal.SIGSYS else reason
        detail += f" by {signal.Signals(sign).name}"
    return _verdict(reason, detail, code, found, memory)


def _end(pid: int) -> tuple[int, int]:
    """Kills and reaps; returns the signal that ended it and its peak memory in bytes."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), usage.ru_maxrss * 1024
