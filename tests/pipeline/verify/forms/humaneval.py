"""HumanEval: the prompt is a function's head with its docstring, the tests are `check(candidate)`; and HumanEval+."""

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
    split_solution,
)

METADATA = "\n\nMETADATA = {\n    'author': 'bank',\n    'dataset': 'test'\n}\n\n\n"
PLUS = f"""\
{FLOATS}
def assertion(got, wanted, atol):
    same = got == wanted
    if not same and (atol or has_floats(wanted)):
        assert np.allclose(got, wanted, rtol=1e-7, atol=atol or 1e-6)
    else:
        assert same


"""


def humaneval_rows() -> Iterator[Row]:
    """Rows of both."""
    yield from own_rows("humaneval", _own)
    yield from rows("humaneval", _render, lambda case: not case.outcome.error, mutated=0)
    yield from rows("humaneval+", _render_plus, _fits_plus, seen_by_allclose, mutated=1)


def _own(number: int, entry: Entry, code: str) -> tuple[str, str, str, str]:
    response = code if code[:1].isspace() else fenced(code)
    return response, entry.blocks["tests"], entry.name, entry.blocks["prompt"]


def _fits_plus(case: Case) -> bool:
    return has_result(case) and is_plain(case.outcome.result) and all(map(is_plain, case.arguments))


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements:
        return None
    lines = assertions(problem, "candidate", cases)
    if number % 3 == 1:
        lines = [f"{line}, 'case {i}'" if line.count("\n") == 0 else line for i, line in enumerate(lines)]
    if number % 3 == 2:
        lines = [
            "# Check some simple cases",
            "assert True, 'This always holds.'",
            *lines,
            "",
            "# Check some edge cases",
        ]
    tests = f"{problem.setup}{METADATA}def check(candidate):\n{indented(chr(10).join(lines))}\n\n"
    if number % 4 == 3:
        tests += f"check({problem.name})\n"
    return _response(number, problem, code), tests, problem.name, _prompt(problem)


def _render_plus(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements:
        return None
    inputs = [list(case.arguments) for case in cases]
    results = ", ".join(show(case.outcome.result) for case in cases)
    result = called(problem, "candidate", "*inp")
    tests = (
        f"\n\n{METADATA}{PLUS}def check(candidate):\n    inputs = {inputs!r}\n    results = [{results}]\n"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
        f"        assertion({result}, exp, {1e-06 if number % 5 == 0 and _has_floats(cases) else 0})\n"
    )
    return _response(number + 1, problem, code), tests, problem.name, _prompt(problem)


def _has_floats(cases: list[Case]) -> bool:
    return all(isinstance(case.outcome.result, float) for case in cases)


def _prompt(problem: Problem) -> str:
    """Imports and helpers, the head and the docstring with examples."""
    parts = split_solution(problem, problem.solution)
    examples = [
        f">>> {problem.name}({case.source})\n{show(case.outcome.result)}"
        for case in problem.cases[:2]
        if has_result(case)
    ]
    doc = indented("\n".join([f'""" {problem.description}', *examples]).replace("\\", "\\\\"))
    return f'{parts.before}{parts.head}\n{doc}\n    """\n'


def _response(number: int, problem: Problem, code: str) -> str:
    """The whole function, or only its body."""
    right, parts = split_solution(problem, problem.solution), split_solution(problem, code)
    only_body = (parts.before, parts.head) == (right.before, right.head)
    match number % 5:
        case 0 if only_body:
            return parts.body
        case 1 if only_body:
            return fenced(parts.body)
        case 2:
            return (
                f"Here is the completed function:\n\n{fenced(_prompt(problem) + parts.body if only_body else code)}\n"
            )
        case 3 if only_body:
            return f"{fenced(parts.head + chr(10) + parts.body)}\n\nThis runs in linear time in most cases."
    return fenced(code)
