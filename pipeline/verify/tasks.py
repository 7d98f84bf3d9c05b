"""The tasks that the verifier pool takes and the verdicts that it returns."""

from __future__ import annotations

from dataclasses import dataclass

from .forms.pairs import parse_pairs

VERSION = 2
"""Raised when verdicts change, so that verdicts of two versions never mix in a stage."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check.

    Reasons for math: correct, wrong, no_answer, ambiguous, timeout. For code: passed, failed, error, timeout, memory,
    forbidden, no_code. `correct` is None, with the reason `error`, if the response can't be judged: there is no gold
    answer, or the tests do not run.
    """

    correct: bool | None
    reason: str
    detail: str = ""
    """Code: the first failing test and why it fails. Math: why there is no answer, or more than one."""
    extracted: str = ""
    """The answer or the code extracted from the response."""
    seconds: float = 0.0
    """Wall-clock time of the check, without the wait for a worker."""
    memory_bytes: int = 0
    """Peak resident memory of the candidate process, including Python itself."""
    findings: tuple[str, ...] = ()
    """Findings of static analysis about the code, `line: message`. They do not affect `correct`."""

    @property
    def summary(self) -> str:
        """The detail and the findings in one text, as a run stores them."""
        details = [self.detail] if self.detail else []
        return "; ".join([*details, *(f"line {finding}" for finding in self.findings)])[:2000]


@dataclass(frozen=True, slots=True)
class CheckTask:
    """One response to verify: `gold` for math, `tests` and `entry_point` for code."""

    id: str
    domain: str
    response: str
    gold: str | None = None
    tests: str | None = None
    """Python code, examples of doctest, or inputs and outputs as JSON (see docs/verification.md)."""
    entry_point: str | None = None
    """The function, class or method (`Solution().f`) that the tests call; None for programs."""
    prompt: str = ""
    """If it holds Python code that defines the entry point (HumanEval), the response may complete or follow it."""


def needs_entry_point(tests: str) -> bool:
    """Whether the tests do not say what they call. Inputs and outputs of programs call nothing."""
    return parse_pairs(tests) is None


def unfit_reason(task: CheckTask) -> str | None:
    """Why the task can't be checked, or None if it can."""
    if task.domain == "math":
        return None if task.gold is not None and task.gold.strip() else "there is no gold answer"
    if task.domain != "code":
        return f"nothing verifies the domain {task.domain!r}: math and code can be"
    if not task.tests:
        return "there are no tests"
    if task.entry_point is None and needs_entry_point(task.tests):
        return 'tests that are no JSON list of {"input", "output"} need an entry_point'
    return None
