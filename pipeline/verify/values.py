"""Encodes values as text between judge and candidate: Python literals, and tagged values that have no literal.

Decoding creates trusted types only, whatever was sent, so no method of the candidate ever runs in the judge.
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

_EXACT: dict[Any, Any] = {
    int: lambda v: int.__add__(v, 0),
    str: str.__str__,
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
}
"""Converts an instance of a subclass to the base type."""
BASES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
TAG = "\0value"
MAX_ITEMS = 100_000
"""Items read from an iterator; a longer or endless one is truncated."""


def encode(value: Any) -> str:
    """The value as text.

    Raises:
        TypeError: the value contains a type that can't be encoded.
    """
    return repr(_to_literal(value, 60))


def decode(text: str) -> Any:
    """The value of an encoded text.

    Raises:
        ValueError, SyntaxError, TypeError, RecursionError, MemoryError: the text is not an encoded value.
    """
    value = ast.literal_eval(text)
    return _restore(value) if repr(TAG)[1:-1] in text else value


def _to_literal(value: Any, depth: int) -> Any:
    """Literals unchanged, subclasses as their base type (a Counter becomes a dict), other types tagged."""
    if depth == 0:
        raise TypeError("a value nested too deeply")
    if value is None or value is Ellipsis:
        return value
    base = next((b for b in BASES if isinstance(value, b)), None)
    if base is float:
        number = float.__add__(value, 0.0) if type(value) is not float else value
        return number if number - number == 0.0 else {TAG: ("float", float.__repr__(number))}
    if base is complex:
        return {TAG: ("complex", (_to_literal(value.real, depth - 1), _to_literal(value.imag, depth - 1)))}
    if base is bytearray:
        return {TAG: ("bytearray", bytes(value))}
    if base is dict:
        return {_key(k, depth): _to_literal(v, depth - 1) for k, v in dict.items(value)}
    if base is list:
        return [_to_literal(v, depth - 1) for v in list.__iter__(value)]
    if base is tuple:
        return tuple([_to_literal(v, depth - 1) for v in tuple.__iter__(value)])
    if base in (set, frozenset):
        kind: Any = base
        items = [_key(v, depth) for v in kind.__iter__(value)]
        return set(items) if base is set else {TAG: ("frozenset", items)}
    if base is not None:
        return value if type(value) is base else _EXACT[base](value)
    if type(value) is range:
        return {TAG: ("range", (value.start, value.stop, value.step))}
    if type(value) is deque:
        return {TAG: ("deque", [_to_literal(v, depth - 1) for v in value])}
    if type(value) in (Fraction, Decimal):
        return {TAG: (type(value).__name__, str(value))}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return _to_literal(value.item(), depth - 1)
    if isinstance(value, Iterator) or type(value) in (type({}.keys()), type({}.values()), type({}.items())):
        return {TAG: ("iterator", [_to_literal(v, depth - 1) for v in islice(value, MAX_ITEMS)])}
    raise TypeError(f"a {type(value).__name__}, which is no plain value")


def _key(value: Any, depth: int) -> Any:
    """A set member or dict key. A tagged value is a dict, which can't be hashed, so only literals and frozensets can be
    one."""
    plain = _to_literal(value, depth - 1)
    if isinstance(value, frozenset):
        return (TAG, tuple(plain[TAG][1]))
    hash(plain)
    return plain


def _restore(value: Any) -> Any:
    """The value with its tagged parts restored to their types."""
    if type(value) is dict:
        if len(value) == 1 and TAG in value:
            kind, payload = value[TAG]
            return _BUILDERS[kind](_restore(payload))
        return {_restore(k): _restore(v) for k, v in value.items()}
    if type(value) is tuple and len(value) == 2 and value[0] == TAG:
        return frozenset(_restore(value[1]))
    if type(value) in (list, tuple, set):
        return type(value)([_restore(v) for v in value])
    return value


def _fraction(text: str) -> Fraction:
    if len(text) > 5000 or "e" in text.lower():  # 1e999999999 would be expanded to an integer
        raise ValueError("no fraction")
    return Fraction(text)


_BUILDERS: dict[str, Any] = {
    "float": float,
    "complex": lambda parts: complex(*parts),
    "bytearray": bytearray,
    "frozenset": frozenset,
    "range": lambda parts: range(*parts),
    "deque": deque,
    "Fraction": _fraction,
    "Decimal": Decimal,
    "iterator": iter,
}
