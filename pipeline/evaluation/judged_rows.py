"""What a row of a judged suite has beside its prompt: reference answers, a second question and a category."""

from __future__ import annotations

from typing import NamedTuple

from ..prompts.unusable import UnusableError
from ..recipe import REFERENCE, JudgedSuite
from .forms.set_form import CATEGORY, FOLLOW_UP, SUBCATEGORY, SetRow
from .reference_answers import Answers

GRADED_BY_REFERENCE = ("math", "reasoning", "coding")
"""Categories of MT-Bench whose judge sees reference answers (FastChat, llm_judge)."""


class JudgedRow(NamedTuple):
    """The keys of a judged row that no prompt row has."""

    reference: str | None = None
    follow_up: str | None = None
    second_reference: str | None = None
    category: str = ""
    subcategory: str = ""


def take(raw: SetRow, suite: JudgedSuite, answers: Answers | None) -> JudgedRow | None:
    """Takes these keys out of a row; None if the suite leaves out the row's category.

    Args:
        answers: content of the suite's `answers`; it replaces the row's own reference.

    Raises:
        UnusableError: a key has a wrong type, or a reference that the suite needs is missing.
    """
    reference, follow_up = raw.pop(REFERENCE, None), raw.pop(FOLLOW_UP, None)
    category, subcategory = (_text(raw, key) for key in (CATEGORY, SUBCATEGORY))
    if suite.categories and category not in suite.categories:
        return None
    first, second = _references(reference, suite, category)
    if answers is not None:
        first, second, *_ = (*answers.get(str(raw.get("id")), ()), None, None)
    if suite.method == "rating" and suite.form == "mt_bench" and category not in GRADED_BY_REFERENCE:
        first = second = None
    if suite.baseline == REFERENCE:
        place = "the row" if answers is None else "the file of answers"
        if first is None:
            what = f"has no {REFERENCE}" if answers is None else f"has none for the row's id {raw.get('id')!r:.80}"
            raise UnusableError("no_reference", f"the suite's baseline is {REFERENCE}, but {place} {what}")
        if follow_up is not None and second is None:
            problem = f"a {FOLLOW_UP} has no reference in {place}; give answers with two turns, or a model as baseline"
            raise UnusableError("no_reference", problem)
    try:
        "".join(filter(None, (first, second, category, subcategory))).encode()
    except UnicodeEncodeError as error:
        raise UnusableError("not_unicode", f"{REFERENCE} holds a lone surrogate", always_reject=True) from error
    return JudgedRow(first, follow_up, second, category, subcategory)


def _references(value: object, suite: JudgedSuite, category: str) -> tuple[str | None, str | None]:
    """The row's own references of the first and the second turn."""
    if isinstance(value, list) and suite.method == "pairs" and suite.form == "mt_bench":
        return None, None  # hints for the judge, no answers to compare with
    if value is None or isinstance(value, str):
        return value, None
    if isinstance(value, list) and 0 < len(value) <= 2 and all(isinstance(text, str) for text in value):
        return value[0], value[1] if len(value) == 2 else None
    allowed = "a string, or a list of one for each turn" if suite.method == "rating" else "a string"
    raise UnusableError("wrong_type", f"{REFERENCE} must be {allowed}, got {type(value).__name__}")


def _text(raw: SetRow, key: str) -> str:
    value = raw.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise UnusableError("wrong_type", f"{key} must be a string, got {type(value).__name__}")
    return value or ""
