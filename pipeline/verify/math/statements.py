"""An answer may name what it is the value of, and give the value more than once: `x = \\frac{1}{2} = 0.5`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .expressions import parse_expression
from .numbers import parse_number
from .typography import plain
from .units import singular
from .words import FUNCTIONS, MEANING_CHANGING

_LEAD = re.compile(
    r"^(?:(?:approximately|approx\.?|ca\.|circa|about|around|roughly|exactly|precisely|only|just|simply|equal to|indeed"
    r"|in fact|\\approx|~|约等于|约|大约|等于|(?:therefore|thus),?|given by|that|equivalently)\s*(?:=\s*)?)+(?=\S)",
    re.IGNORECASE,
)
_AGAIN = r"(?:or|i\.?\s?e\b\.?,?|that is,?|=|\\approx|~|approximately|approx\.?|about|equivalently,?|即|约)(?![a-z])"
_ASIDE = re.compile(r"^(.*\S)\s*\(\s*([^()]*(?:\([^()]*\)[^()]*)*)\)$", re.DOTALL)
_ALTERNATIVE = re.compile(
    r"\s*,?\s+(?:or(?: equivalently| about| approximately)?|i\.?\s?e\b\.?|that is|equivalently|which is(?: about)?)"
    r"[,:]?\s+"
    r"|,?\s*即\s*"
)
_ROUNDED = re.compile(r"(?:rounded|to|correct to|accurate to|when rounded|nearest|保留)\b.*", re.IGNORECASE)
_SUBSCRIPT_OR_ARGUMENT = re.compile(
    r"_\s*(?:\{[^{}]*\}|\w)|(?<=(?<![A-Za-z])[A-Za-z'}])\s*\([^()]*(?:\([^()]*\)[^()]*)*\)|\^\s*\{\s*-1\s*\}"
)
_TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
_CONDITIONAL = frozenset(("all", "any", "except", "excluding", "given", "satisfying", "such", "where"))
_UNTOLD = frozenset(
    ("answer", "final", "for", "in", "is", "number", "of", "or", "result", "solution", "the", "total", "value")
)
"""Words that do not tell what is named."""
_PARTS = re.compile(r"\\approx(?![a-zA-Z])|(?<![<>!:=\\])=(?![=<>])|\\equiv(?![a-zA-Z])")


class Statement(NamedTuple):
    """What an answer says.

    All values should be the same value: those of one chain of equals signs, and those of the chains.
    """

    names: tuple[str, ...]
    """What stands on the left of the equals signs and is not a value."""
    chains: tuple[tuple[str, ...], ...]


def parse_statement(text: str) -> Statement:
    """Splits an answer into names and values. An answer of another form has one value, the text itself."""
    texts = [text]
    if aside := _ASIDE.match(texts[0]):
        inner = re.match(rf"{_AGAIN}\s*(?=\S)", aside[2].strip(), re.IGNORECASE)
        if inner:
            texts = [aside[1], aside[2].strip()[inner.end() :]]
        elif parse_number(aside[1]) and (number := parse_number(aside[2])) and not number.unit.quantity:
            texts = [aside[1], aside[2]]
        elif _is_remark(aside[2]) or _is_in_other_units(aside[1], aside[2]):
            texts = [aside[1]]
    names: list[str] = []
    chains: list[tuple[str, ...]] = []
    for part in (part for t in texts for part in _ALTERNATIVE.split(t)):
        part = re.split(r"\\implies(?![a-zA-Z])", part)[-1]
        part = re.sub(r",?\s+(?:rounded|correct|accurate) to\b.*$", "", part, flags=re.IGNORECASE)
        pieces = [_LEAD.sub("", piece) for piece in split_outside(_LEAD.sub("", part.strip()))]
        are_names = [is_name(piece) and not (len(pieces) == 2 and _is_line(piece)) for piece in pieces]
        if pieces and all(are_names):
            are_names[-1:] = [False]  # y = \sin x
        names += [piece for piece, named in zip(pieces, are_names, strict=True) if named]
        chains.append(tuple(piece for piece, named in zip(pieces, are_names, strict=True) if not named))
    return Statement(tuple(names), tuple(chain for chain in chains if chain) or ((text,),))


def restates(text: str) -> bool:
    """Whether a text says that it gives the value again: "1/2, i.e. 0.5", "3/4 (or 0.75)"."""
    return _ALTERNATIVE.search(text) is not None


def split_outside(text: str) -> list[str]:
    """Splits at equals signs, approximations and implications outside brackets."""
    found, start = [], 0
    for sign in _PARTS.finditer(text):
        before = text[: sign.start()]
        if (
            all(before.count(a) == before.count(b) for a, b in ("()", "{}", "[]"))
            and text[start : sign.start()].strip()
        ):
            found.append(text[start : sign.start()].strip())
            start = sign.end()
    return [*found, text[start:].strip()] if text[start:].strip() else found


def is_name(text: str) -> bool:
    """Whether the text names a value, without an own number: x, f(5), m + n, \\frac{AO}{BO}, (p, q), "the area"."""
    if not re.search(r"[A-Za-z\u4e00-\u9fff]", text) or len(text) > 60:
        return False
    if text.strip() in ("e", "i") or text.lstrip().startswith(("-", "+")):
        return False
    bare = _SUBSCRIPT_OR_ARGUMENT.sub("", text)
    if re.search(r"\d|[<>%$]|\\(?:le|ge|ne|pm|infty|pi|sqrt|in|ln|log|exp)(?![a-zA-Z])", bare):
        return False
    words = {w.casefold() for w in re.findall(r"(?<!\\)\b[A-Za-z]{2,}", bare)}
    return not words & ((MEANING_CHANGING | FUNCTIONS | _CONDITIONAL) - _TRIGONOMETRIC)


def names_differ(wanted: Sequence[str], given: Sequence[str]) -> bool:
    """Whether two values are of different things: x = 5 is not n = 5, and \\sin A = 1/2 not \\cos A = 1/2.

    A symbol may stand for words, and y = 2x is f(x) = 2x.
    """
    return bool(wanted and given) and not any(_may_be_same(w, g) for w in wanted for g in given)


def _may_be_same(name: str, other: str) -> bool:
    texts = [re.sub(r"\s", "", text) for text in (name, other)]
    if texts[0] == texts[1]:
        return True
    words, others = _words_of(name), _words_of(other)
    if words is not None or others is not None:
        return not words or not others or bool(words & others)
    functions = [re.fullmatch(r"[a-zA-Z]('*)\([a-z]\)", text) for text in texts]
    if (function := functions[0] or functions[1]) and not all(functions):
        variable = re.fullmatch(r"[a-zA-Z]('*)(?:_\{?[a-z]\}?)?", texts[1] if functions[0] else texts[0])
        return variable is not None and variable[1] == function[1]
    values = [parse_expression(_points(text)) for text in texts]
    return values[0] is not None and values[0] == values[1]


def _words_of(name: str) -> set[str] | None:
    """The words of a name that tell what it is; None for a symbol."""
    words = re.findall(r"(?<![\\A-Za-z])(?:[a-z]{2,}|[A-Z][a-z]+)|[\u4e00-\u9fff]+", plain(name))
    if not words or ("\\text" not in name and parse_expression(name) is not None):
        return None  # also for a product of letters
    return {singular(word.casefold()) for word in words} - _UNTOLD


def _points(name: str) -> str:
    """Segments and angles by their points: `\\overline{BA}` and |AB| are AB, and CBA is the angle ABC."""
    name = re.sub(r"\\overline\{([A-Z]{2})\}|\|([A-Z]{2})\|", r"\1\2", re.sub(r"^m(?=\\angle)", "", name))
    if angle := re.fullmatch(r"\\angle(?:\{)?([A-Z])(?:([A-Z])([A-Z]))?(?:\})?", name):
        return f"\\angle {min(angle[1], angle[3])}{angle[2]}{max(angle[1], angle[3])}" if angle[2] else angle[1]
    return name


def _is_line(text: str) -> bool:
    """Whether an equation with this side is one of a line: x + y = 5. A longer chain computes: x + y = 2 + 3 = 5."""
    bare = _SUBSCRIPT_OR_ARGUMENT.sub("", text)
    coordinates = set(re.findall(r"(?<![A-Za-z\\])[xyz](?![A-Za-z])", bare))
    return len(coordinates) > 1 and re.search(r"[-+*/^]", bare) is not None


def _is_in_other_units(text: str, aside: str) -> bool:
    """Whether the aside converts the value: 90 minutes (1.5 hours)."""
    value, other = parse_number(text), parse_number(aside)
    return bool(value and other and value.unit.quantity and other.unit.quantity not in ("", value.unit.quantity))


def _is_remark(text: str) -> bool:
    """Whether words in parentheses only explain: "(in dollars)", "(rounded to 2 places)", and not "(mod 7)"."""
    words = re.findall(r"[A-Za-z]{2,}", plain(text).casefold())
    if _ROUNDED.match(text.strip()):
        return True
    if not words or re.search(r"\d|\\", text) or (MEANING_CHANGING | FUNCTIONS).intersection(words):
        return False
    return parse_expression(text) is None  # 2(xy) is a product
