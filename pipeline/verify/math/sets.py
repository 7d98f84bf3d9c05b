"""Intervals, inequalities and their unions as sympy sets, and equations: `0 < x < 7` is `(0, 7)`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import sympy
from sympy import Expr, FiniteSet, Interval, S, Set, Symbol

from .expressions import parse_expression
from .shapes import split_list
from .symbolic import expressions_equal
from .typography import plain

_RELATION = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<=|>=|!=|=<|=>|<|>|=")
_SIGNS = {"\\le": "<=", "=<": "<=", "\\ge": ">=", "=>": ">=", "\\ne": "!="}
_OPPOSITE = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NAMED = {"R": S.Reals, "Z": S.Integers, "N": S.Naturals, "Q": S.Rationals, "C": S.Complexes}
_NAMED_SET = re.compile(r"\\mathbb\s*\{?\s*([RZNQC])\s*\}?|\\([RZNQ])(?![a-zA-Z])")
_ALL = re.compile(r"all real (?:numbers?|values)|all reals|the real numbers|全体实数|任意实数", re.IGNORECASE)
_EMPTY = re.compile(
    r"\\emptyset|\{\s*\}|\\\{\s*\\\}|(?:the )?empty set|no (?:real )?solutions?|空集|无解", re.IGNORECASE
)
_MEMBERSHIP = re.compile(r"([a-zA-Z](?:\([a-zA-Z]\))?)\s*\\in(?![a-zA-Z])\s*(.+)", re.DOTALL)
_BUILDER = re.compile(r"\\?\{\s*([a-zA-Z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\||:)\s*(.+?)\\?\}", re.DOTALL)
_SET_NOTATION = re.compile(
    r"[<>]|!=|\\(?:le|ge|ne|cup|cap|in|mathbb|setminus|emptyset|infty)(?![a-zA-Z])|\{\s*\\?\}|^all real|empty set|"
    r"no (?:real )?solution|全体实数|空集|无解|[\[(][^\[\]()]*,[^\[\]()]*[\])]",
    re.IGNORECASE,
)


class NamedSet(NamedTuple):
    """A set of real numbers, and the variable that is in it; empty if the text names none."""

    values: Set
    variable: str = ""


class Relation(NamedTuple):
    """`difference` (left minus right) compared with zero."""

    difference: Expr
    sign: str


def is_set(text: str) -> bool:
    """Whether the text may describe a set by intervals, inequalities or names."""
    return _SET_NOTATION.search(text) is not None


@lru_cache(maxsize=1024)
def parse_set(text: str) -> NamedSet | None:
    """The set that the whole text describes; None if it is none."""
    text = text.strip()
    if builder := _BUILDER.fullmatch(text):
        text = builder[2].strip()
    if member := _MEMBERSHIP.fullmatch(text):
        inner = parse_set(member[2])
        return inner._replace(variable=member[1]) if inner and not inner.variable else None
    for connective, join in (
        (r"\\cup(?![a-zA-Z])|\bor\b|或", sympy.Union),
        (r"\\cap(?![a-zA-Z])|\band\b|且", sympy.Intersection),
    ):
        parts = re.split(connective, text)
        if len(parts) > 1:
            sets = [parse_set(part) for part in parts]
            variables = {s.variable for s in sets if s}
            if len(variables) > 1 or not all(sets):
                return None
            return NamedSet(join(*(s.values for s in sets if s)), variables.pop())
    conditions = split_list(text)
    if len(conditions) > 1 and all(_RELATION.search(c) for c in conditions):  # x \ge 0, x \ne 1
        return parse_set(" and ".join(conditions))
    return _difference(text) or _simple(text)


def sets_equal(wanted: NamedSet, given: NamedSet) -> bool:
    """Whether the sets are equal. x > 3 is not y > 3, but either is the interval."""
    if wanted.variable and given.variable and wanted.variable != given.variable:
        return False
    return _same(wanted.values, given.values)


@lru_cache(maxsize=1024)
def parse_relations(text: str) -> list[Relation]:
    """An equation or an inequality, or the inequalities of a chain (a > b > c), smallest first; empty for others."""
    signs = [_sign(m) for m in _RELATION.finditer(text)]
    if not signs:
        return []
    sides = [side for part in _RELATION.split(text) if (side := parse_expression(part)) is not None]
    if len(signs) != len(sides) - 1 or (len(signs) > 1 and len({sign[0] for sign in signs}) > 1):
        return []
    found = [Relation(left - right, sign) for left, sign, right in zip(sides[:-1], signs, sides[1:], strict=True)]
    if len(found) > 1 and signs[0][0] not in "<>":
        return []
    return found[::-1] if signs[0][0] == ">" else found


def relations_equal(wanted: Relation, given: Relation) -> bool:
    """Whether one relation is the other, multiplied by a number."""
    if wanted.difference.free_symbols != given.difference.free_symbols or given.difference == 0:
        return False
    tops = [sympy.fraction(sympy.together(r.difference)) for r in (wanted, given)]
    if wanted.sign in ("=", "!="):
        ratio = sympy.cancel(tops[0][0] / tops[1][0])
        return wanted.sign == given.sign and bool(ratio.is_number) and ratio != 0
    ratio = sympy.cancel(wanted.difference / given.difference)
    if not ratio.is_number or not ratio.is_real or ratio == 0:
        return False
    return wanted.sign == (given.sign if ratio > 0 else _OPPOSITE[given.sign])


def _difference(text: str) -> NamedSet | None:
    parts = re.split(r"\\setminus(?![a-zA-Z])|(?<=[})])\s*-\s*(?=\\?\{)|\bexcept(?: for)?\b|除了?", text)
    if len(parts) != 2:
        return None
    removed = parts[1].strip()
    if not re.match(r"\\?\{", removed):
        removed = "{" + re.sub(r"^[a-zA-Z]\s*=\s*", "", removed) + "}"
    whole, part = parse_set(parts[0]), parse_set(removed)
    return whole._replace(values=whole.values - part.values) if whole and part else None


def _simple(text: str) -> NamedSet | None:
    if _EMPTY.fullmatch(plain(text)):
        return NamedSet(S.EmptySet)
    if _ALL.fullmatch(plain(text)):
        return NamedSet(S.Reals)
    if named := _NAMED_SET.fullmatch(text):
        return NamedSet(_NAMED[named[1] or named[2]])
    if _RELATION.search(text):
        return _inequality(text)
    visible = text.replace("\\{", "{").replace("\\}", "}")
    ends = split_list(visible[1:-1], in_brackets=True)
    values = [parse_expression(end) for end in ends]
    if not values or any(v is None for v in values):
        return None
    numbers = [v for v in values if v is not None]
    if visible[0] == "{" and visible[-1] == "}":
        return NamedSet(FiniteSet(*numbers))
    if visible[0] not in "([" or visible[-1] not in ")]" or len(numbers) != 2:
        return None
    return _interval(numbers[0], numbers[1], left_open=visible[0] == "(", right_open=visible[-1] == ")")


def _interval(start: Expr, end: Expr, *, left_open: bool, right_open: bool) -> NamedSet | None:
    if not start.is_extended_real or not end.is_extended_real or (end - start).is_nonpositive:
        return None
    return NamedSet(Interval(start, end, left_open, right_open))


def _inequality(text: str) -> NamedSet | None:
    """x < 3, 3 > x, 0 < x \\le 7 or x \\ne 2 with one variable."""
    signs = [_sign(m) for m in _RELATION.finditer(text)]
    sides = [parse_expression(side) for side in _RELATION.split(text)]
    if "=" in signs or any(side is None for side in sides):
        return None
    terms = [side for side in sides if side is not None]
    symbols = set().union(*(t.free_symbols for t in terms))
    if len(symbols) != 1:
        return None
    variable = symbols.pop()
    if len(terms) == 3 and terms[1] == variable and not terms[0].free_symbols | terms[2].free_symbols:
        if signs[0][0] == ">" and signs[1][0] == ">":
            terms, signs = terms[::-1], [_OPPOSITE[s] for s in reversed(signs)]
        if signs[0][0] != "<" or signs[1][0] != "<":
            return None
        found = _interval(terms[0], terms[2], left_open=signs[0] == "<", right_open=signs[1] == "<")
        return found._replace(variable=str(variable)) if found else None
    if len(terms) != 2:
        return None
    left, right, sign = terms[0], terms[1], signs[0]
    if right == variable:
        left, right, sign = right, left, _OPPOSITE[sign]
    if left != variable or right.free_symbols:
        return _solved(left, right, sign, variable)
    if not right.is_extended_real:
        return None
    sets = {
        "<": Interval.open(S.NegativeInfinity, right),
        "<=": Interval(S.NegativeInfinity, right),
        ">": Interval.open(right, S.Infinity),
        ">=": Interval(right, S.Infinity),
        "!=": Interval.open(S.NegativeInfinity, right) + Interval.open(right, S.Infinity),
    }
    return NamedSet(sets[sign], str(variable))


def _solved(left: Expr, right: Expr, sign: str, variable: Symbol) -> NamedSet | None:
    """The solutions of a polynomial inequality of low degree, or of one with an absolute value."""
    difference = left - right
    inside = difference.replace(sympy.Abs, lambda argument: argument)
    if not inside.is_polynomial(variable) or sympy.degree(inside, variable) > 4:
        return None
    try:
        return NamedSet(sympy.Rel(difference, 0, {"!=": "ne"}.get(sign, sign)).as_set(), str(variable))
    except NotImplementedError:
        return None


def _sign(match: re.Match[str]) -> str:
    return _SIGNS.get(match[0], match[0])


def _same(wanted: Set, given: Set) -> bool:
    if wanted == given:
        return True
    if isinstance(wanted, Interval) and isinstance(given, Interval):
        return bool(
            wanted.left_open == given.left_open
            and wanted.right_open == given.right_open
            and expressions_equal(wanted.start, given.start)
            and expressions_equal(wanted.end, given.end)
        )
    if isinstance(wanted, FiniteSet) and isinstance(given, FiniteSet):
        pairs = zip(wanted.args, given.args, strict=False)
        return len(wanted) == len(given) and all(expressions_equal(w, g) for w, g in pairs)
    if isinstance(wanted, sympy.Union) and isinstance(given, sympy.Union) and len(wanted.args) == len(given.args):
        sides = [sorted(side.args, key=lambda part: float(part.inf)) for side in (wanted, given)]
        return all(_same(w, g) for w, g in zip(*sides, strict=True))
    return False
