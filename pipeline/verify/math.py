"""Math answers: our extraction and guards, math-verify for equivalence alone. Runs inside a killable worker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fusechat.pipeline.verify.extract import candidates, clean, normal
from fusechat.pipeline.verify.numbers import lone_number, number, same

MAX_EXPRESSION = 400
"""Characters beyond which an answer is not handed to math-verify."""
_HEDGED = re.compile(
    r"\bnot\b|\bor\b|\beither\b|\bmaybe\b|\bcannot\b|\bunknown\b|\bbetween\b|\b(?:more|less|greater|fewer) than\b"
    r"|\bat (?:least|most)\b|不是|不确定|或者?",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\(?([A-J])\)(?:[\s.:].*)?|([A-J])(?:[.:)]\s*.*)?", re.DOTALL)
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt frac cdot times pi infty pm mp cup cap le ge "
    "leq geq neq lt gt in binom theta alpha beta gamma delta lambda mu phi omega sigma rho tau epsilon begin end pmatrix bmatrix "
    "vmatrix matrix mathbb emptyset varnothing lfloor rfloor lceil rceil max min gcd lcm mod div sum prod int lim to setminus "
    "mid vec hat bar overline abs dots ldots forall notin cases".split()
)
_BASE = re.compile(r"([0-9A-Za-z]+)\s*(?:_\s*\{?\s*(\w+)\s*\}?|\(?\s*(?:in\s+)?base[\s-]+(\w+)\s*\)?)", re.IGNORECASE)
_LIST = re.compile(r"\s*(?:,?\s*\b(?:and|or)\b|和|或者?|与|、|,|;)\s*", re.IGNORECASE)
_OPEN, _CLOSE = "([{", ")]}"


def check(response: str, gold: str) -> tuple[bool | None, str, str, str]:
    """(correct, reason, extracted, detail); reasons: correct, wrong, no_answer, ambiguous, error.

    `correct` is none only where the gold answer says nothing.
    """
    wanted = candidates(f"\\boxed{{{gold}}}")[0] if "\\boxed" not in gold else candidates(gold)[0]
    if not wanted:
        return None, "error", "", "the gold answer is empty"
    answer, later = candidates(response)
    if not answer:
        return False, "no_answer", "", ""
    if (told := _ambiguous(answer, wanted)) is not None:
        return False, "ambiguous", answer, told
    correct = equivalent(wanted, answer)
    if later is not None and correct and not _ambiguous(later, wanted) and not equivalent(wanted, later):
        if _value_like(later):
            return False, "ambiguous", answer, f"a later answer differs: {later}"
    return correct, "correct" if correct else "wrong", answer, ""


def _ambiguous(answer: str, gold: str) -> str | None:
    """Why the answer names no single value, if it doesn't; a list of values is fine where the gold answer is one."""
    if _HEDGED.search(gold) or answer.casefold() == gold.casefold():
        return None
    if hedge := _HEDGED.search(answer):
        listed = hedge.group().casefold() in ("or", "或", "或者") and len(_LIST.split(answer)) > 1
        if not (listed and (_is_list(gold) or "\\pm" in gold)):
            return f"hedged: {hedge.group()}"
    return None


def _is_list(text: str) -> bool:
    return number(text) is None and len(_split(_bare(text))) > 1


def _value_like(text: str) -> bool:
    return number(text) is not None or lone_number(text) is not None


def equivalent(gold: str, answer: str) -> bool:
    """Whether two final answers are the same; the guards come before math-verify, which would accept too much.

    Args:
        gold: first, for math-verify is not symmetric; both as `extract.clean` leaves them.
    """
    if gold == answer:
        return True
    if choice := re.fullmatch(r"\(?([A-J])\)?\.?", gold):
        match = _CHOICE.fullmatch(answer) or re.fullmatch(r"(?:option|choice)\s*\(?([A-J])\)?.*()", answer, re.I | re.S)
        return match is not None and choice.group(1) == (match.group(1) or match.group(2) or "").upper()
    if (wanted := number(gold)) is not None:
        return any((n := _number(a)) is not None and same(wanted, n) for a in _readings(answer)) or (
            _number(answer) is None and _symbolic(gold, _right_side(answer))
        )
    if "=" not in gold and "=" in answer:
        answer = _right_side(answer)
    if "=" in gold and "=" not in answer and re.match(r"^\s*[a-zA-Z](?:\([a-zA-Z]\))?\s*=[^=]*$", gold):
        return equivalent(gold.partition("=")[2].strip(), answer)
    return _structured(gold, answer)


def _readings(answer: str) -> list[str]:
    """The answer, and what it says without a label, a left side or an aside."""
    found = [answer]
    if choice := re.match(r"^\(?[A-J][).:]\s*(\S.*)$", answer):
        found.append(choice.group(1))
    if aside := re.match(r"^(.*\d.*?)\s+\([^()]*\)$", answer):
        found.append(aside.group(1))
    found += [_right_side(a) for a in found if "=" in a]
    if "," in answer:
        found.append(answer.partition(", ")[0] if re.search(r",\s+[A-Za-z ]+$", answer) else answer)
    return list(dict.fromkeys(found))


