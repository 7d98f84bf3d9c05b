"""Values as text between judge and candidate: plain literals, and a few tagged ones that Python can't write as such.

What arrives is built of trusted types alone, whatever was sent: no method of the candidate's runs in the judge.
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
"""What a subclass's value is without it."""
BASES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
TAG = "\0value"
MAX_ITEMS = 100_000
"""Items of an iterator that are looked at; an endless one is cut."""


def encode(value: Any) -> str:
    """The value as text.

    Raises:
        TypeError: it holds what is no plain value.
    """
    return repr(_to_literal(value, 60))


def decode(text: str) -> Any:
    """The value of a text.

    Raises:
        ValueError, SyntaxError, TypeError, RecursionError, MemoryError: it is none.
    """
    value = ast.literal_eval(text)
    return _restore(value) if repr(TAG)[1:-1] in text else value


def _to_literal(value: Any, depth: int) -> Any:
    """Literals as they are, subclasses as what they derive from (a Counter is a dict), the rest tagged."""
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
    """A member of a set or a key: what is tagged can't be hashed, so only literals can be one."""
    plain = _to_literal(value, depth - 1)
    if isinstance(value, frozenset):
        return (TAG, tuple(plain[TAG][1]))
    hash(plain)
    return plain


def _restore(value: Any) -> Any:
    """The value with the tagged parts made what they were."""
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
    if len(text) > 5000 or "e" in text.lower():  # 1e999999999 would be expanded
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
