"""Why a row can't be used."""

from __future__ import annotations


class UnusableError(Exception):
    """A row can't be used.

    Args:
        always_reject: makes the row a reject. Otherwise it stops the run, unless `prompts.invalid` is `reject`.
    """

    def __init__(self, reason: str, problem: str, *, always_reject: bool = False) -> None:
        self.reason, self.problem, self.always_reject = reason, problem, always_reject
        super().__init__(problem)
