"""Numbers in words, English and Chinese: "one hundred twenty", "two and a half", "three quarters", 负五, 三分之二."""

from __future__ import annotations

import re
from fractions import Fraction

from .words import CARDINALS, FACTORS, PARTS

_SCALES = {name: factor for name, factor in FACTORS.items() if name.isascii() and len(name) > 2 and factor != 12}
_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_CHINESE_NUMBER = "[零〇一二两三四五六七八九十百千万亿]"
_CHINESE = re.compile(
    rf"(?P<sign>负)?(?:百分之(?P<percent>{_CHINESE_NUMBER}+|\d+(?:\.\d+)?)"
    rf"|(?:(?P<units>{_CHINESE_NUMBER}+|\d+)又)?(?P<bottom>{_CHINESE_NUMBER}+|\d+)分之(?P<top>{_CHINESE_NUMBER}+|\d+)"
    rf"|(?P<only>一半|半(?!径))|(?P<whole>{_CHINESE_NUMBER}+)(?:点(?P<places>[零〇一二三四五六七八九]+))?(?P<half>个?半)?)"
)
MAX_CHARS = 120


def spelled_number(text: str) -> tuple[Fraction, bool, str] | None:
    """The number that the text begins with, whether it is a percentage, and the text after it."""
    if len(text) > MAX_CHARS:
        return None
    if match := _CHINESE.match(text):
        return _chinese(match, text)
    words = list(re.finditer(r"[a-z]+|\d+|[^\sa-z\d-]", text.casefold()))
    names = [w[0] for w in words]
    sign, i = (-1, 1) if names[:1] in (["negative"], ["minus"]) else (1, 0)
    value, used = _english(names[i:])
    if not used:
        return None
    end = words[i + used - 1].end()
    return sign * value, False, text[end:]


def _english(words: list[str]) -> tuple[Fraction, int]:
    """The value of the words at the start, and how many they are."""
    whole, used = _whole(words)
    rest = words[used:]
    if not used and words[:1] in (["half"], ["a"], ["an"]):
        if words[0] == "half":
            return Fraction(1, 2), 1
        if words[1:2] and words[1] in PARTS:
            return Fraction(1, PARTS[words[1]]), 2
        if words[1:2] == ["dozen"]:
            return Fraction(12), 2
        return (Fraction(_SCALES[words[1]]), 2) if words[1:2] and words[1] in _SCALES else (Fraction(0), 0)
    if not used:
        return Fraction(0), 0
    if rest[:1] and rest[0] in PARTS and (whole == 1) == (not rest[0].endswith("s") and rest[0] != "halves"):
        return Fraction(whole, PARTS[rest[0]]), used + 1
    if rest[:2] in (["and", "a"], ["and", "an"]) and len(rest) > 2 and rest[2] in PARTS:
        return whole + Fraction(1, PARTS[rest[2]]), used + 3
    if rest[:1] == ["and"]:
        top, more = _whole(rest[1:])
        if more and rest[1 + more : 2 + more] and rest[1 + more] in PARTS:
            return whole + Fraction(top, PARTS[rest[1 + more]]), used + more + 2
    if rest[:1] == ["point"]:
        places = [CARDINALS[w] for w in rest[1:] if w in CARDINALS and CARDINALS[w] < 10]
        if places and all(w in CARDINALS for w in rest[1 : 1 + len(places)]):
            return whole + Fraction(int("".join(map(str, places))), 10 ** len(places)), used + 1 + len(places)
    return Fraction(whole), used


def _whole(words: list[str]) -> tuple[int, int]:
    """ "two thousand three hundred and five": the value, and how many words it takes."""
    total = group = used = 0
    last = 10**18
    for i, word in enumerate(words):
        if word.isdigit() and i == 0:
            total_digits = int(word)
            return (total_digits, 1) if words[1:2] and words[1] in PARTS else (0, 0)
        if word in CARDINALS:
            if group % 100 and not (group % 10 == 0 and group % 100 >= 20 and 0 < CARDINALS[word] < 10):
                break
            group += CARDINALS[word]
            used = i + 1
        elif word in _SCALES and used == i and i:
            scale = _SCALES[word]
            if scale == 100:
                group *= 100
            elif scale < last:
                total, group, last = total + group * scale, 0, scale
            else:
                break
            used = i + 1
        elif word != "and" or not words[i + 1 : i + 2] or words[i + 1] not in CARDINALS or words[i - 1] not in _SCALES:
            break
    return total + group, used


def _chinese(match: re.Match[str], text: str) -> tuple[Fraction, bool, str] | None:
    sign = -1 if match["sign"] else 1
    rest = text[match.end() :]
    if match["percent"]:
        return sign * _chinese_whole(match["percent"]), True, rest
    if match["top"]:
        bottom, whole = _chinese_whole(match["bottom"]), _chinese_whole(match["units"] or "零")
        return (sign * (whole + _chinese_whole(match["top"]) / bottom), False, rest) if bottom else None
    if match["only"]:
        return Fraction(sign, 2), False, rest
    value = _chinese_whole(match["whole"])
    if match["places"]:
        value += Fraction(int("".join(str(_DIGITS[c]) for c in match["places"])), 10 ** len(match["places"]))
    return sign * (value + (Fraction(1, 2) if match["half"] else 0)), False, rest


def _chinese_whole(text: str) -> Fraction:
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return Fraction(text)
    total = section = digit = 0
    if not re.search("[十百千万亿]", text):
        return Fraction(int("".join(str(_DIGITS[c]) for c in text)))
    for c in text:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _PLACES:
            section += (digit or 1) * _PLACES[c]
            digit = 0
        else:
            factor = 10**4 if c == "万" else 10**8
            total = (total + section + digit) * factor if factor == 10**8 else total + (section + digit) * factor
            section = digit = 0
    return Fraction(total + section + digit)
