"""Whether two expressions have the same value: exact rationals first, then digits, then math-verify."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from math_verify import verify
from sympy import Add, Expr, I, Rational, Symbol

MAX_DIGITS = 400
"""Digits to which a difference is computed before it counts as zero."""
_POINTS = (
    (Rational(17, 7), Rational(29, 11), Rational(41, 13), Rational(53, 17), Rational(71, 19)),
    (Rational(5, 13), Rational(3, 11), Rational(7, 17), Rational(2, 7), Rational(9, 23)),
    (Rational(-13, 6), Rational(19, 5), Rational(-23, 9), Rational(11, 3), Rational(-31, 8)),
    (Rational(-8, 15), Rational(-16, 21), Rational(37, 10), Rational(-4, 9), Rational(14, 3)),
)
"""Values for the variables, in the order of their names."""


@lru_cache(maxsize=4096)
def expressions_equal(wanted: Expr, given: Expr) -> bool:
    """Whether the expressions have the same value.

    Rationals are compared exactly. Expressions whose values differ at one of four points are refused: math-verify takes
    values below 2^-54 for zero. math-verify decides on the rest.
    """
    if wanted == given:
        return True
    if (wanted.is_Rational and given.is_Rational) or wanted.is_infinite or given.is_infinite:
        return False
    if _differ(wanted, given):
        return False
    # With positive variables, sqrt(a/b) is sqrt(a)/sqrt(b). Where the sign matters, the points have told.
    positive = {s: Symbol(s.name, positive=True) for s in wanted.free_symbols | given.free_symbols}
    return bool(verify(wanted.xreplace(positive), given.xreplace(positive), timeout_seconds=None))


def approximate(value: Expr) -> Fraction | None:
    """A real constant to 40 digits; None for others."""
    if value.free_symbols:
        return None
    found = value.evalf(40)
    if found.is_Rational:
        return Fraction(int(found.p), int(found.q))
    return Fraction(str(found)) if found.is_Float and found.is_finite else None


def _differ(wanted: Expr, given: Expr) -> bool:
    """Whether the values differ at a point where both are real, or neither."""
    symbols = sorted(wanted.free_symbols | given.free_symbols, key=str)
    for numbers in _POINTS if symbols else _POINTS[:1]:
        at = {s: numbers[i % len(numbers)] + i // len(numbers) for i, s in enumerate(symbols)}
        values = [e.xreplace(at).evalf(15, maxn=MAX_DIGITS) for e in (wanted, given)]
        if not all(v.is_number and v.is_finite for v in values):
            continue
        if len({_is_real(v) for v in values}) == 2 and not (wanted.has(I) or given.has(I)):
            continue  # \ln x^2 and 2\ln x are equal where both are real
        difference = Add(wanted.xreplace(at), -given.xreplace(at)).evalf(5, maxn=MAX_DIGITS)
        if not all(part == 0 or part._prec == 1 for part in difference.as_real_imag()):
            return True
    return False


def _is_real(value: Expr) -> bool:
    imaginary = value.as_real_imag()[1]
    return bool(imaginary == 0 or imaginary._prec == 1)
