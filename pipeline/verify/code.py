"""Code verification: static analysis, then the tests, with judge and candidate in separate processes.

The judge holds the tests. Calls are sent over a pipe; values come back as text, and what is no value stays in the
candidate's process. So the candidate can't cheat by patching equality, exiting, printing success or reading the tests.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import candidate, judge, starter
from .blocks import extract_code, extract_prelude, num_parameters
from .frames import read_all
from .preload import preload as preload
from .sandbox import ResourceLimits
from .time_limits import WALL_FACTOR, ProcessTime

if TYPE_CHECKING:
    from .messages import CheckResult, Program

GRACE_S = 0.3
"""The judge itself reports which test timed out. It is killed this long after the deadline."""
MAX_FINDINGS = 20
def check(
    response: str,
    entry_point: str | None,
    prompt: str,
    tests: int,
    ask_for_tests: Callable[[], None],
    limits: ResourceLimits,
) -> CheckResult:
    """Verifies one response.

    Args:
        entry_point: the function that the tests call; None for programs.
        prompt: if it holds Python code that defines the entry point (HumanEval), its imports and helpers are put before
            the response, and a response that is only a function body completes it.
        tests: descriptor from which the judge reads the tests as one frame. This process never reads the tests, so no
            candidate that is forked from it can find them in its memory.
        ask_for_tests: called when the judge is ready for the tests.
    """
    code = extract_code(response, entry_point, prompt)
    if code is None:
        return _verdict("no_code", "the response holds no Python code")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _verdict("error", f"does not parse: {error}", code)
    findings = lint(tree)
    prelude = extract_prelude(prompt, entry_point)
    parts = [starter.needed(code, prelude), prelude, code]
    program: Program = {
        "code": "\n".join(part for part in parts if part),
        "entry_point": entry_point,
        "num_parameters": num_parameters(tree, entry_point) if entry_point is not None else None,
        "prelude": prelude,
    }
    return _run(program, code, findings, tests, ask_for_tests, limits)


def lint(tree: ast.Module) -> list[str]:
    """Findings of static analysis (`line: message`), such as undefined or unused names. The verdict ignores them."""
    from pyflakes.checker import Checker

    try:
        messages = Checker(tree, filename="response").messages
    except (RecursionError, MemoryError, ValueError) as error:
        return [f"not analysed: {type(error).__name__}"]
    findings = [f"{m.lineno}: {m.message % m.message_args}" for m in sorted(messages, key=lambda m: (m.lineno, m.col))]
    return [line[:200] for line in findings[:MAX_FINDINGS]]


def _verdict(
    reason: str, detail: str, code: str = "", findings: list[str] | None = None, memory: int = 0
) -> CheckResult:
    # If the tests can't judge the response, it is neither correct nor wrong.
    correct = None if reason == "no_tests" else reason == "passed"
    reason = "error" if reason == "no_tests" else reason
    return {
        "correct": correct,
        "reason": reason,
        "detail": detail,
        "extracted": code,
        "findings": findings or [],
        "memory": memory,
    }


def _run(
    program: Program,
    code: str,
    findings: list[str],
    tests: int,
    ask_for_tests: Callable[[], None],
    limits: ResourceLimits,
) -> CheckResult:
    """Forks candidate and judge, waits for the judge's verdict, then kills both."""
    address_space = limits.address_space()
    # pyflakes leaves reference cycles. Freezing hides the other new objects from the garbage collectors of the forked
    # processes: a collector writes to the objects it visits, and every page that a fork writes to is copied.
    gc.collect()
    gc.freeze()
    ask_read, ask_write = os.pipe()
    reply_read, reply_write = os.pipe()
    verdict_read, verdict_write = os.pipe()
    candidate_pid = os.fork()
    if candidate_pid == 0:
        candidate.serve(program, ask_read, reply_write, limits, address_space)
    wall_s = WALL_FACTOR * limits.timeout_s
    judge_pid = os.fork()
    if judge_pid == 0:
        limit = ProcessTime(candidate_pid, limits.timeout_s, wall_s)
        judge.serve(tests, program, ask_write, reply_read, verdict_write, limit, limits, address_space)
    for fd in (ask_read, ask_write, reply_read, reply_write, verdict_write):
        os.close(fd)
    try:
        ask_for_tests()
        text = read_all(verdict_read, ProcessTime(judge_pid, limits.timeout_s + GRACE_S, wall_s + GRACE_S))
    finally:
        os.close(verdict_read)
        _kill(judge_pid)
        candidate_signal, memory = _kill(candidate_pid)
    if text is None:
        return _verdict("timeout", f"no verdict within {limits.timeout_s:g} s", code, findings, memory)
    if not text:
        return _verdict("error", "the judge gave no verdict", code, findings, memory)
    outcome = json.loads(text)
    reason, detail = outcome["reason"], outcome["detail"]
    if detail.endswith("process ended") and candidate_signal:
        reason = "forbidden" if candidate_signal == signal.SIGSYS else reason
        detail += f" by {signal.Signals(candidate_signal).name}"
    return _verdict(reason, detail, code, findings, memory)


def _kill(pid: int) -> tuple[int, int]:
    """Kills and reaps a process; returns the signal that ended it and its peak memory in bytes."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), usage.ru_maxrss * 1024
