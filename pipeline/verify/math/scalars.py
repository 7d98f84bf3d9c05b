"""One value: a plain number or an expression, with its unit, and statements that give it more than once."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from sympy import Expr, Rational

from .expressions import parse_expression
from .numbers import Number, numbers_equal, parse_number
from .numbers import parse_statement as parse_number_statement
from .statements import names_differ, parse_statement
from .symbolic import approximate, expressions_equal
from .typography import plain
from .units import UnitOfMeasure, split_unit

_TRIGONOMETRY = re.compile(r"sin|cos|tan|cot|sec|csc")
_APPROXIMATELY = re.compile(r"(?:about|approx|approximately|roughly|\\approx|~|约|大约)", re.IGNORECASE)
_POSITIVE = re.compile(r"^positive\s+", re.IGNORECASE)
_NEGATIVE = re.compile(r"^(?:negative|minus)\s+", re.IGNORECASE)
_CALCULATION = re.compile(r"\d.*?(?:[-+*/]|\\times|\\cdot|\bof\b).*\d", re.DOTALL)
_SHORT_APPROXIMATION = 2
"""Digits that a rounded value beside the exact one must have."""


class Scalar(NamedTuple):
    """One value with its unit: a plain number, or an expression."""

    value: Expr
    number: Number | None
    unit: UnitOfMeasure


@lru_cache(maxsize=4096)
def read_scalar(text: str) -> Scalar | None:
    """The one value of a text; None if the text is not completely one."""
    if (number := parse_number(text)) is not None:
        return Scalar(Rational(number.value.numerator, number.value.denominator), number, number.unit)
    text = _POSITIVE.sub("", _NEGATIVE.sub("-", text))
    body, unit = split_unit(text)
    value = (
        parse_expression(text) if (unit.quantity == "degree" and _TRIGONOMETRY.search(text)) else parse_expression(body)
    )
    if value is None:
        return None
    number = Number(Fraction(int(value.p), int(value.q)), unit=unit) if value.is_Rational else None
    return Scalar(value, number, unit)


def values_equal(gold: str, answer: str) -> bool:
    """Whether two texts are the same value, or the same words."""
    if squeezed(gold) == squeezed(answer):
        return True
    wanted = read_scalar(gold)
    given = read_scalar(answer)
    if wanted is None:
        return given is None and _words(gold) == _words(answer) != ""
    if given is None:
        number = parse_number_statement(answer) if wanted.number is not None else None
        return number is not None and wanted.number is not None and numbers_equal(wanted.number, number)
    if wanted.number is not None and given.number is not None:
        return numbers_equal(wanted.number, given.number)
    if not wanted.unit.agrees(given.unit):
        return False
    return expressions_equal(wanted.value, given.value) or _stands_for(wanted, given) or _stands_for(given, wanted)


def statements_equal(gold: str, answer: str) -> bool:
    """Whether the answer states the value of the gold answer, and no other value beside it."""
    wanted, given = parse_statement(gold), parse_statement(answer)
    golds = [value for chain in wanted.chains for value in chain]
    if names_differ(wanted.names, given.names) or not all(restates_value(golds[0], other) for other in golds):
        return False  # if its own values differ, the gold answer is an equation
    for chain in given.chains:
        value = next((v for v in chain if any(values_equal(w, v) for w in golds)), None)
        if value is not None:
            # What is left of the last sign may be a calculation with units: $5 + $3 = $8.
            others = [v for v in chain if value != chain[-1] or not (_is_unreadable(v) and _CALCULATION.search(v))]
            others += [v for other in given.chains if other is not chain for v in other]
            return all(restates_value(value, other) for other in others)
    return False


def rounds(exact: str, rounded: str) -> bool:
    """Whether the second text is the value of the first, rounded or cut off at its last place.

    Of two decimals, one is the rounded value only if it says so: "9.9 or 10" are two values.
    """
    value, decimal = read_scalar(exact), read_scalar(rounded)
    if value is None or decimal is None or decimal.number is None or not value.unit.agrees(decimal.unit):
        return False
    is_decimal = value.number is not None and (value.number.places > 0 or value.number.value.denominator == 1)
    if is_decimal and not _APPROXIMATELY.match(rounded):
        return False
    number = approximate(value.value)
    digits = len(str(abs(decimal.number.value.numerator)))
    if number is None or (not decimal.number.places and decimal.number.value.denominator > 1):
        return False
    return digits >= _SHORT_APPROXIMATION and decimal.number.shortens(number)


def is_value(text: str) -> bool:
    """Whether the text is a value that can be compared."""
    return any(not _is_unreadable(value) for chain in parse_statement(text).chains for value in chain)


def _is_unreadable(text: str) -> bool:
    return read_scalar(text) is None and parse_number_statement(text) is None


def restates_value(value: str, other: str) -> bool:
    """Whether another value of the same answer is equal to it, a rounded one, or the same as a percentage."""
    if other == value or values_equal(value, other) or rounds(value, other) or rounds(other, value):
        return True
    numbers = parse_number(value), parse_number(other)
    if numbers[0] is None or numbers[1] is None or numbers[0].percent == numbers[1].percent:
        return False
    shares = [n.value / (100 if n.percent else 1) for n in numbers if n]
    return shares[0] == shares[1]


def _stands_for(decimal: Scalar, exact: Scalar) -> bool:
    if decimal.number is None or not decimal.number.places or exact.number is not None:
        return False
    value = approximate(exact.value)
    return value is not None and decimal.number.may_stand_for(value)


def _words(text: str) -> str:
    """Words without case, articles, spaces and punctuation. Empty for mathematics."""
    if re.search(r"[\\{}^_=<>+*/|]|\d\W+\d", plain(text)):
        return ""
    words = re.sub(r"^(?:the|an?)\s+", "", plain(text).casefold())
    return re.sub(r"[\s.,;'\"]|(?<=\w)-(?=\w)", "", words)


def squeezed(text: str) -> str:
    """The text without spaces, except between digits."""
    return re.sub(r"\s", "", re.sub(r"(?<=\d)\s+(?=\d)", "_", text))
