"""LiveCodeBench: a list of inputs and outputs whose type is `stdin` or `functional` (a class from starter code)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .apps import differs_json, fits_json
from .bank import Case, Problem
from .leetcode import as_class
from .programs import program_rows
from .rendering import Row, fenced, rows

STDIN = (
    "### Format: Read the inputs from stdin, solve the problem and write the answer to stdout (do not test on the "
    "examples). Enclose your code within delimiters as follows.\n```python\n# YOUR CODE HERE\n```"
)
STARTER = "### Format: You will use the following starter code to write the solution to the problem.\n"


def livecodebench_rows() -> Iterator[Row]:
    """The rows of both types."""
    for row in program_rows(first=1):
        pairs = [
            {"input": given, "output": wanted, "testtype": "stdin"}
            for given, wanted in zip(row.inputs, row.outputs, strict=True)
        ]
        name = f"livecodebench-stdin {row.problem.name} {f'mutant {row.place}' if row.place else 'right'}"
        prompt = f"### Question:\n{row.problem.description}\n\n{STDIN}\n"
        yield Row(name, not row.place, _response(row.number, row.program), json.dumps(pairs), None, prompt)
    yield from rows("livecodebench-functional", _render, fits_json, differs_json)


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements or "yield" in code or "*lists" in code:
        return None
    pairs = [
        {
            "input": "\n".join(json.dumps(argument) for argument in case.arguments),
            "output": json.dumps(case.outcome.result),
            "testtype": "functional",
        }
        for case in cases
    ]
    starter = as_class(problem, problem.solution, problem.name, stub=True)
    prompt = f"### Question:\n{problem.description}\n\n{STARTER}{fenced(starter)}\n\n### Answer:\n"
    entry_point = (f"Solution().{problem.name}", problem.name)[number % 2]
    return _response(number, as_class(problem, code, problem.name)), json.dumps(pairs), entry_point, prompt


def _response(number: int, code: str) -> str:
    if number % 2:
        return fenced(code)
    return f"### Approach\n\nWe do what the question says.\n\n{fenced(code)}\n\n### Complexity\n\nLinear.\n"
