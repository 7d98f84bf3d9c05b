"""Conditions of `where`: whether a row's values fulfil them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from ..recipe import Condition
from ..recipe.table_options import Scalar, Where


def fulfils(values: Sequence[object], where: Where) -> bool:
    """Whether one of the values fulfils the condition. Without a value, only `none_of` can be fulfilled."""
    if isinstance(where, Condition):
        if not values:
            return _has_only_none_of(where)
        return any(_fulfils(value, where) for value in values)
    allowed = where if isinstance(where, tuple) else (where,)
    return any(_is_one_of(value, allowed) for value in values)


@lru_cache(maxsize=64)
def _has_only_none_of(condition: Condition) -> bool:
    """By the values, not by the keys that were given: run.json gives all."""
    return condition == Condition(none_of=condition.none_of)


def _fulfils(value: object, condition: Condition) -> bool:
    if condition.one_of and not _is_one_of(value, condition.one_of):
        return False
    if condition.none_of and _is_one_of(value, condition.none_of):
        return False
    if condition.min is not None or condition.max is not None:
        number = _number(value)
        if number is None:
            return False
        if condition.min is not None and not number >= condition.min:  # also if it is not a number
            return False
        if condition.max is not None and not number <= condition.max:
            return False
    text = str(value)
    if condition.min_chars is not None and len(text) < condition.min_chars:
        return False
    if condition.max_chars is not None and len(text) > condition.max_chars:
        return False
    return condition.matches is None or re.search(condition.matches, text) is not None


def _is_one_of(value: object, allowed: Sequence[Scalar]) -> bool:
    """Numbers and truth values are also recognized as texts, since a CSV file has nothing else."""
    return any(_equals(value, each) for each in allowed)


def _equals(value: object, allowed: Scalar) -> bool:
    if value == allowed:
        return True
    if isinstance(allowed, bool) or isinstance(value, bool):
        return str(value).lower() == str(allowed).lower()
    return str(value) == str(allowed) or (isinstance(allowed, int | float) and _number(value) == allowed)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
