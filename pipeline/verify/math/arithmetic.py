"""Operations on sympy values, with limits on what is computed."""

from __future__ import annotations

import re
from fractions import Fraction

import sympy
from sympy import Expr, Rational

MAX_BITS = 200_000
"""Larger integers are not computed: such an expression equals only the same text."""
MAX_FACTORIAL = 5_000
MAX_DEGREE = 10_000


class UnreadableError(Exception):
    """The text is no expression, or its value is too large."""


def number(text: str) -> Expr:
    """The exact value of digits, which may be a decimal or a repeating decimal."""
    text = text.replace(",", "")
    if cycle := re.fullmatch(r"(\d*)\.(\d*)\\[a-z]+\s*\{\s*(\d+)\s*\}", text):
        whole, fixed, digits = cycle.groups()
        value = Fraction(f"{whole or 0}.{fixed or 0}") + Fraction(int(digits), 10 ** len(digits) - 1) / 10 ** len(fixed)
    else:
        value = Fraction(text)
    return Rational(value.numerator, value.denominator)


def raised(base: Expr, exponent: Expr) -> Expr:
    """The power, unless its exponent or its result is too large."""
    if exponent.is_Integer:
        size = max(int(base.p).bit_length(), int(base.q).bit_length()) if base.is_Rational else 0
        if abs(int(exponent)) * size > MAX_BITS or (not base.is_Rational and abs(int(exponent)) > MAX_DEGREE):
            raise UnreadableError
    elif exponent.is_Rational and max(abs(int(exponent.p)), int(exponent.q)) > MAX_DEGREE:
        raise UnreadableError
    return finite(sympy.Pow(base, exponent))


def root(value: Expr, index: Expr) -> Expr:
    """The root, for odd roots of negative numbers the real one."""
    if index == 0:
        raise UnreadableError
    if value.is_Rational and value < 0 and index.is_Integer and index % 2:
        return -raised(-value, 1 / index)  # the real root
    return raised(value, 1 / index)


def factorial(value: Expr) -> Expr:
    """The factorial of an integer or of a variable."""
    if value.is_number and not (value.is_Integer and 0 <= value <= MAX_FACTORIAL):
        raise UnreadableError
    return sympy.factorial(value)


def binomial(top: Expr, bottom: Expr) -> Expr:
    """The binomial coefficient of integers or variables."""
    if any(v.is_number and not (v.is_Integer and 0 <= v <= MAX_FACTORIAL) for v in (top, bottom)):
        raise UnreadableError
    return sympy.binomial(top, bottom)


def finite(value: Expr) -> Expr:
    """The value itself; UnreadableError for a division by zero."""
    if value.has(sympy.zoo, sympy.nan):
        raise UnreadableError
    return value
