"""BigCodeBench: `task_func`, tested by a unittest class `TestCases`, with numpy, pandas and mocks."""

from __future__ import annotations

from collections.abc import Iterator

from .bank import Case, Entry, Outcome, Problem
from .rendering import (
    Row,
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


def bigcodebench_rows() -> Iterator[Row]:
    """The rows: of problems of this form alone, and of the bank."""
    yield from own_rows("bigcodebench", _own)
    yield from rows("bigcodebench", _render, lambda case: True, _differs)


def _own(number: int, entry: Entry, code: str) -> tuple[str, str, str, str]:
    prompt = _prompt(entry.description, entry.blocks["python"])
    return _response(number, code), entry.blocks["tests"], "task_func", prompt


def _differs(outcome: Outcome, case: Case) -> bool:
    return seen(outcome, case) or outcome.message != case.outcome.message


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements:
        return None
    methods = [f"    def test_case_{i}(self):\n{indented(_body(problem, case), 8)}\n" for i, case in numbered(cases)]
    if number % 4 == 1:
        methods = ["    def setUp(self):\n        self.function = task_func\n", *methods]
        methods = [m if "setUp" in m else m.replace("task_func(", "self.function(") for m in methods]
    tests = f"import unittest\n{problem.setup}\nclass TestCases(unittest.TestCase):\n" + "\n".join(methods)
    if number % 3 == 0:
        tests += "\n\nif __name__ == '__main__':\n    unittest.main()\n"
    renamed = code.replace(f"{problem.name}(", "task_func(")
    return _response(number, renamed), tests, "task_func", _prompt(problem.description, renamed)


def _body(problem: Problem, case: Case) -> str:
    """The body of a test method."""
    wanted, expression = case.outcome, called(problem, "task_func", case.source)
    if wanted.error:
        return (
            f"with self.assertRaises({wanted.error}) as context:\n    {expression}\n"
            f"self.assertEqual(str(context.exception), {wanted.message!r})"
        )
    if case.in_place:
        first, *others = split_arguments(case.source)
        given = ", ".join(["data", *others])
        expected = show(wanted.arguments[0])
        return f"data = {first}\nself.assertIsNone(task_func({given}))\nself.assertEqual(data, {expected})"
    if isinstance(wanted.result, bool):
        return f"self.assert{wanted.result}({expression})"
    if wanted.result is None:
        return f"self.assertIsNone({expression})"
    if isinstance(wanted.result, float):
        return f"self.assertAlmostEqual({expression}, {wanted.result!r}, places=6)"
    if has_result(case) and is_plain(wanted.result) and type(wanted.result) in (list, dict, set, str):
        kind = {list: "List", dict: "Dict", set: "Set", str: "MultiLine"}[type(wanted.result)]
        return f"result = {expression}\nself.assertIsInstance(result, {type(wanted.result).__name__})\n" + (
            f"self.assert{kind}Equal(result, {show(wanted.result)})"
        )
    return f"self.assertEqual({expression}, {show(wanted.result)})"


def _prompt(description: str, code: str) -> str:
    """The instruction, with imports and head of the function."""
    head = code[: code.index("\n", code.index("def task_func("))]
    return f"{description}\nYou should write self-contained code starting with:\n{fenced(head, '')}"


def _response(number: int, code: str) -> str:
    match number % 3:
        case 0:
            return fenced(code)
        case 1:
            return f"Below is a self-contained script:\n\n{fenced(code)}\n"
    return f"{fenced(code)}\n\nNote: `task_func` needs no other files."
