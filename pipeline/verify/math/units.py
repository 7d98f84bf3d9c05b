"""The unit after a number or an expression: `cm^2`, `\\text{ km/h}`, "square inches", "red apples"."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from .words import CARDINALS, CURRENCIES, LETTERS, MEANING_CHANGING, NO_VARIABLES, POWERS, SPOKEN_FUNCTIONS, UNITS

MAX_WORDS = 12
_TOKEN = re.compile(
    r"\s*(?:\\text\{(?P<text>[^{}]*)\}|(?P<circle>\^\\circ)\s*(?:\\text\{\s*)?(?P<scale>[CF](?![a-zA-Z]))?\s*\}?"
    r"|\\(?P<ohm>Omega)(?![a-zA-Z])|\^\s*\{?\s*(?P<power>-?\d)\s*\}?"
    r"|(?P<word>[a-zA-Z]+(?:['-][a-zA-Z]+)*|[\u4e00-\u9fff]+|[$€£¥¢₹°])|(?P<slash>/|\bper\b)"
    r"|(?P<mark>,(?=\s*[a-zA-Z])|\\cdot(?![a-zA-Z])|[().*]))\s*"
)
_WORD = re.compile(r"\s*(?:(?P<word>[a-zA-Z]+(?:['-][a-zA-Z]+)*\.?|[\u4e00-\u9fff]+|[$€£¥¢₹°])|(?P<slash>/)"
                   r"|\^\s*\{?\s*(?P<power>-?\d)\s*\}?|(?P<mark>[(),.*·]|\\cdot(?![a-zA-Z])))\s*")  # fmt: skip
_HARMLESS = frozenset(("squared", "cubed", "square", "cube"))
_FILLING = "of the a an in total all altogether overall each every per on unit units exactly and"
_FILLERS = frozenset(_FILLING.split())


class UnitOfMeasure(NamedTuple):
    """What a number counts or measures."""

    quantity: str = ""
    """The canonical unit, such as "cm^2", "kph" or "$"; empty for counted things."""
    nouns: frozenset[str] = frozenset()
    """The counted things, in the singular."""

    @property
    def money(self) -> str:
        """The currency of an amount of money: "$" of "$/h"; empty for others."""
        currency = self.quantity.partition("/")[0]
        return currency if currency in CURRENCIES else ""

    def agrees(self, other: UnitOfMeasure) -> bool:
        """Whether neither contradicts the other: cm are not m, and rabbits are no chickens."""
        if self.nouns and other.nouns and not self.nouns & other.nouns:
            return False
        if self.quantity and other.quantity:
            return self.quantity == other.quantity or self.money == other.quantity or other.money == self.quantity
        if self.nouns and other.nouns:
            return True
        measured, counted = (self, other) if self.quantity else (other, self)
        return not (measured.quantity and counted.nouns) or measured.quantity in map(_known, counted.nouns)


class _Word(NamedTuple):
    text: str
    is_text: bool


def parse_unit(text: str, *, spaced: bool = True) -> UnitOfMeasure | None:
    """The unit that the text is; None if it is none.

    Args:
        text: what follows the number.
        spaced: a space separates it from the number. `5m` is a product, `5 m` a length.
    """
    words = _words(text)
    if words is None or len(words) > MAX_WORDS:
        return None
    words = _without_harmless(words)
    lowered = {w.text.casefold() for w in words}
    harmful = (MEANING_CHANGING - _HARMLESS) | (SPOKEN_FUNCTIONS - UNITS.keys()) | CARDINALS.keys()
    if lowered & harmful or re.search(r"不|没|或|非", text):
        return None
    if words and not _may_begin(words, spaced=spaced):
        return None
    for before, word in pairwise(words):
        if word.text in ("squared", "cubed") and not _known(before.text):
            return None
        behind_unit = word.text in LETTERS and (before.text == "/" or _known(before.text) is not None)
        if len(word.text) == 1 and word.text.isalpha() and not (word.is_text or word.text == "a" or behind_unit):
            return None
    return _canonical(words)


def _without_harmless(words: list[_Word]) -> list[_Word]:
    """The words without those that only change the meaning of others: "12 more apples", "3 times", "12 ways to win"."""
    texts = [w.text.casefold() for w in words]
    if texts[:1] == ["times"] and len(words) == 1:
        return []
    if texts[:1] in (["more"], ["fewer"]) and len(words) > 1 and "than" not in texts:
        return words[1:]
    return words[: texts.index("to")] if "to" in texts[1:-1] and len(texts[texts.index("to") + 1]) > 1 else words


def _may_begin(words: list[_Word], *, spaced: bool) -> bool:
    """Whether the first word can be of a unit, and not of a product or a quotient."""
    first = words[0]
    if first.text == "/":
        return len(words) > 1 and len(words[1].text) > 1 and _known(words[1].text) is not None
    if first.text[0] == "^" or first.text in ("squared", "cubed"):
        return False
    if first.is_text or not first.text.isascii() or not first.text.isalpha():
        return True
    if len(first.text) == 1:
        return spaced and first.text in NO_VARIABLES
    return spaced or _known(first.text) is not None


def split_unit(text: str) -> tuple[str, UnitOfMeasure]:
    """An expression without the unit behind it, and the unit: `12\\pi \\text{ cm}^2`, "36\\pi cubic inches"."""
    end = re.search(
        r"(?:\s*(?:\\text\{[^{}]{0,40}\}(?:\s*\^\s*\{?\d\}?)?\s*/?|\^\\circ\s*$|\\Omega\s*$))+$"
        r"|(?:(?<=[\d}\s)])|(?<=\\pi))(?:\s+(?:[a-zA-Z]{2,}(?:/[a-zA-Z]+)?(?:\^\{?\d\}?)?|/)){1,5}$",
        text[-120:],
    )
    if end is None:
        return text, UnitOfMeasure()
    start = len(text) - len(text[-120:]) + end.start()
    unit = parse_unit(text[start:])
    if unit is None or not text[:start].strip() or (unit.nouns and not unit.quantity and "\\text" not in text[start:]):
        return text, UnitOfMeasure()
    return text[:start].strip(), unit


def _words(text: str) -> list[_Word] | None:
    """The words, slashes and powers of a text that has nothing else; None if it has."""
    found: list[_Word] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        if token["text"] is not None:
            inner = 0
            while inner < len(token["text"]):
                word = _WORD.match(token["text"], inner)
                if word is None:
                    return None
                inner = word.end()
                if not word["mark"]:
                    found.append(_Word(f"^{word['power']}" if word["power"] else word[0].strip(" ."), is_text=True))
        elif token["circle"]:
            found.append(_Word({"C": "celsius", "F": "fahrenheit"}.get(token["scale"] or "", "degree"), is_text=True))
        elif token["ohm"]:
            found.append(_Word("ohm", is_text=True))
        elif token["power"]:
            found.append(_Word(f"^{token['power']}", is_text=True))
        elif not token["mark"]:
            found.append(_Word(token[0].strip(), is_text=False))
    return found


def _known(word: str) -> str | None:
    if len(word) == 1 and word in LETTERS:
        return LETTERS[word]
    lowered = word.casefold()
    return UNITS.get(lowered) or UNITS.get(lowered.removesuffix("s")) if len(word) > 1 or not word.isalpha() else None


def _canonical(words: list[_Word]) -> UnitOfMeasure:
    parts: list[str] = []
    nouns: set[str] = set()
    power = ""
    for i, word in enumerate(words):
        lowered = word.text.casefold()
        if lowered == "in" and not word.is_text and len(words) > i + 1 and words[i + 1].text.isalpha():
            continue  # "in total"
        if lowered in ("squared", "cubed"):
            parts.append(f"^{POWERS[lowered]}")
        elif lowered in POWERS:
            power = POWERS[lowered]
        elif lowered in ("per", "/", "a", "an", "each", "每") and parts:
            parts.append("/")
        elif lowered.startswith("^"):
            parts.append(lowered)
        elif (known := _known(word.text) or _chinese(word.text)) and not nouns:
            power = "^" + power if power else ("^" + POWERS[word.text[:2]] if word.text[:2] in POWERS else "")
            parts.append(f"{known}{power}")
            power = ""
        elif lowered not in _FILLERS:
            nouns.add(singular(lowered))
    quantity = "".join(parts).rstrip("/").replace("km/h", "kph").replace("mi/h", "mph")
    quantity = re.sub("^degree(?=celsius|fahrenheit)", "", quantity)
    found = UnitOfMeasure(quantity, frozenset(nouns))
    return found if found.money or not quantity else UnitOfMeasure(quantity)


def _chinese(word: str) -> str | None:
    """The unit of 平方厘米, or of a word with a measure word before it."""
    return UNITS.get(word[2:]) if word[:2] in POWERS else None


def singular(noun: str) -> str:
    """An English noun without its plural's ending, as far as endings tell."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    return noun[:-2] if noun.endswith(("ches", "shes", "sses", "xes")) else noun.removesuffix("s")
