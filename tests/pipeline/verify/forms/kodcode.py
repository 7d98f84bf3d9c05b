"""KodCode: pytest functions that import the solution from the module `solution`; the response has prose."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .bank import Case, Entry, Outcome, Problem
from .rendering import (
    Row,
    assertions,
    called,
    fenced,
    has_result,
    indented,
    is_plain,
    numbered,
    own_rows,
    rows,
    seen,
    show,
    split_arguments,
)

PROSE = (
    "To solve this, we go through the input step by step:\n\n1. Look at each part.\n2. Build the result.\n\n{code}\n\n"
    "### Explanation\n\n- The function handles `empty` input.\n- Its time complexity is linear.",
    "{code}",
    "Here is the implementation:\n\n{code}\n\nYou can run it like this:\n\n```bash\npython solution.py\n```",
    "<|Solution Begin|>\n{plain}\n<|Solution End|>",
    "First, the idea in pseudocode:\n\n```\nfor each part: extend the result\n```\n\nThen the code:\n\n{code}\n",
)


def kodcode_rows() -> Iterator[Row]:
    """The rows."""
    yield from own_rows("kodcode", _own)
    yield from rows("kodcode", _render, lambda case: True, _differs)


def _own(number: int, entry: Entry, code: str) -> tuple[str, str, str, str]:
    return _response(number, code), entry.blocks["tests"], entry.name, entry.description


def _response(number: int, code: str) -> str:
    return PROSE[number % len(PROSE)].format(code=fenced(code), plain=code.strip())


def _differs(outcome: Outcome, case: Case) -> bool:
    """The tests see other messages of exceptions as well."""
    return seen(outcome, case) or outcome.message != case.outcome.message


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str]:
    response = _response(number, code)
    if problem.statements:
        names = [n.name for n in ast.parse(problem.solution).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        functions = [f"def test_part_{i}():\n{indented(part)}\n" for i, part in numbered(problem.statements)]
        tests = "\n\n".join([f"import pytest\nfrom solution import {', '.join(names)}\n", *functions])
        return response, tests, problem.name, problem.description
    style = (_functions, _parametrized, _in_a_class, _with_a_fixture)[number % 4]
    bodies = [_body(problem, case) for case in cases]
    plain = all(has_result(c) and is_plain(c.outcome.result) for c in cases)
    tests = style(problem, cases, bodies) if plain or style is not _parametrized else _functions(problem, cases, bodies)
    head = f"{problem.setup}from solution import {problem.name}\n"
    return response, head + tests, problem.name, problem.description


def _body(problem: Problem, case: Case) -> str:
    """The body of a test."""
    wanted, name = case.outcome, problem.name
    if wanted.error:
        return f"with pytest.raises({wanted.error}, match={_pattern(wanted.message)!r}):\n    {name}({case.source})"
    if isinstance(wanted.result, bool):
        return f"assert {name}({case.source}) is {wanted.result}"
    if isinstance(wanted.result, float) or _all_floats(wanted.result):
        return f"assert {called(problem, name, case.source)} == pytest.approx({show(wanted.result)})"
    if has_result(case) and is_plain(case.arguments):
        names = [f"given_{i}" for i, _ in enumerate(case.arguments)]
        given = [f"{n} = {source}" for n, source in zip(names, split_arguments(case.source), strict=True)]
        expected = f"expected = {show(wanted.result)}"
        return "\n".join([*given, expected, f"assert {called(problem, name, ', '.join(names))} == expected"])
    return assertions(problem, name, [case])[0]


def _all_floats(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, float) for v in value)


def _pattern(message: str) -> str:
    return "".join(c if c.isalnum() or c in " '" else f"\\{c}" for c in message)


def _functions(problem: Problem, cases: list[Case], bodies: list[str]) -> str:
    """A function for each case, with a docstring in some."""
    parts = [
        f"def test_{problem.name}_case_{i}():\n" + ('    """A case."""\n' if i % 2 else "") + f"{indented(body)}\n"
        for i, body in numbered(bodies)
    ]
    return "import pytest\n\n" + "\n".join(parts)


def _parametrized(problem: Problem, cases: list[Case], bodies: list[str]) -> str:
    """One function with parameters."""
    values = [f"({_tuple(case.source)}, {show(case.outcome.result)})," for case in cases]
    values[-1] = f"pytest.param({_tuple(cases[-1].source)}, {show(cases[-1].outcome.result)}, id='last'),"
    names = "'arguments, expected'" if len(cases) % 2 else "['arguments', 'expected']"
    result = called(problem, problem.name, "*arguments")
    check = f"assert {result} == expected"
    if any(isinstance(c.outcome.result, float) or _all_floats(c.outcome.result) for c in cases):
        check = f"assert {result} == pytest.approx(expected)"
    return (
        f"import pytest\n\n@pytest.mark.parametrize({names}, [\n{indented(chr(10).join(values))}\n])\n"
        f"def test_{problem.name}(arguments, expected):\n    {check}\n"
    )


def _tuple(source: str) -> str:
    return f"({source},)"


def _in_a_class(problem: Problem, cases: list[Case], bodies: list[str]) -> str:
    """Methods of a class."""
    parts = [f"    def test_{i}(self):\n{indented(body, 8)}\n" for i, body in numbered(bodies)]
    name = problem.name.title().replace("_", "")
    return f"import pytest\n\nclass Test{name}:\n" + "\n".join(parts)


def _with_a_fixture(problem: Problem, cases: list[Case], bodies: list[str]) -> str:
    """A fixture that gives the function."""
    parts = [
        f"def test_{i}(function):\n{indented(body.replace(problem.name + '(', 'function('))}\n"
        for i, body in numbered(bodies)
    ]
    return f"import pytest\n\n@pytest.fixture\ndef function():\n    return {problem.name}\n\n" + "\n".join(parts)
