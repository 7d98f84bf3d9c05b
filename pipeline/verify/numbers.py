"""Parses numbers as people write them: separators, fractions, mixed numbers, powers of ten, percent, money, units,
words."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from .words import CHINESE, FACTORS, MEANING_CHANGING, ONES, POWERS, TENS, UNITS

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<money>US\$|[$€£¥])?\s*(?P<sign2>[-+]?)\s*"
    r"(?:(?P<whole>\d+)\s*"
    r"(?:\\frac\s*\{(?P<mn>\d+)\}\s*\{(?P<md>\d+)\}|(?<= )(?P<mn2>\d+)\s*/\s*(?P<md2>\d+))"
    rf"|\\frac\s*\{{\s*(?P<fn>[-+]?{_DIGITS})\s*\}}\s*\{{\s*(?P<fd>[-+]?{_DIGITS})\s*\}}|\\frac\s*(?P<sn>\d)\s*(?P<sd>\d)"
    rf"|\(?(?P<n>{_DIGITS})\s*/\s*(?P<d>{_DIGITS})\)?"
    rf"|(?P<plain>{_DIGITS})"
    r"(?:[eE](?P<e>[-+]?\d{1,3})|\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*\{?\s*(?P<p>[-+]?\d{1,3})\s*\}?)?)"
    r"(?P<rest>.*)",
    re.DOTALL,
)
MAX_CHARS = 400


class Number(NamedTuple):
    """A value with its percent sign, unit and precision."""

    value: Fraction
    percent: bool = False
    unit: str = ""
    """A unit that names a quantity, such as "cm^2", "kph" or "$"; empty for others."""
    digits: int = 0
    """Decimal places as written; 0 for fractions."""


def parse_number(text: str) -> Number | None:
    """Parses a text that is a number, with or without a unit; None for any other text."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        return None
    if (spelled := _parse_words(text)) is not None:
        return spelled
    if percent := re.fullmatch(r"百分之\s*(\d+(?:\.\d+)?)", text):
        return Number(Fraction(percent[1]), percent=True)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    if "-" in (match["sign"], match["sign2"]):
        value = -value
    return _parse_suffix(value, match)


def parse_lone_number(text: str) -> Number | None:
    """Parses the only number of a short statement ("Janet makes $18 every day"). None if a word changes its meaning."""
    words = re.findall(r"[a-z']+", text.casefold())
    numerals = re.findall(r"\d(?:[\d,. ]*\d)?(?:/\d+)?", text)
    if (
        len(text) > 150
        or len(numerals) != 1
        or MEANING_CHANGING.intersection(words)
        or re.search(r"[+*^_=<>\\|{}#@]", text)
    ):
        return None
    start = text.index(numerals[0])
    lead = text[:start]
    signed = re.search(r"(?:^|\s)(-?\s*(?:US\$|[$€£¥])?\s*-?)$", lead)
    if re.search(r"[a-zA-Z\d]-?$", lead) or re.search(r"不|没|或|非", text):
        return None
    begin = start - len(signed.group(1)) if signed else start
    return parse_number(text[begin:])


def numbers_equal(wanted: Number, given: Number) -> bool:
    """Whether two numbers are the same answer: 50% equals 50 but not 0.5, and cm are not m."""
    if wanted.unit and given.unit and wanted.unit != given.unit:
        return False
    if wanted.value == given.value:
        return True
    # A decimal with six or more places may stand for a fraction with infinitely many.
    places = max(wanted.digits, given.digits)
    if places < 6 or 0 < min(wanted.digits, given.digits) < 6:
        return False
    return (
        abs(wanted.value - given.value) <= Fraction(1, 10**6) and wanted.value.denominator > 1 < given.value.denominator
    )


def _value(match: re.Match[str]) -> Fraction | None:
    part = {
        k: v.replace(",", "").replace(" ", "") if v and k not in ("rest", "money") else v
        for k, v in match.groupdict().items()
    }
    try:
        if part["whole"]:
            return Fraction(int(part["whole"])) + Fraction(
                int(part["mn"] or part["mn2"]), int(part["md"] or part["md2"])
            )
        top, bottom = part["fn"] or part["sn"] or part["n"], part["fd"] or part["sd"] or part["d"]
        if top and bottom:
            return Fraction(top) / Fraction(bottom)
        return Fraction(part["plain"]) * Fraction(10) ** int(part["e"] or part["p"] or 0)
    except (ValueError, ZeroDivisionError):
        return None


