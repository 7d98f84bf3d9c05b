"""Forms of code sets: HumanEval and MBPP."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .set_form import Form, SetRow


@contextmanager
def no_parser_warnings() -> Iterator[None]:
    """Hides what Python's parser warns of in a row's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _humaneval(raw: SetRow) -> SetRow:
    kept = {"id": str(raw["task_id"]), "tests": raw["test"], "entry_point": raw["entry_point"]}
    return {"domain": "code", "prompt": raw["prompt"], **kept}


def _mbpp(raw: SetRow) -> SetRow:
    task = raw.get("text") or raw["prompt"]
    setup = [line for line in (*raw.get("test_imports", ()), raw.get("test_setup_code", "")) if line]
    checks = raw["test"] if raw.get("test") else "\n".join(raw["test_list"])  # MBPP+ has more tests in `test`
    tests = "\n".join([*setup, checks])
    shown = "\n".join(raw["test_list"])
    prompt = f"{task.strip()}\nYour code should pass these tests:\n\n{shown}"
    kept = {"id": str(raw["task_id"]), "tests": tests, "entry_point": _called(tests, raw.get("code", ""))}
    return {"domain": "code", "prompt": prompt, **kept}


def _called(tests: str, solution: str) -> str | None:
    """The function that the tests call: the first that the solution defines, or without a solution the first that is
    not a Python builtin."""
    try:
        with no_parser_warnings():
            solved, checks = ast.parse(solution), ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"code or tests are not valid Python: {error}") from None
    defined = {n.name for n in solved.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    calls = [n.func.id for n in ast.walk(checks) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return next((c for c in calls if (c in defined if defined else not hasattr(builtins, c))), None)


CODE: dict[str, Form] = {
    "humaneval": Form(
        ("task_id", "prompt", "test", "entry_point"),
        _humaneval,
        "Complete this function. Answer with all of it in one block of Python.\n\n```python\n{prompt}\n```",
    ),
    "mbpp": Form(("task_id", "test_list"), _mbpp),
}
"""Name of a code form -> its format."""
