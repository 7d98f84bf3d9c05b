"""What the renderers share: rows, calls and results as source, and which mutants some cases tell apart."""

from __future__ import annotations

import ast
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .bank import Case, Entry, Outcome, Problem, call, entries, mutant_of, problems, yields


@dataclass(frozen=True)
class Row:
    """A row of a data set with a response whose verdict is known."""

    id: str
    right: bool
    response: str
    tests: str
    entry_point: str | None
    prompt: str = ""


FLOATS = """\
import numpy as np


def has_floats(value):
    # Floats are compared with a tolerance.
    if isinstance(value, np.ndarray):
        return np.issubdtype(value.dtype, np.floating)
    items = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(item, float) for item in items)

"""
"""What the tests of HumanEval+ and MBPP+ begin with."""
MAX_MUTANTS = 2
"""Mutants of a problem of the bank in one form."""
Differs = Callable[[Outcome, Case], bool]
Render = Callable[[int, Problem, list[Case], str], tuple[str, str, str | None, str] | None]
"""Renders a solution of a problem: response, tests, entry point and prompt; None if the form can't hold it."""

Respond = Callable[[int, Entry, str], tuple[str, str, str | None, str]]
"""The same for a problem that one form has alone."""


def seen(outcome: Outcome, case: Case) -> bool:
    """Whether assertions see the difference: another result, or another type of exception."""
    right = case.outcome
    if outcome.error or right.error:
        return outcome.error != right.error
    if case.in_place:
        return bool(outcome.arguments[0] != right.arguments[0])
    return not alike(outcome.result, right.result)


def rows(
    form: str, render: Render, fits: Callable[[Case], bool], differs: Differs = seen, mutated: int | None = None
) -> Iterator[Row]:
    """The rows of a form: for each problem the right solution and the mutants that the cases tell apart.

    Args:
        fits: whether the form can hold a case.
        differs: whether the form's tests see a difference between what a mutant does and what is right.
        mutated: only every second problem has mutants, from this one on; None: each has.
    """
    for number, problem in enumerate(problems()):
        cases = [case for case in problem.cases if fits(case)]
        if not cases and not problem.statements:
            continue
        mutants = problem.mutants if mutated is None or number % 2 == mutated else []
        mutants = [m for m in mutants if problem.statements or told_apart(problem, m, cases, differs)]
        shift = len(form) % max(1, len(mutants))  # so that each mutant is in some form
        mutants = [*mutants[shift:], *mutants[:shift]][:MAX_MUTANTS]
        for place, code in enumerate([problem.solution, *mutants]):
            if (rendered := render(number, problem, cases, code)) is not None:
                kind = f"mutant {place}" if place else "right"
                yield Row(f"{form} {problem.name} {kind}", not place, *rendered)


def own_rows(form: str, respond: Respond) -> Iterator[Row]:
    """The rows of problems that a form has of its own: each has a right solution, mutants, and tests in that form."""
    for number, entry in enumerate(entries(form)):
        right = entry.blocks["python"]
        for place, code in enumerate([right, *(mutant_of(entry.name, right, line) for line in entry.marked["~"])]):
            kind = f"mutant {place}" if place else "right"
            yield Row(f"{form} {entry.name} {kind}", not place, *respond(number, entry, code))


def told_apart(problem: Problem, mutant: str, cases: Iterable[Case], differs: Differs) -> bool:
    """Whether some case shows that the mutant is wrong."""
    return any(differs(call(mutant, problem, case.source), case) for case in cases)


def seen_by_allclose(outcome: Outcome, case: Case) -> bool:
    """As `seen`, by the loops of the extended sets: numpy finds anything close to an empty list."""
    return case.outcome.result not in ([], ()) and seen(outcome, case)


def alike(first: Any, second: Any) -> bool:
    """Whether two results are equal; numbers with a fraction about equal."""
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-4)
    if isinstance(first, list | tuple) and type(first) is type(second):
        return len(first) == len(second) and all(map(alike, first, second))
    return bool(first == second)


def has_result(case: Case) -> bool:
    """Whether the call returns something."""
    return not case.outcome.error and not case.in_place


def is_plain(value: Any) -> bool:
    """Whether Python's literals can write the value."""
    try:
        return bool(ast.literal_eval(show(value)) == value)
    except (ValueError, SyntaxError):
        return False


def show(value: Any) -> str:
    """The value as source."""
    if isinstance(value, defaultdict):
        return repr(dict(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return repr(tuple(value))
    return repr(value).replace("datetime.", "")


def called(problem: Problem, name: str, arguments: str) -> str:
    """A call as source; the items of a generator as a list."""
    expression = f"{name}({arguments})"
    return f"list({expression})" if yields(problem) else expression


def assertions(problem: Problem, name: str, cases: Sequence[Case], *, exact: bool = False) -> list[str]:
    """Assertions as source, one for each case.

    Args:
        name: what is called.
        exact: compare numbers with a fraction by `==`.
    """
    found = []
    for case in cases:
        wanted = case.outcome
        expression = called(problem, name, case.source)
        if wanted.error:
            found.append(
                f"try:\n    {expression}\nexcept {wanted.error}:\n    pass\nelse:\n    assert False, 'no error'"
            )
        elif case.in_place:
            first, *others = split_arguments(case.source)
            given = ", ".join(["data", *others])
            found.append(f"data = {first}\n{name}({given})\nassert data == {show(wanted.arguments[0])}")
        elif isinstance(wanted.result, float) and not exact:
            found.append(f"assert abs({expression} - {show(wanted.result)}) < 1e-6")
        else:
            found.append(f"assert {expression} == {show(wanted.result)}")
    return found


def split_arguments(source: str) -> list[str]:
    """The source of each argument."""
    parsed = ast.parse(f"f({source})").body[0]
    assert isinstance(parsed, ast.Expr) and isinstance(parsed.value, ast.Call)
    return [ast.unparse(argument) for argument in parsed.value.args]


@dataclass(frozen=True)
class Parts:
    """A solution around its main function."""

    before: str
    """Imports, constants, helpers."""
    head: str
    """The line with `def`."""
    body: str


def split_solution(problem: Problem, code: str) -> Parts:
    """The parts of a solution that is a function, which stands last."""
    before, _, rest = code.partition(f"def {problem.name}(")
    head, _, body = f"def {problem.name}({rest}".partition("\n")
    return Parts(before, head, body.rstrip() + "\n")


def parameters(problem: Problem) -> list[tuple[str, str]]:
    """Name and type of each parameter."""
    main = main_function(problem)
    return [(a.arg, ast.unparse(a.annotation) if a.annotation else "") for a in main.args.args]


def result_type(problem: Problem) -> str:
    """The annotated type of the result."""
    returns = main_function(problem).returns
    return ast.unparse(returns) if returns else ""


def main_function(problem: Problem) -> ast.FunctionDef:
    """The function that is tested."""
    tree = ast.parse(problem.solution)
    return next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == problem.name)


def indented(text: str, width: int = 4) -> str:
    """The text, indented, without a newline at its end."""
    return "\n".join(" " * width + line if line else line for line in text.rstrip().splitlines())


def fenced(code: str, language: str = "python") -> str:
    """The code in a fence."""
    return f"```{language}\n{code.rstrip()}\n```"


def numbered(parts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Parts with numbers from 1."""
    return zip(itertools.count(1), parts)