def _parse_suffix(value: Fraction, match: re.Match[str]) -> Number | None:
    """The number with the percent sign, factor or unit that follows it. None if other text follows."""
    rest = match["rest"]
    no_space = bool(rest) and not rest[:1].isspace()
    rest = rest.strip()
    percent = re.match(r"%|per ?cent(?:age)?(?: points?)?\b|个百分点", rest, re.IGNORECASE)
    if percent:
        rest = rest[percent.end() :].strip()
    word = re.match(r"[a-zA-Z]+|[百千万亿]", rest)
    if word and word.group().casefold().removesuffix("s") in FACTORS:
        value *= FACTORS[word.group().casefold().removesuffix("s")]
        rest = rest[word.end() :].strip()
    unit = _unit(rest, no_space=no_space and not percent)
    if unit is None:
        return None
    digits = len((match["plain"] or "").partition(".")[2])
    return Number(value, bool(percent), unit or UNITS.get((match["money"] or "").casefold(), ""), digits)


def _unit(text: str, *, no_space: bool) -> str | None:
    """The unit in the words after a number. Empty for counted things ("apples"), None if the words are not a unit.

    Args:
        no_space: no space separates the words from the number.
    """
    text = text.strip(" .()[]*").replace("{", "").replace("}", "")
    text = re.sub(r"^of\b\s*", "", text)
    if not text:
        return ""
    if (
        not re.match(r"[a-zA-Z\u4e00-\u9fff$€£¥¢°/]", text)
        or not re.fullmatch(r"[a-zA-Z\u4e00-\u9fff$€£¥¢°'/^\d\s().,-]{1,80}", text)
        or re.search(r"(?<!\^)\d", text)
    ):
        return None
    if re.search(r"不|没|或|非", text):
        return None
    words = re.findall(r"[a-zA-Z']+|平方|立方|[\u4e00-\u9fff]+|[$€£¥¢]|/|\^\d", text.casefold())
    if MEANING_CHANGING.intersection(words) or len(words) > 12:
        return None
    if re.search(r"[-,]", text) and not re.fullmatch(r"[a-zA-Z]+(?:-[a-zA-Z]+)*(?:[\s,].*)?", text):
        return None
    if no_space and re.match(r"[a-zA-Z]", text) and words[0].removesuffix("s") not in UNITS and words[0] not in UNITS:
        return None
    if any(len(w) == 1 and re.match(r"[a-z]", w) and w not in UNITS and w != "a" for w in words):
        return None
    return _canonical(words)


def _canonical(words: list[str]) -> str:
    """The unit in its canonical spelling; empty if a word is not a unit that names a quantity."""
    parts, power = [], ""
    for word in words:
        if word in POWERS:
            power = POWERS[word]
        elif word in ("per", "/", "a", "an", "each", "每"):
            parts.append("/")
        elif word.startswith("^") or word in ("am", "pm"):
            parts.append(word)
        else:
            known = UNITS.get(word) or UNITS.get(word.removesuffix("s"))
            if known is None:
                return "".join(parts) if parts and parts[-1] != "/" else ""
            parts.append(f"{known}^{power}" if power else known)
            power = ""
    return "".join(parts).replace("km/h", "kph").replace("mi/h", "mph")


def _parse_words(text: str) -> Number | None:
    """Parses a small number written in words."""
    words = re.findall(r"[a-z]+", text.casefold())
    if words and re.fullmatch(r"[a-zA-Z -]+", text):
        if words[0] in TENS:
            ones = ONES.index(words[1]) if len(words) > 1 and words[1] in ONES[1:10] else 0
            rest = words[2:] if ones else words[1:]
            value = 10 * (TENS.index(words[0]) + 2) + ones
        elif words[0] in ONES:
            value, rest = ONES.index(words[0]), words[1:]
        else:
            return None
        if rest and rest[0] in FACTORS:
            value, rest = value * FACTORS[rest[0]], rest[1:]
        if set(rest).intersection([*ONES, *TENS, *FACTORS]):
            return None
        percent = rest[:1] == ["percent"]
        unit = _unit(" ".join(rest[1:] if percent else rest), no_space=False)
        return None if unit is None else Number(Fraction(value), percent, unit)
    if re.fullmatch(f"[{CHINESE}][个只块元]?", text):
        return Number(Fraction(CHINESE.index(text[0])))
    return None
