"""The outer structure of an answer: lists, sets, tuples, matrices and cases, and numbers in other bases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .numbers import parse_number
from .typography import plain
from .words import CARDINALS

_BASE = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?\s*(?:_\s*\{?\s*(?:\\text\{)?\(?(\w+)\)?\s*\}?\}?|\(?\s*(?:in\s+)?base[\s-]+(\w+)\s*\)?)",
    re.IGNORECASE,
)
_LIST = re.compile(r"\s*(?:,?\s*\b(?:and|or)\b|和|或者?|与|、|,|;)\s*", re.IGNORECASE)
_BASE_NAMES = {name: str(n) for name, n in CARDINALS.items() if 2 <= n <= 16}
_MATRIX = re.compile(
    r"(.*?)\\begin\{([pbvVB]?|small)(?:matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\2(?:matrix|array)\}", re.S
)
_NESTED = re.compile(r"\[(?:\s*\[[^\[\]]*\]\s*,?)+\s*\]")
_CASES = re.compile(r"\\begin\{(?:cases|dcases)\}(.*)\\end\{(?:cases|dcases)\}", re.DOTALL)
_OPEN, _CLOSE = "([{", ")]}"
MAX_UNEQUAL = 60
"""Members of a set that are compared pair by pair; equal texts and numbers are matched before."""

Equal = Callable[[str, str], bool]


def brackets(text: str) -> str:
    """The opening and closing bracket of a set, interval or tuple (`[1, 2]` is not `(1, 2)`); else empty."""
    text = _visible(text)
    if (
        text[:1] in tuple(_OPEN)
        and text[-1:] in tuple(_CLOSE)
        and _closes_last(text)
        and len(split_list(text[1:-1], in_brackets=True)) > 1
    ):
        return text[0] + text[-1]
    return "{}" if text[:1] == "{" and text[-1:] == "}" and _closes_last(text) else ""


def members(text: str) -> list[str]:
    """The members of a list, set, interval or tuple; of any other text, the text itself."""
    kind = brackets(text)
    return split_list(_visible(text)[1:-1], in_brackets=True) if kind else split_list(_visible(text))


def split_list(text: str, *, in_brackets: bool = False) -> list[str]:
    """Splits at commas and connectives outside brackets.

    A comma before three digits separates thousands: outside brackets, or if the other commas have a space behind them.
    """
    if not in_brackets and parse_number(text) is not None:
        return [text]
    gaps: list[re.Match[str]] = []
    depth = i = 0
    while i < len(text):
        depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
        gap = _LIST.match(text, i) if (depth <= 0 and not text[i].isalnum()) or text[i] in "aoAO和或与" else None
        if gap and depth <= 0 and gap.end() > i:
            gaps.append(gap)
            i = gap.end()
            continue
        i += 1
    tight = [
        g
        for g in gaps
        if g[0] == "," and re.match(r"\d{3}(?!\d)", text[g.end() :]) and text[: g.start()][-1:].isdigit()
    ]
    if tight and len(tight) == len(gaps) and in_brackets and text[tight[0].end()] != "0":
        tight = []
    elif tight and len(tight) < len(gaps) and all(g[0] == "," for g in gaps):
        tight = []  # 1,200,3 has no thousands
    kept = [g for g in gaps if g not in tight]
    starts, ends = [0, *(g.end() for g in kept)], [*(g.start() for g in kept), len(text)]
    return [p for s, e in zip(starts, ends, strict=True) if (p := text[s:e].strip())]


def is_list(text: str) -> bool:
    """Whether the text is a list of values."""
    return parse_number(text) is None and len(members(text)) > 1


def same_members(gold: Sequence[str], answer: Sequence[str], equal: Equal) -> bool:
    """Whether both hold the same members, equally often, in any order."""
    if len(gold) != len(answer):
        return False
    remaining: list[str] = list(answer)
    unequal = []
    for wanted in gold:
        if wanted in remaining:
            remaining.remove(wanted)
        else:
            unequal.append(wanted)
    if len(unequal) > MAX_UNEQUAL:
        numbers = [sorted(n.value for m in side if (n := parse_number(m))) for side in (unequal, remaining)]
        return len(numbers[0]) == len(unequal) and numbers[0] == numbers[1]
    for wanted in unequal:
        match = next((i for i, given in enumerate(remaining) if equal(wanted, given)), None)
        if match is None:
            return False
        del remaining[match]
    return not remaining


def parse_base(text: str) -> tuple[str, str] | None:
    """The digits and the base of a number that names its base; None for others."""
    match = _BASE.fullmatch(plain(text))
    if match is None or not re.search(r"\d", match.group(1)):
        return None
    named = (match.group(2) or match.group(3)).casefold()
    base = _BASE_NAMES.get(named, named)
    return (match.group(1).casefold().lstrip("0") or "0", base) if base.isdigit() else None


def parse_matrix(text: str) -> tuple[str, list[list[str]], bool] | None:
    """The factor before a matrix, its rows, and whether it is a determinant; None if the text is no matrix."""
    text = text.strip()
    if text[:1] in ("[", "(") and "\\begin{array}" in text and _closes_last(text):
        text = text[1:-1].strip()
    if match := _MATRIX.fullmatch(text):
        rows = [[plain(cell) for cell in row.split("&")] for row in re.split(r"\\\\", match[3]) if row.strip()]
        return match[1].strip(), rows, match[2] in ("v", "V")
    if _NESTED.fullmatch(text):
        return "", [split_list(row, in_brackets=True) for row in re.findall(r"\[([^\[\]]*)\]", text)], False
    return None


def parse_cases(text: str) -> list[tuple[str, str]] | None:
    """The values and conditions of a function by cases; None if the text is none."""
    match = _CASES.fullmatch(text.strip())
    if match is None:
        return None
    rows = []
    for row in re.split(r"\\\\", match[1]):
        value, _, condition = row.partition("&") if "&" in row else row.rpartition(",")
        if row.strip():
            condition = re.sub(r"^\s*(?:if|for|when|where|,)\s*", "", plain(condition), flags=re.I)
            rows.append((value.strip(" ,"), condition.strip(" ,.")))
    return rows


def _visible(text: str) -> str:
    return text.replace("\\{", "{").replace("\\}", "}").replace("\\langle", "(").replace("\\rangle", ")").strip()


def _closes_last(text: str) -> bool:
    depth = 0
    for i, c in enumerate(text):
        depth += (c in _OPEN) - (c in _CLOSE)
        if depth == 0:
            return i == len(text) - 1
    return False
