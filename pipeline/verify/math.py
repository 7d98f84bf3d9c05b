"""Math verification: our own extraction and checks, and math-verify for the equivalence of expressions.

It runs in a worker process that can be killed.
"""

from __future__ import annotations

import re

from . import shapes
from .extract import clean_answer, find_answer, normalize, strip_units
from .numbers import Number, numbers_equal, parse_lone_number, parse_number
from .words import FUNCTIONS

MAX_EXPRESSION = 400
"""Longer answers, in characters, are not passed to math-verify."""
_HEDGED = re.compile(
    r"\bnot\b|\bor\b|\beither\b|\bmaybe\b|\bperhaps\b|\bcannot\b|\bunknown\b|\bbetween\b"
    r"|\b(?:more|less|greater|fewer) than\b|\bat (?:least|most)\b|n't\b|不是|不等于|不确定|或者?|可能",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|选项?)\s*)?(?:\(\s*([A-J])\s*\)(?:[\s.:,].*)?|([A-J])(?:[.:),]\s*.*)?)", re.DOTALL
)


def check(response: str, gold: str) -> tuple[bool | None, str, str, str]:
    """Returns (correct, reason, extracted, detail). Reasons: correct, wrong, no_answer, ambiguous, error.

    `correct` is None, with the reason `error`, only if the gold answer is empty.
    """
    wanted = gold_answer(gold)
    if not wanted:
        return None, "error", "", "the gold answer is empty"
    final = find_answer(response)
    if final is None:
        return False, "no_answer", "", "the response names no final answer"
    shown = strip_units(final.answer)
    if (ambiguity := _ambiguity(final.answer, wanted)) is not None:
        return False, "ambiguous", shown, ambiguity
    if final.later is not None and _differs(final.answer, final.later):
        return False, "ambiguous", shown, f"a later answer differs: {final.later}"
    correct = equivalent(wanted, final.answer)
    return correct, "correct" if correct else "wrong", shown, ""


def gold_answer(gold: str) -> str:
    """The answer in a gold answer, which may be a full solution with a box or `####`. Empty if there is none."""
    if "\\boxed" in gold or "####" in gold:
        final = find_answer(gold)
        return final.answer if final else ""
    return clean_answer(normalize(gold))


def _differs(answer: str, later: str) -> bool:
    """Whether a later answer is a value that differs from the answer."""
    second = _value(later)
    return second is not None and (_value(answer) is None or not equivalent(answer, later))


def _ambiguity(answer: str, gold: str) -> str | None:
    """Why the answer is not a single value, or None if it is. A list is accepted if the gold answer is a list."""
    if _HEDGED.search(gold) or answer.casefold() == gold.casefold():
        return None
    if hedge := _HEDGED.search(answer):
        listed = hedge.group().casefold() in ("or", "或", "或者") and len(shapes.split_list(answer)) > 1
        if not (listed and (shapes.is_list(gold) or "\\pm" in gold)):
            return f"hedged: {hedge.group()}"
    return None


def equivalent(gold: str, answer: str) -> bool:
    """Whether two final answers are equal. Our own checks run first, because math-verify accepts too much.

    Args:
        gold: the gold answer; the order matters, because math-verify is not symmetric.
        answer: the response's answer. Both must be cleaned by `extract.clean_answer`.
    """
    if gold == answer:
        return True
    if choice := re.fullmatch(r"\(?([A-J])\)?\.?", gold):
        match = _CHOICE.fullmatch(answer)
        return match is not None and choice.group(1) == (match.group(1) or match.group(2))
    if (wanted := _value(gold)) is not None:
        values = [n for a in _readings(answer) if (n := _value(a)) is not None]
        return any(numbers_equal(wanted, n) for n in values) or (not values and _symbolic(gold, _right_side(answer)))
    if "=" not in gold and answer.count("=") == 1:
        answer = _right_side(answer)
    if "=" in gold and "=" not in answer and re.match(r"^\s*[a-zA-Z](?:\([a-zA-Z]\))?\s*=[^=]*$", gold):
        return equivalent(gold.partition("=")[2].strip(), answer)
    return _structured(gold, answer)


def _value(text: str) -> Number | None:
    return parse_number(text) or parse_lone_number(text)


