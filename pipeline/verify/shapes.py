"""The outer structure of an answer: lists, sets, tuples and intervals, numbers in other bases, times of day."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .numbers import parse_number

_BASE = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?\s*(?:_\s*\{?\s*(\w+)\s*\}?|\(?\s*(?:in\s+)?base[\s-]+(\w+)\s*\)?)", re.IGNORECASE
)
_TIME = re.compile(r"(\d{1,2})(?::(\d\d)(?::(\d\d))?)?\s*(?:([ap])\.?\s?m\.?)?(?:\s+o'clock)?", re.IGNORECASE)
_LIST = re.compile(r"\s*(?:,?\s*\b(?:and|or)\b|和|或者?|与|、|,|;)\s*", re.IGNORECASE)
_BASE_NAMES = {"two": "2", "three": "3", "five": "5", "eight": "8", "ten": "10", "twelve": "12", "sixteen": "16"}
_OPEN, _CLOSE = "([{", ")]}"


def brackets(text: str) -> str:
    """The opening and closing bracket of a set, interval or tuple (`[1, 2]` is not `(1, 2)`); else empty."""
    text = _plain(text)
    if (
        text[:1] in tuple(_OPEN)
        and text[-1:] in tuple(_CLOSE)
        and _closes_last(text)
        and len(split_list(text[1:-1])) > 1
    ):
        return text[0] + text[-1]
    return "{}" if text[:1] == "{" and text[-1:] == "}" and _closes_last(text) else ""


def strip_brackets(text: str) -> str:
    """The text without the outer brackets of a set, interval or tuple."""
    return _plain(text)[1:-1] if brackets(text) else _plain(text)


def split_list(text: str) -> list[str]:
    """Splits at commas and connectives outside brackets."""
    if parse_number(text) is not None:
        return [text]
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
        gap = _LIST.match(text, i) if (depth <= 0 and not text[i].isalnum()) or text[i] in "ao和或与" else None
        if gap and depth <= 0 and gap.end() > i:
            parts.append(text[start : gap.start()])
            start = i = gap.end()
            continue
        i += 1
    return [p.strip() for p in [*parts, text[start:]] if p.strip()]


def is_list(text: str) -> bool:
    """Whether the text is a list of values."""
    return parse_number(text) is None and len(split_list(strip_brackets(text))) > 1


def same_set(gold: Sequence[str], answer: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether both hold the same members, equally often, in any order."""
    if len(gold) != len(answer) or len(gold) > 50:
        return False
    remaining = list(answer)
    for wanted in gold:
        match = next((i for i, given in enumerate(remaining) if equal(wanted, given)), None)
        if match is None:
            return False
        del remaining[match]
    return not remaining


def parse_base(text: str) -> tuple[str, str] | None:
    """The digits and the base of a number that names its base; None for others."""
    match = _BASE.fullmatch(text.strip())
    if match is None or not re.search(r"\d", match.group(1)):
        return None
    named = (match.group(2) or match.group(3)).casefold()
    return match.group(1).casefold().lstrip("0") or "0", _BASE_NAMES.get(named, named)


def is_time(text: str) -> bool:
    """Whether the text is a time of day: 3:30, 3:30 p.m., 7 am."""
    match = _TIME.fullmatch(text.strip())
    return match is not None and bool(match[2] or match[4])


def same_time(gold: str, answer: str) -> bool:
    """Whether two times are equal: 15:30 is 3:30 p.m. A gold answer without a.m. or p.m. matches either."""
    matches = [_TIME.fullmatch(t.strip()) for t in (gold, answer)]
    if not matches[0] or not matches[1]:
        return False
    halves = [(m[4] or "").casefold() for m in matches if m]
    hours = [int(m[1]) % 12 + 12 * (h == "p") if h else int(m[1]) for m, h in zip(matches, halves, strict=True) if m]
    if halves[1] and not halves[0] and hours[0] <= 12:
        hours = [hour % 12 for hour in hours]
    elif halves[0] and not halves[1] and hours[1] <= 12 and hours[0] <= 12:
        return False  # a gold answer of 3:30 a.m. requires the a.m.
    rest = [(int(m[2] or 0), int(m[3] or 0)) for m in matches if m]
    return hours[0] == hours[1] and rest[0] == rest[1]


def _plain(text: str) -> str:
    return text.replace("\\{", "{").replace("\\}", "}").strip()


def _closes_last(text: str) -> bool:
    depth = 0
    for i, c in enumerate(text):
        depth += (c in _OPEN) - (c in _CLOSE)
        if depth == 0:
            return i == len(text) - 1
    return False
