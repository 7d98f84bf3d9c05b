"""Forms of multiple-choice sets: MMLU-Pro, MMLU-Redux and GPQA. The answer is a letter."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from ...identities import digest
from .set_form import RULE, Dates, Form, SetRow

MAX_CHOICES = 10
"""The rule `choice` reads the letters A to J."""
ASK = '{prompt}\n\nReason step by step, and end with "The answer is (X)", where X is the letter of the right option.'
"""Template of the request for a letter."""
OK = "ok"
"""MMLU-Redux's `error_type` of questions without a fault."""


def _choice(question: str, options: Sequence[str], right: int) -> SetRow:
    """A prompt row whose gold is a letter.

    Args:
        right: index of the right option.

    Raises:
        ValueError: there are too few or too many options, or none is right.
    """
    if not 2 <= len(options) <= MAX_CHOICES:
        raise ValueError(f"{len(options)} options, allowed: 2 to {MAX_CHOICES}")
    if not 0 <= right < len(options):
        raise ValueError(f"the answer is option {right}, there are {len(options)}")
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    prompt = "\n".join([question.strip(), "", *lines])
    return {"domain": "instruction", "prompt": prompt, "gold": ascii_uppercase[right], RULE: "choice"}


def _mmlu_pro(raw: SetRow) -> SetRow:
    answer = raw["answer"].strip()
    if len(answer) != 1 or answer not in ascii_uppercase:
        raise ValueError(f"answer must be a letter, got {answer!r:.40}")
    return _choice(raw["question"], raw["options"], ascii_uppercase.index(answer))


def _mmlu_redux(raw: SetRow) -> SetRow:
    return _choice(raw["question"], raw["choices"], int(raw["answer"]))


def _faulty(raw: SetRow, _dates: Dates) -> str | None:
    return None if raw["error_type"] == OK else f"error_type is {raw['error_type']!r:.60}"


def _gpqa(raw: SetRow) -> SetRow:
    """The set has no order of options. Theirs is that of a hash, so it is the same in each run."""
    question, right = raw["Question"].strip(), raw["Correct Answer"].strip()
    options = [right, *(raw[f"Incorrect Answer {i}"].strip() for i in (1, 2, 3))]
    options.sort(key=lambda option: digest(question, option))
    return _choice(question, options, options.index(right))


CHOICES: dict[str, Form] = {
    "mmlu_pro": Form(("question", "options", "answer"), _mmlu_pro, ASK),
    "mmlu_redux": Form(("question", "choices", "answer", "error_type"), _mmlu_redux, ASK, _faulty),
    "gpqa": Form(("Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3))), _gpqa, ASK),
}
"""Name of a multiple-choice form -> its format."""
