"""Forms of mathematics sets: GSM8K and MATH."""

from __future__ import annotations

from .form import Form, SetRow

STEPS = "{prompt}\n\nReason step by step, and put the final answer into \\boxed{}."
"""Template of the request for a final answer in a box."""


def _gsm8k(raw: SetRow) -> SetRow:
    _, mark, gold = raw["answer"].rpartition("####")
    return {"domain": "math", "prompt": raw["question"], "gold": gold.strip() if mark else " "}


def _math(raw: SetRow) -> SetRow:
    gold = str(raw["answer"]) if raw.get("answer") else raw.get("solution", "")
    return {"domain": "math", "prompt": raw["problem"], "gold": gold if "answer" in raw or "\\boxed" in gold else " "}


MATH: dict[str, Form] = {
    "gsm8k": Form(("question", "answer"), _gsm8k, STEPS),
    "math": Form(("problem",), _math, STEPS),
}
"""Name of a mathematics form -> its format."""