def _number(text: str):  # type: ignore[no-untyped-def]
    return number(text) or lone_number(text)


def _right_side(text: str) -> str:
    return text.rpartition("=")[2].strip() if "=" in text and not re.search(r"[<>]|\\[lgn]e", text) else text


def _structured(gold: str, answer: str) -> bool:
    """Bases, intervals, sets and tuples, part by part; the rest is for math-verify."""
    if ":" in gold or ":" in answer or re.fullmatch(r"\d{4}-\d\d?-\d\d?", gold) or re.fullmatch(r"\d{4}-\d\d?-\d\d?", answer):
        return _squeezed(gold) == _squeezed(answer)
    bases = [_BASE.fullmatch(t.strip()) for t in (gold, answer)]
    if any(bases) and any(b and b.group(1)[0].isdigit() for b in bases):
        return all(bases) and _base(bases[0]) == _base(bases[1])
    if "\\cup" in gold or "\\cup" in answer:
        return _same_set([p.strip() for p in gold.split("\\cup")], [p.strip() for p in answer.split("\\cup")])
    gold, answer = (re.sub(r"^[a-zA-Z]\s*\\in\b\s*", "", t) for t in (gold, answer))
    shapes = _shape(gold), _shape(answer)
    wanted, given = _split(_bare(gold)), _split(_bare(answer))
    if shapes != ("", ""):
        if {"{}", ""} == set(shapes):  # {1, 2} may be written 1, 2
            return len(wanted) == len(given) and _same_set(wanted, given)
        if shapes[0] != shapes[1] or len(wanted) != len(given):
            return False
        if shapes[0] == "{}":
            return _same_set(wanted, given)
        return all(equivalent(g, a) for g, a in zip(wanted, given, strict=True))
    if len(wanted) > 1 or len(given) > 1:
        if "\\pm" in gold + answer:
            return _symbolic(gold, ", ".join(given))
        return _same_set(wanted, given)
    return _symbolic(gold, answer)


def _same_set(gold: Sequence[str], answer: Sequence[str]) -> bool:
    """The same members in any order, each as often."""
    left = list(answer)
    for wanted in gold:
        hit = next((i for i, given in enumerate(left) if equivalent(wanted, given)), None)
        if hit is None:
            return False
        del left[hit]
    return not left


def _shape(text: str) -> str:
    """Opening and closing bracket of a set, interval or tuple: `[1, 2]` is not `(1, 2)`."""
    text = text.replace("\\{", "{").replace("\\}", "}").strip()
    if text[:1] in tuple(_OPEN) and text[-1:] in tuple(_CLOSE) and _closes_last(text) and len(_split(text[1:-1])) > 1:
        return text[0] + text[-1]
    return "{}" if text[:1] == "{" and text[-1:] == "}" and _closes_last(text) else ""


def _closes_last(text: str) -> bool:
    depth = 0
    for i, c in enumerate(text):
        depth += (c in _OPEN) - (c in _CLOSE)
        if depth == 0:
            return i == len(text) - 1
    return False


def _bare(text: str) -> str:
    text = text.replace("\\{", "{").replace("\\}", "}").strip()
    return text[1:-1] if _shape(text) else text


def _split(text: str) -> list[str]:
    """Parts at commas and connectives that no bracket encloses."""
    if number(text) is not None:
        return [text]
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
        gap = _LIST.match(text, i) if depth <= 0 else None
        if gap:
            parts.append(text[start : gap.start()])
            start = i = gap.end()
            continue
        i += 1
    return [p.strip() for p in [*parts, text[start:]] if p.strip()]


def _base(match: re.Match[str] | None) -> tuple[str, str]:
    assert match is not None
    base = (match.group(2) or match.group(3)).casefold()
    return match.group(1).casefold().lstrip("0"), {"two": "2", "eight": "8", "ten": "10", "sixteen": "16"}.get(base, base)


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}]", "", text).casefold()


def _symbolic(gold: str, answer: str) -> bool:
    """math-verify's word, on text that is mathematics from end to end (it would silently take a part of a sentence)."""
    if _squeezed(gold) == _squeezed(answer) and len(gold) > 1:
        return True
    if max(len(gold), len(answer)) > MAX_EXPRESSION or not _is_math(gold) or not _is_math(answer):
        return False
    for sign in ("\\infty", "_"):
        if (sign in gold) != (sign in answer):
            return False
    letters = [set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", t)) for t in (gold, answer)]
    if letters[0] != letters[1] and {c.casefold() for c in letters[0]} == {c.casefold() for c in letters[1]}:
        return False  # math-verify takes X for x
    from math_verify import parse, verify

    wanted, given = (parse(f"${t}$", parsing_timeout=None) for t in (gold, answer))
    return bool(wanted and given and verify(wanted, given, timeout_seconds=None))


def _is_math(text: str) -> bool:
    words = re.findall(r"[A-Za-z]{3,}", text)
    return all(w.casefold() in _FUNCTIONS for w in words) and not re.search(r"[\u4e00-\u9fff]|\d\s+\d|\d-\d+-\d", text)
