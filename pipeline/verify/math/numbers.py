"""Parses plain numbers as people write them: separators, fractions, mixed numbers, powers of ten, money, words.

The whole text must be one number with its unit: no part of it is skipped.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from .numerals import spelled_number
from .typography import plain
from .units import UnitOfMeasure, parse_unit
from .words import CURRENCIES, FACTORS, LINKING, MEANING_CHANGING, PARTS, UNITS

_GROUPED = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,2}(?:,\d{2})+,\d{3}"
_DIGITS = rf"(?:(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+)"
_FRACTION = rf"\\frac\s*\{{\s*(?P<fn>[-+]?{_DIGITS})\s*\}}\s*\{{\s*(?P<fd>[-+]?{_DIGITS})\s*\}}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<money>US\$|A\$|C\$|HK\$|[$€£¥₹]|(?:Rs|USD|EUR|GBP|INR)\.?(?=\s*\d))?\s*(?P<sign2>[-+]?)\s*"
    r"(?:(?P<whole>\d+)\s*"
    r"(?:(?:and\s*)?\\frac\s*\{\s*(?P<mn>\d+)\s*\}\s*\{\s*(?P<md>\d+)\s*\}|\\frac\s*(?P<msn>\d)\s*(?P<msd>\d)"
    r"|(?:and\s+|(?<= ))(?P<mn2>\d+)\s*/\s*(?P<md2>\d+))"
    rf"|{_FRACTION}|\\frac\s*(?P<sn>\d)\s*(?P<sd>\d)"
    rf"|(?P<n>{_DIGITS})\s*/\s*(?P<d>{_DIGITS})"
    r"|(?P<head>\d*)\.(?P<fixed>\d*)(?:\\(?:overline|bar|dot)\s*\{\s*(?P<cycle>\d+)\s*\}|\(\s*(?P<cycle2>\d+)\s*\))"
    rf"|(?P<plain>{_DIGITS})"
    r"(?:[eE](?P<e>[-+]?\d{1,3})|\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*"
    r"(?:\{\s*(?P<p>[-+]?\d{1,3})\s*\}|(?P<q>[-+]?\d{1,3})))?)"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_PERCENT = re.compile(r"%|(?:\\text\{\s*)?(?:per ?cent(?:age)?(?: points?)?|pct)\b\.?\s*\}?|个百分点", re.IGNORECASE)
_APPROXIMATE = re.compile(
    r"^(?:(?:approximately|approx\.?|ca\.|circa|about|around|roughly|exactly|precisely|only|just|simply|equal to"
    r"|a total of|indeed|in fact|\\approx"
    r"|~|约等于|约|大约|共有?|一共有?|总共有?|等于|是|有)\s*(?:=\s*)?)+",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(r"^(?:负|(?:negative|minus)\s+)(?=[$€£¥₹]?\s*[\d.\\])", re.IGNORECASE)
_CHINESE_LEAD = re.compile(r"^[\u4e00-\u9fff]{0,14}?(?:共|有|是|为|等于|得|花|用|需要?|剩下?|了|到|出)\s*(?=[-+$¥\d])")
_CHINESE_BOUND = re.compile(r"不|没|或|非|第|超|多于|少于|大于|小于|至|最|如果|若")
_MONEY_SCALES = {"K": 10**3, "M": 10**6, "B": 10**9}
MAX_CHARS = 400
MIN_PLACES = 6
"""A decimal with so many places, and so many significant digits, may stand for a number with infinitely many."""


class Number(NamedTuple):
    """A value with its percent sign, unit and precision."""

    value: Fraction
    percent: bool = False
    unit: UnitOfMeasure = UnitOfMeasure()
    places: int = 0
    """Decimal places as written; 0 for fractions and repeating decimals."""

    def may_stand_for(self, value: Fraction) -> bool:
        """Whether this decimal, with at least six places, is the value rounded or cut off at its last place."""
        if self.places < MIN_PLACES or abs(self.value) * 10**self.places < 10 ** (MIN_PLACES - 1):
            return False
        return self.shortens(value)

    def shortens(self, value: Fraction) -> bool:
        """Whether this number is the value, rounded or cut off at its last place."""
        cut = (value - self.value) * 10**self.places * (1 if value > 0 else -1)
        return bool(Fraction(-1, 2) <= cut < 1)


def parse_number(text: str) -> Number | None:
    """Parses a text that is a number, with or without a unit; None for any other text."""
    text = _NEGATIVE.sub("-", _APPROXIMATE.sub("", text.strip()))
    if not text or len(text) > MAX_CHARS:
        return None
    if (spelled := spelled_number(plain(text))) is not None:
        value, percent, rest = spelled
        return _with_suffix(value, rest, UnitOfMeasure(), 0, percent=percent)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    value_found = _value(match)
    if value_found is None:
        return None
    if (match["sign"] == "-") != (match["sign2"] == "-"):
        value_found = -value_found
    elif match["sign"] and match["sign2"]:
        return None
    money = (match["money"] or "").casefold().strip(".")
    places = len((match["plain"] or "").partition(".")[2])
    return _with_suffix(value_found, match["rest"], UnitOfMeasure(UNITS.get(money, "$" if money else "")), places)


def parse_statement(text: str) -> Number | None:
    """Parses the only number of a short statement ("that Tom has 12 apples", 一共有36个苹果). None for any other text.

    The number must stand behind a verb: the words of "the product of the first 5 primes" change its meaning.
    """
    text = plain(text)
    if len(text) > 150 or len(re.findall(r"\d+(?:[.,/]\d+)*", text)) != 1:
        return None
    if (lead := _CHINESE_LEAD.match(text)) and not _CHINESE_BOUND.search(lead[0]):
        return parse_number(text[lead.end() :])
    start = re.search(r"(?:[$€£¥₹]\s*|(?<!\S)-)?\d", text)
    lead_words = re.findall(r"\S+", text[: start.start()]) if start else []
    if start is None or not lead_words or len(lead_words) > 12:
        return None
    words = [re.sub(r"[^a-z']", "", w.casefold()) for w in lead_words]
    kept = [w for w in words if w not in ("a", "total", "of", "about", "approximately", "exactly", "only", "just")]
    if not kept or kept[-1] not in LINKING or not all(re.fullmatch(r"[A-Za-z][A-Za-z']*,?", w) for w in lead_words):
        return None
    harmful = MEANING_CHANGING - LINKING - {"about", "is", "was"}
    if harmful.intersection(words) or set(PARTS).intersection(words):
        return None
    return parse_number(text[start.start() :])


def numbers_equal(wanted: Number, given: Number) -> bool:
    """Whether two numbers are the same answer: 50% equals 50 but not 0.5, and cm are not m."""
    percent, other = (wanted, given) if wanted.percent else (given, wanted)
    if not wanted.unit.agrees(given.unit) or (percent.percent and not other.percent and other.unit != UnitOfMeasure()):
        return False
    return wanted.value == given.value or wanted.may_stand_for(given.value) or given.may_stand_for(wanted.value)


def _value(match: re.Match[str]) -> Fraction | None:
    part = {k: re.sub("[, ]", "", v) for k, v in match.groupdict().items() if v and k not in ("rest", "money")}

    def first(*names: str) -> str:
        return next((part[name] for name in names if name in part), "")

    try:
        if whole := first("whole"):
            return Fraction(whole) + Fraction(f"{first('mn', 'msn', 'mn2')}/{first('md', 'msd', 'md2')}")
        if cycle := first("cycle", "cycle2"):
            fixed = first("fixed")
            repeated = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
            return Fraction(f"{first('head') or 0}.{fixed or 0}") + repeated
        if top := first("fn", "sn", "n"):
            return Fraction(top) / Fraction(first("fd", "sd", "d"))
        return Fraction(f"{first('plain')}e{first('e', 'p', 'q') or 0}")
    except (ValueError, ZeroDivisionError):
        return None


def _with_suffix(
    value: Fraction, rest: str, unit: UnitOfMeasure, places: int, *, percent: bool = False
) -> Number | None:
    """The number with the percent sign, factor or unit that follows it. None if other text follows."""
    spaced = not rest or rest[0] in " \\^"
    rest = rest.strip()
    if not percent and (sign := _PERCENT.match(rest)):
        percent, spaced, rest = True, True, rest[sign.end() :].strip()
    word = re.match(r"(?:\\text\{\s*)?([a-zA-Z]+|[百万亿打]|千(?![米克瓦焦]))", rest)
    if word and (factor := FACTORS.get(word[1].casefold().removesuffix("s"))):
        value, places, rest = value * factor, 0, rest[: word.start(1)] + rest[word.end() :]
    if re.match(r"\s*[,.;]", rest) and not re.match(r"\s*,?\s*(?:in|altogether|overall|total|each|per|all)\b", rest):
        return None
    if unit.quantity and (scale := re.match(r"\s?([kKMB])(?:n)?(?![a-zA-Z])", rest)):
        value, places, rest = value * _MONEY_SCALES[scale[1].upper()], 0, rest[scale.end() :]
    found = parse_unit(rest, spaced=spaced)
    if found is None or (unit.quantity and found.quantity in CURRENCIES and found.quantity != unit.quantity):
        return None
    if unit.quantity:  # money: $5 per hour, $40 profit
        per = found.quantity.removeprefix(unit.quantity)
        found = UnitOfMeasure(f"{unit.quantity}/{per.removeprefix('/')}" if per else unit.quantity, found.nouns)
    return Number(value, percent, found, places)
