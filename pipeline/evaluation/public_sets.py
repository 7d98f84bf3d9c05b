"""The public sets' own files, as prompt rows."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from ..recipe import (
    REFERENCE,
)

SetRow = dict[str, Any]


FOLLOW_UP = "follow_up"


class Form(NamedTuple):
    """How a public set's rows become prompt rows, and how its prompts are asked."""

    keys: tuple[str, ...]
    convert: Callable[[SetRow], SetRow]
    ask: str = "{prompt}"


def parse_python(code: str) -> ast.Module:
    """Python that a row brings, read without the parser's warnings, which Python 3.12 and later print."""
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
    asked = raw.get("text") or raw["prompt"]
    before = [line for line in (*raw.get("test_imports", ()), raw.get("test_setup_code", "")) if line]
    tests = "\n".join(
        [*before, raw["test"] if raw.get("test") else "\n".join(raw["test_list"])]
    )  # MBPP+ has more tests
    shown = "\n".join(raw["test_list"])
    prompt = f"{asked.strip()}\nYour code should pass these tests:\n\n{shown}"
    kept = {"id": str(raw["task_id"]), "tests": tests, "entry_point": _called(tests, raw.get("code", ""))}
    return {"domain": "code", "prompt": prompt, **kept}


def _called(tests: str, solution: str) -> str | None:
    """The function that the tests call: one that the solution defines, else the first that Python does not have."""
    try:
        made = {n.name for n in parse_python(solution).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        calls = [
            n.func.id for n in ast.walk(parse_python(tests)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"code or tests are no Python: {error}") from None
    return next((c for c in calls if (c in made if made else not hasattr(builtins, c))), None)


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
"""The sets' own names of what a row holds."""
