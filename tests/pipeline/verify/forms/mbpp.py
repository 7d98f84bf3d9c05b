"""MBPP: the tests are assertions; and MBPP+, which compares many inputs with their results in a loop."""

from __future__ import annotations

from collections.abc import Iterator

from .bank import Case, Entry, Problem
from .rendering import (
    FLOATS,
    Row,
    assertions,
    called,
    fenced,
    has_result,
    indented,
    is_plain,
    own_rows,
    rows,
    seen_by_allclose,
    show,
)

PLUS = f"""\
from math import inf
{FLOATS}
def assertion(got, wanted, atol):
    if has_floats(wanted):
        atol = atol or 1e-6
    if atol and got != wanted:
        assert np.allclose(got, wanted, rtol=1e-7, atol=atol)
    else:
        assert got == wanted, f"got {{got}}, not {{wanted}}"


"""
UNORDERED = ("peaks", "find_emails", "perfect_squares_between")
"""Problems whose results are compared as sets."""
SETS = """\
def assertion(got, wanted, atol):
    assert set(got) == set(wanted), f"got {got}, not {wanted}"


"""


def mbpp_rows() -> Iterator[Row]:
    """Rows of both."""
    yield from own_rows("mbpp", _own)
    yield from rows("mbpp", _render, lambda case: not case.outcome.error, mutated=0)
    yield from rows("mbpp+", _render_plus, _fits_plus, seen_by_allclose, mutated=1)


def _own(number: int, entry: Entry, code: str) -> tuple[str, str, str, str]:
    return _response(number, code), entry.blocks["tests"], entry.name, entry.description


def _fits_plus(case: Case) -> bool:
    return has_result(case) and is_plain(case.outcome.result) and all(map(is_plain, case.arguments))


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str | None, str]:
    lines = problem.statements or assertions(problem, problem.name, cases, exact=number % 2 == 0)
    prompt = f"{problem.description} Your code should pass these tests:\n\n{lines[0]}\n"
    tests = problem.setup + "\n".join(lines)
    return _response(number, code), tests, problem.name, prompt


def _render_plus(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements:
        return None
    inputs = [list(case.arguments) for case in cases]
    results = ", ".join(show(case.outcome.result) for case in cases)
    result = called(problem, problem.name, "*inp")
    if number % 4 == 3:
        wanted = "ref_func(*inp)"
        given = f"{problem.solution}\ninputs = {inputs!r}\n".replace(f"{problem.name}(", "ref_func(")
        loop = "for i, inp in enumerate(inputs):"
        wanted = f"list({wanted})" if result.startswith("list(") else wanted
    else:
        wanted, given = "exp", f"inputs = {inputs!r}\nresults = [{results}]\n"
        loop = "for i, (inp, exp) in enumerate(zip(inputs, results)):"
    helper = SETS if problem.name in UNORDERED else PLUS
    tests = f"{helper}{given}{loop}\n{indented(f'assertion({result}, {wanted}, 0)')}\n"
    return _response(number + 1, code), tests, problem.name, problem.description


def _response(number: int, code: str) -> str:
    match number % 4:
        case 0:
            return f"Here is a solution:\n\n{fenced(code)}"
        case 1:
            return code
        case 2:
            return fenced(code, "py")
    return f"{fenced(code)}\n\nExplanation: the function goes through its input once, and `return` gives the result."
