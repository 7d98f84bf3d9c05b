"""The tasks that the verifier pool takes and the verdicts that it returns."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found.

    Reasons of math: correct, wrong, no_answer, ambiguous, timeout. Of code: passed, failed, error, timeout, memory,
    forbidden, no_code. `correct` is none where nothing can be said (`error`): no gold answer, tests that do not run.
    """

    correct: bool | None
    reason: str
    detail: str = ""
    """Of code: the first failing test and why it fails. Of math: why there is no answer or more than one."""
    extracted: str = ""
    """The answer or the code that was found in the response."""
    seconds: float = 0.0
    """Wall clock of the check, once it has a worker."""
    memory_bytes: int = 0
    """Peak resident memory of the candidate's process, Python's own included."""
    findings: tuple[str, ...] = ()
    """What static analysis says about the code, `line: message`; they decide nothing."""

    @property
    def summary(self) -> str:
        """The detail and the findings in one text, as a run keeps them."""
        return "; ".join([*([self.detail] if self.detail else []), *(f"line {f}" for f in self.findings)])[:2000]


@dataclass(frozen=True, slots=True)
class CheckTask:
    """One response to verify: `gold` for math, `tests` and `entry_point` for code."""

    id: str
    domain: str
    response: str
    gold: str | None = None
    tests: str | None = None
    """Assert lines, a `check(candidate)` function, or a JSON list of {"input", "output"} for programs."""
    entry_point: str | None = None
    """The function that the tests call; programs need none."""
    prompt: str = ""
    """Where it holds Python that defines the entry point (HumanEval), the response may complete or follow it."""


def is_stdio_pairs(tests: str | None) -> bool:
    """Whether the tests are stdin/stdout pairs, which need no entry point: a JSON list of {"input", "output"}."""
    if tests is None or not tests.lstrip().startswith("["):
        return False
    try:
        pairs = json.loads(tests)
    except (ValueError, RecursionError):
        return False
    return isinstance(pairs, list) and all(
        isinstance(p, dict) and isinstance(p.get("input"), str) and isinstance(p.get("output"), str) for p in pairs
    )


def unfit_reason(task: CheckTask) -> str | None:
    """Why the task can't be checked at all."""
    if task.domain == "math":
        return None if task.gold is not None and task.gold.strip() else "there is no gold answer"
    if task.domain != "code":
        return f"nothing verifies the domain {task.domain!r}: math and code can be"
    if not task.tests:
        return "there are no tests"
    if task.entry_point is None and not is_stdio_pairs(task.tests):
        return 'tests that are no JSON list of {"input", "output"} need an entry_point'
    return None
