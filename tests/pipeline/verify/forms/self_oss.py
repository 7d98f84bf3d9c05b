"""self-oss-instruct: assertions only; the response has an explanation, and sometimes several blocks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .bank import Case, Problem
from .rendering import Row, assertions, fenced, rows


def self_oss_rows() -> Iterator[Row]:
    """The rows."""
    return rows("self-oss", _render, lambda case: True)


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str]:
    lines = problem.statements or assertions(problem, problem.name, cases, exact=number % 2 == 0)
    tests = problem.setup + "\n".join(lines)
    if number % 3 == 0:
        tests = f"# The tests of {problem.name}\n{tests}\nprint('All tests passed.')\n"
    return _response(number, problem, code, lines), tests, problem.name, problem.description


def _response(number: int, problem: Problem, code: str, lines: list[str]) -> str:
    match number % 6:
        case 0:
            return f"{fenced(code)}\n\nThe function `{problem.name}` solves the task with Python's own means."
        case 1:
            return f"Let me explain first. {problem.description}\n\n{fenced(code)}\n\n## Tests\n\n{fenced(lines[0])}"
        case 2:
            return "\n\n".join(["Imports and helpers:", *_split(code), "That is all."])
        case 3:
            use = f"print({problem.name})\n# {problem.description}"
            return (
                f"1. The solution:\n\n{_in_a_list(fenced(code))}\n\n2. How it is used:\n\n{_in_a_list(fenced(use))}\n"
            )
        case 4:
            stub = f"def {problem.name}(*args):\n    raise NotImplementedError"
            return f"We begin with a stub:\n\n{fenced(stub)}\n\nand fill it in:\n\n{fenced(code)}"
    example = f"{code}\n\nif __name__ == '__main__':\n    print('an example of {problem.name}')"
    return f"### Solution\n{fenced(example)}\n### Explanation\nThe last lines only run when it is a script."


def _split(code: str) -> list[str]:
    """A block for what stands before the last definition, and one for that."""
    tree = ast.parse(code)
    last = tree.body[-1]
    line = min(last.lineno, *(d.lineno for d in getattr(last, "decorator_list", [])), last.lineno) - 1
    lines = code.splitlines()
    before, after = "\n".join(lines[:line]).strip(), "\n".join(lines[line:])
    return [fenced(part) for part in (before, after) if part]


def _in_a_list(block: str) -> str:
    return "\n".join(f"   {line}" if line else "" for line in block.splitlines())