def _readings(answer: str) -> list[str]:
    """The answer, and the answer without a choice label, the left side of an equation, or a remark in parentheses."""
    readings = [answer]
    if choice := re.match(r"^(?:\([A-J]\)|[A-J][).:])\s*(\S.*)$", answer):
        readings.append(choice.group(1))
    if aside := re.match(r"^(.*\d.*?)\s+\([^()]*\)$", answer):
        readings.append(aside.group(1))
    readings += [_right_side(a) for a in readings if "=" in a]
    # "about 5" counts as 5.
    readings += [
        re.sub(r"^(?:approximately|approx\.?|about|exactly|only|just|约|大约|共|一共)\s*", "", a, flags=re.I)
        for a in readings
    ]
    return list(dict.fromkeys(readings))


def _right_side(text: str) -> str:
    return text.rpartition("=")[2].strip() if "=" in text and not re.search(r"[<>]|\\[lgn]e|\\neq", text) else text


def _structured(gold: str, answer: str) -> bool:
    """Compares bases, times, intervals, sets and tuples part by part, and everything else with math-verify."""
    if shapes.is_time(gold) or shapes.is_time(answer):
        return shapes.same_time(gold, answer)
    if ":" in gold or ":" in answer or any(re.fullmatch(r"\d{4}-\d\d?-\d\d?", t) for t in (gold, answer)):
        return _squeezed(gold) == _squeezed(answer)
    bases = shapes.parse_base(gold), shapes.parse_base(answer)
    if any(bases):
        return bases[0] == bases[1]
    if "\\cup" in gold or "\\cup" in answer:
        return shapes.same_set(
            [p.strip() for p in gold.split("\\cup")], [p.strip() for p in answer.split("\\cup")], equivalent
        )
    gold, answer = (re.sub(r"^[a-zA-Z]\s*\\in(?![a-zA-Z])\s*", "", t) for t in (gold, answer))
    brackets = shapes.brackets(gold), shapes.brackets(answer)
    wanted, given = shapes.split_list(shapes.strip_brackets(gold)), shapes.split_list(shapes.strip_brackets(answer))
    if brackets != ("", ""):
        if set(brackets) == {"{}", ""}:  # {1, 2} may be written 1, 2
            return len(wanted) == len(given) > 0 and shapes.same_set(wanted, given, equivalent)
        if brackets[0] != brackets[1] or len(wanted) != len(given):
            return False
        if brackets[0] == "{}":
            return shapes.same_set(wanted, given, equivalent)
        return all(equivalent(g, a) for g, a in zip(wanted, given, strict=True))
    if len(wanted) > 1 or len(given) > 1:
        if "\\pm" in gold + answer:
            return _symbolic(gold, ", ".join(given))
        return _squeezed(gold) == _squeezed(answer) or shapes.same_set(wanted, given, equivalent)
    return _symbolic(gold, answer)


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}]", "", text).casefold()


def _symbolic(gold: str, answer: str) -> bool:
    """Compares two expressions with math-verify. Both must be mathematics only: from a sentence, math-verify would
    silently parse just a part."""
    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    if re.search(r"[A-Za-z]{3,}", gold) and not _is_math(gold):  # words are compared without case
        return _squeezed(gold) == _squeezed(answer)
    if max(len(gold), len(answer)) > MAX_EXPRESSION or not _is_math(gold) or not _is_math(answer):
        return False
    for sign in ("\\infty", "_", ":", "<", ">", "\\le", "\\ge", "\\neq"):
        if (sign in gold) != (sign in answer):
            return False
    letters = [set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", t)) for t in (gold, answer)]
    if letters[0] != letters[1] and {c.casefold() for c in letters[0]} == {c.casefold() for c in letters[1]}:
        return False  # math-verify treats X and x as equal
    from math_verify import parse, verify

    wanted, given = (parse(f"${t}$", parsing_timeout=None) for t in (gold, answer))
    return bool(wanted and given and verify(wanted, given, timeout_seconds=None))


def _is_math(text: str) -> bool:
    words = re.findall(r"[A-Za-z]{3,}", text)
    return all(w.casefold() in FUNCTIONS for w in words) and not re.search(r"[\u4e00-\u9fff]|\d\s+\d|\d-\d+-\d", text)
