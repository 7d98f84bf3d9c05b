"""Forms of mathematics sets: GSM8K, MATH, AMC 23 and AIME 25."""

from __future__ import annotations

from .set_form import NO_GOLD, Form, SetRow

STEPS = "{prompt}\n\nReason step by step, and put the final answer into \\boxed{}."
"""Template of the request for a final answer in a box."""


def _gsm8k(raw: SetRow) -> SetRow:
    _, mark, gold = raw["answer"].rpartition("####")
    return {"domain": "math", "prompt": raw["question"], "gold": gold.strip() if mark else NO_GOLD}


def _math(raw: SetRow) -> SetRow:
    gold = str(raw["answer"]) if raw.get("answer") else raw.get("solution", "")
    return {
        "domain": "math",
        "prompt": raw["problem"],
        "gold": gold if "answer" in raw or "\\boxed" in gold else NO_GOLD,
    }


def _contest(raw: SetRow) -> SetRow:
    """AMC and AIME: the answer is a number, which some files write as 27.0."""
    question, answer = raw.get("question") or raw["problem"], str(raw["answer"]).strip()
    return {"domain": "math", "prompt": question, "gold": answer.removesuffix(".0") or NO_GOLD}


MATH: dict[str, Form] = {
    "gsm8k": Form(("question", "answer"), _gsm8k, STEPS),
    "math": Form(("problem",), _math, STEPS),
    "amc23": Form(("answer",), _contest, STEPS),
    "aime25": Form(("answer",), _contest, STEPS),
}
"""Name of a mathematics form -> its format."""
