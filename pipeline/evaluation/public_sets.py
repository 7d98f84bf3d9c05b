"""Converts the JSONL files of public benchmark sets to prompt rows."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from ..recipe import REFERENCE

SetRow = dict[str, Any]
"""A row of a file as JSON; each public set has its own keys."""

FOLLOW_UP = "follow_up"
"""Key of the second turn's question."""


class Form(NamedTuple):
    """The format of a public set."""

    keys: tuple[str, ...]
    """Keys that every row must have."""
    convert: Callable[[SetRow], SetRow]
    """Makes a prompt row of a row of the set."""
    ask: str = "{prompt}"
    """Template of the request."""


def parse_python(code: str) -> ast.Module:
    """Parses a row's Python code without the warnings that the parser of Python 3.12 and later prints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _gsm8k(raw: SetRow) -> SetRow:
    _, mark, gold = raw["answer"].rpartition("####")
    return {"domain": "math", "prompt": raw["question"], "gold": gold.strip() if mark else " "}


def _math(raw: SetRow) -> SetRow:
    gold = str(raw["answer"]) if raw.get("answer") else raw.get("solution", "")
    return {"domain": "math", "prompt": raw["problem"], "gold": gold if "answer" in raw or "\\boxed" in gold else " "}


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
        defined = {n.name for n in parse_python(solution).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        calls = [
            n.func.id for n in ast.walk(parse_python(tests)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"code or tests are not valid Python: {error}") from None
    return next((c for c in calls if (c in defined if defined else not hasattr(builtins, c))), None)


def _alpaca_eval(raw: SetRow) -> SetRow:
    return {"domain": "instruction", "prompt": raw["instruction"], "reference": raw.get("output")}


def _arena_hard(raw: SetRow) -> SetRow:
    prompt = raw.get("prompt") or raw["turns"][0]["content"]
    return {"domain": "instruction", "prompt": prompt, "id": str(raw.get("uid") or raw["question_id"])}


def _mt_bench(raw: SetRow) -> SetRow:
    first, *more = raw["turns"]
    return {
        "domain": "instruction",
        "prompt": first,
        "id": str(raw["question_id"]),
        FOLLOW_UP: more[0] if more else None,
    }


def _align_bench(raw: SetRow) -> SetRow:
    kept = {"id": str(raw["question_id"]), REFERENCE: raw.get("reference") or None}
    return {"domain": "chinese", "prompt": raw["question"], **kept}


STEPS = "{prompt}\n\nReason step by step, and put the final answer into \\boxed{}."

FORMS: dict[str, Form] = {
    "gsm8k": Form(("question", "answer"), _gsm8k, STEPS),
    "math": Form(("problem",), _math, STEPS),
    "humaneval": Form(
        ("task_id", "prompt", "test", "entry_point"),
        _humaneval,
        "Complete this function. Answer with all of it in one block of Python.\n\n```python\n{prompt}\n```",
    ),
    "mbpp": Form(("task_id", "test_list"), _mbpp),
    "alpaca_eval": Form(("instruction",), _alpaca_eval),
    "arena_hard": Form((), _arena_hard),
    "mt_bench": Form(("question_id", "turns"), _mt_bench),
    "align_bench": Form(("question_id", "question"), _align_bench),
}
"""Name of a form (`SuiteForm`) -> its format."""
