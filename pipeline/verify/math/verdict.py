"""Math verification: our own extraction and rules, and math-verify for the equivalence of expressions.

It runs in a worker process that can be killed.
"""

from __future__ import annotations

import re

from . import shapes
from .extract import find_answer, strip_units
from .typography import clean_answer, normalize

MAX_ANSWER = 2_000
"""Longer answers, in characters, only equal the same text."""
_OR = r"\bor\b|或者?"
_HEDGED = re.compile(
    r"\bnot\b|\beither\b|\bmaybe\b|\bperhaps\b|\bpossibly\b|\bcannot\b|\bunknown\b|\bbetween\b"
    r"|\b(?:more|less|greater|fewer) than\b|\bat (?:least|most)\b|n't\b|不是|不等于|不确定|可能|" + _OR,
    re.IGNORECASE,
)


def check(response: str, gold: str) -> tuple[bool | None, str, str, str]:
    """Returns (correct, reason, extracted, detail). Reasons: correct, wrong, no_answer, ambiguous, error.

    `correct` is None, with the reason `error`, only if the gold answer is empty.
    """
    from .equivalence import equivalent

    wanted = gold_answer(gold)
    if not wanted:
        return None, "error", "", "the gold answer is empty"
    final = find_answer(response)
    if final is None:
        return False, "no_answer", "", "the response names no final answer"
    shown = strip_units(final.answer)
    if final.answer == wanted:
        correct = True
    elif max(len(final.answer), len(wanted)) > MAX_ANSWER:
        correct = False
    elif (ambiguity := _ambiguity(final.answer, wanted)) is not None:
        return False, "ambiguous", shown, ambiguity
    else:
        correct = equivalent(wanted, final.answer)
    if final.later is not None and _differs(final.answer, final.later):
        return False, "ambiguous", shown, f"a later answer differs: {final.later}"
    return correct, "correct" if correct else "wrong", shown, ""


def gold_answer(gold: str) -> str:
    """The answer in a gold answer, which may be a full solution with a box or `####`. Empty if there is none."""
    if "\\boxed" in gold or "####" in gold:
        final = find_answer(gold)
        return final.answer if final else ""
    return clean_answer(normalize(gold))


def _differs(answer: str, later: str) -> bool:
    """Whether a later answer is a value that differs from the answer."""
    from .equivalence import same_value
    from .scalars import is_value

    return max(len(answer), len(later)) <= MAX_ANSWER and is_value(later) and not same_value(answer, later)


def _ambiguity(answer: str, gold: str) -> str | None:
    """Why the answer is not a single value, or None if it is. A list is accepted if the gold answer is a list."""
    from .scalars import restates_value
    from .statements import parse_statement

    if _HEDGED.search(gold) or answer.casefold() == gold.casefold():
        return None
    for hedge in _HEDGED.finditer(answer):
        if not re.fullmatch(_OR, hedge.group(), re.IGNORECASE):
            return f"hedged: {hedge.group()}"
        if shapes.is_list(gold) or re.search(r"\\pm|[<>]|\\(?:le|ge|ne|cup)(?![a-z])", gold):
            continue
        values = [v for chain in parse_statement(answer).chains for v in chain]
        if len(values) < 2 or not all(restates_value(values[0], v) for v in values[1:]):
            return f"hedged: {hedge.group()}"
    return None
