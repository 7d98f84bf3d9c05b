"""APPS and TACO: inputs and outputs as JSON, of programs or (`fn_name`) of functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .bank import Case, Outcome, Problem
from .leetcode import as_class
from .programs import program_rows
from .rendering import Row, alike, fenced, has_result, rows


def apps_rows() -> Iterator[Row]:
    """The rows of both kinds."""
    for row in program_rows():
        tests: dict[str, Any] = {"inputs": row.inputs, "outputs": row.outputs}
        if "float" in row.problem.solution:
            tests["tolerance"] = 1e-6
        if row.number % 4 == 3 and not any(text.endswith("\n\n") or text == "\n" for text in row.inputs):
            tests["inputs"] = [text.rstrip("\n").split("\n") for text in row.inputs]
            tests["outputs"] = [text.rstrip("\n").split("\n") for text in row.outputs]
        name = f"apps-stdin {row.problem.name} {f'mutant {row.place}' if row.place else 'right'}"
        yield Row(
            name, not row.place, _response(row.number, row.program), json.dumps(tests), None, _question(row.problem)
        )
    yield from rows("apps-fn", _render, fits_json, differs_json)


def fits_json(case: Case) -> bool:
    """Whether JSON holds the arguments as they are, and the result up to the type of its lists."""
    return has_result(case) and _from_json(case.arguments) == list(case.arguments) and _holds(case.outcome.result)


def differs_json(outcome: Outcome, case: Case) -> bool:
    """Whether pairs of JSON tell the results apart. To them tuples are lists."""
    if outcome.error or not _holds(outcome.result):
        return True
    return not alike(_from_json(outcome.result), _from_json(case.outcome.result))


def _holds(value: Any) -> bool:
    return _from_json(value) is not None or value is None


def _from_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return None


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str | None, str] | None:
    if problem.statements or "yield" in code or "*lists" in code:
        return None
    results = [case.outcome.result for case in cases]
    tests = {
        "fn_name": problem.name,
        "inputs": [list(case.arguments) for case in cases],
        "outputs": [[result] for result in results] if number % 2 else results,
    }
    solution = as_class(problem, code, problem.name) if number % 3 == 0 else code
    if number % 3 == 0:
        solution = f"from typing import *\n{solution}"
    entry_point = (None, problem.name)[number % 2]
    return _response(number, solution), json.dumps(tests), entry_point, _question(problem)


def _question(problem: Problem) -> str:
    return f"{problem.description}\n\n-----Input-----\n\nThe values, as described.\n\n-----Output-----\n\nThe result.\n"


def _response(number: int, code: str) -> str:
    match number % 3:
        case 0:
            return fenced(code)
        case 1:
            return f"We read the input and print the result.\n\n{fenced(code, 'python3')}\n\nIt runs in time."
    return f"<think>\nA first idea:\n```python\nprint('no')\n```\n</think>\n\n{fenced(code)}"
