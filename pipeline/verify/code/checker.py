"""Code verification: static analysis, then the tests, with judge and candidate in separate processes.

The judge holds the tests. Calls are sent over a pipe; values come back as text, and what is no value stays in the
candidate's process. So the candidate can't cheat by patching equality, exiting, printing success or reading the tests.
"""

from __future__ import annotations

import ast
import base64
import gc
import json
import marshal
import os
import signal
from typing import TYPE_CHECKING

from .. import sandbox
from ..forms import starter
from ..forms.pairs import may_be_pairs
from ..frames import read_all, write
from ..sandbox import ResourceLimits
from ..time_limits import WALL_FACTOR, ProcessTime
from .blocks import extract_code, extract_helpers, joined, num_parameters
from .judge import CodeJudge, TestOutcome

if TYPE_CHECKING:
    from ..messages import CheckRequest, CheckResult, Program
    from .zygote import Ended, Zygote

GRACE_S = 0.3
"""The judge itself reports which test timed out. It is killed this long after the deadline."""
CHECKS_PER_COLLECTION = 100
MAX_FINDINGS = 20


class Checker:
    """Checks responses one after the other.

    Args:
        zygote: starts the candidates.
        limits: of the processes that run tests.
    """

    def __init__(self, zygote: Zygote, limits: ResourceLimits) -> None:
        self._zygote, self._limits = zygote, limits
        self._num_checks = 0
        gc.collect()
        gc.freeze()  # what is collected between checks is only what checks leave behind

    def check(self, request: CheckRequest) -> CheckResult:
        """Verifies one response."""
        entry_point, prompt, tests = request["entry_point"], request["prompt"], request["tests"] or ""
        code = extract_code(request["response"], entry_point, prompt)
        if code is None:
            return _verdict("no_code", "the response holds no Python code")
        prelude = extract_helpers(prompt, entry_point)
        try:
            tree = ast.parse(code)
            text = joined([starter.needed(code, prelude), prelude, code])
            compiled = compile(tree if text == code else text, "<response>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return _verdict("error", f"does not parse: {error}", code)
        program: Program = {
            "code": base64.b64encode(marshal.dumps(compiled)).decode(),
            "entry_point": entry_point,
            "num_parameters": num_parameters(tree, entry_point) if entry_point and may_be_pairs(tests) else None,
            "prelude": prelude,
        }
        findings = lint(tree)
        outcome, ended = self._run(program, tests)
        reason, detail = outcome
        if detail.endswith("process ended") and ended.signal:
            reason = "forbidden" if ended.signal == signal.SIGSYS else reason
            detail += f" by {signal.Signals(ended.signal).name}"
        return _verdict(reason, detail, code, findings, ended.memory)

    def _run(self, program: Program, tests: str) -> tuple[TestOutcome, Ended]:
        """Runs the tests with a new candidate."""
        timeout_s = self._limits.timeout_s
        limit = ProcessTime(self._zygote.start(program), timeout_s, WALL_FACTOR * timeout_s)
        try:
            judge = CodeJudge(tests, program, self._zygote.replies(), self._zygote.ask, limit)
            outcome = judge.outcome() if judge.is_simple else self._run_apart(judge)
            vars(judge).clear()  # it refers to what refers to it
        finally:
            ended = self._zygote.end()
            self._collect()
        return outcome, ended

    def _run_apart(self, judge: CodeJudge) -> TestOutcome:
        """Runs tests that may change their process in a process of their own, sandboxed like the candidate's."""
        address_space = self._limits.address_space()
        verdict_read, verdict_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                sandbox.keep_only(*judge.descriptors, verdict_write)
                sandbox.confine_process(self._limits, address_space)
                write(verdict_write, json.dumps(judge.outcome()).encode())
            finally:
                os._exit(0)
        os.close(verdict_write)
        timeout_s = self._limits.timeout_s
        try:
            text = read_all(verdict_read, ProcessTime(pid, timeout_s + GRACE_S, WALL_FACTOR * timeout_s + GRACE_S))
        finally:
            os.close(verdict_read)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if text is None:
            return "timeout", f"no verdict within {timeout_s:g} s"
        if not text:
            return "error", "the judge gave no verdict"
        reason, detail = json.loads(text)
        return reason, detail

    def _collect(self) -> None:
        self._num_checks += 1
        if self._num_checks % CHECKS_PER_COLLECTION == 0:
            gc.collect()


def lint(tree: ast.Module) -> list[str]:
    """Findings of static analysis (`line: message`), such as undefined or unused names. The verdict ignores them.

    The tree is empty afterwards: its nodes refer to each other, and would be left to the garbage collector.
    """
    from pyflakes.checker import Checker

    try:
        checker = Checker(tree, filename="response")
        messages = sorted(checker.messages, key=lambda m: (m.lineno, m.col))
        vars(checker).clear()
    except (RecursionError, MemoryError, ValueError) as error:
        return [f"not analysed: {type(error).__name__}"]
    for node in ast.walk(tree):
        vars(node).clear()
    findings = [f"{m.lineno}: {m.message % m.message_args}" for m in messages]
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
