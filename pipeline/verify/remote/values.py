"""Encodes values as JSON between judge and candidate. An object that has no such form is left to the caller's hook.

None, booleans, numbers and strings are themselves; everything else is a list that begins with a tag. Decoding creates
objects of trusted types only, whatever was sent, so no method of the candidate ever runs in the judge.
"""

from __future__ import annotations

import array
import base64
import collections
import datetime
import enum
import random
import re
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .arrays import decode_array, encode_array
from .tables import decode_table, encode_table
from .wire import Decode, Encode, Wire

SCALARS = frozenset({type(None), bool, int, float, str})
LARGEST = 1 << 63
"""Integers beyond are sent in hexadecimal, which has no limit of digits."""
VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
BASES = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
"""The types whose content an instance of a subclass has."""
IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset)
_TYPES: tuple[type, ...] = (
    object, type, bool, *BASES, range, slice, memoryview, property, staticmethod, classmethod,
    type(None), type(...), type(NotImplemented), types.FunctionType, types.GeneratorType, types.ModuleType,
    types.SimpleNamespace, deque, Counter, OrderedDict, defaultdict, Decimal, Fraction, uuid.UUID, array.array,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, re.Pattern, re.Match,
    enum.Enum, enum.IntEnum, collections.ChainMap, collections.UserDict, collections.UserList, collections.UserString,
)  # fmt: skip
NAMED_TYPES: dict[str, type] = {
    **{f"{t.__module__}.{t.__qualname__}": t for t in _TYPES},
    **{
        f"builtins.{name}": value
        for name, value in vars(__import__("builtins")).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    },
}
"""The types that both processes have: they cross by name."""
TYPE_NAMES = {value: name for name, value in NAMED_TYPES.items()}
_PATHS = ("PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_NAMEDTUPLE = vars(collections.namedtuple("Empty", ()))
_NAMEDTUPLES: dict[tuple[str, ...], type] = {}


def encode_plain(value: Any, encode: Encode) -> Wire | None:
    """A value of an immutable type, or of a type of the standard library, encoded; None if it is of another type.

    Args:
        encode: encodes the parts of the value.
    """
    kind = type(value)
    if kind in SCALARS:
        return value if kind is not int or -LARGEST < value < LARGEST else ["int", hex(value)]
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, encode)
    if issubclass(kind, tuple) and _is_namedtuple(kind):
        return ["namedtuple", kind.__name__, list(value._fields), [encode(v) for v in tuple.__iter__(value)]]
    if isinstance(value, type) and value in TYPE_NAMES:
        return ["type", TYPE_NAMES[value]]
    if kind.__module__ == "pathlib" and kind.__name__ in _PATHS:
        return ["path", kind.__name__, str(value)]
    return encode_array(value, encode) or encode_table(value, encode)


def base_value(value: Any) -> Any:
    """The content of an instance of a subclass of a built-in type: an IntEnum member as an int.

    The methods of the built-in type are called, not those of the subclass.

    Raises:
        TypeError: it is no instance of such a subclass.
    """
    base: Any = next((b for b in BASES if isinstance(value, b)), None)
    if base is None:
        raise TypeError(f"a {type(value).__name__} has no base value")
    if base is dict:
        return dict(dict.items(value))
    if base in (list, tuple, set, frozenset):
        return base(base.__iter__(value))
    if base in (bytes, bytearray):
        return base.__getitem__(value, slice(None))
    return str.__str__(value) if base is str else base.__add__(value, base(0))


def has_base(value: Any) -> bool:
    """Whether the value is an instance of a subclass of a built-in type that has content."""
    return isinstance(value, BASES)


def encode_items(tag: str, items: Any, encode: Encode) -> Wire:
    """The tag and the encoded items. Items that are all scalars are taken in one step.

    When `encode` is called, an item that nobody else refers to has always the same number of references: see
    `peer.Peer.encode`.
    """
    if SCALARS.issuperset(map(type, items)) and not _any_huge(items):
        return [tag, *items]
    parts = list(items)
    return [tag, *[encode(part) for part in parts]]


def decode_plain(wire: list[Any], decode: Decode) -> Any:
    """The value of an encoded list that `encode_plain` or a container's encoding made.

    Raises:
        Exception: any, if the list is not an encoded value.
    """
    return _READERS[wire[0]](wire, decode)


def decode_items(items: list[Any], decode: Decode) -> list[Any]:
    """The decoded items. Items that are all scalars are taken as they are."""
    return items if SCALARS.issuperset(map(type, items)) else [decode(item) for item in items]


def _any_huge(items: Any) -> bool:
    return any(not -LARGEST < v < LARGEST for v in items if type(v) is int)


def _is_namedtuple(kind: Any) -> bool:
    """Whether a class is a namedtuple without methods of its own."""
    fields = getattr(kind, "_fields", None)
    return (
        kind.__bases__ == (tuple,)
        and isinstance(fields, tuple)
        and all(type(f) is str and f.isidentifier() and not f.startswith("_") for f in fields)
        and vars(kind).keys() <= _NAMEDTUPLE.keys() | set(fields) | {"__annotations__", "__orig_bases__"}
    )


def _namedtuple(wire: list[Any], decode: Decode) -> Any:
    name, fields = str(wire[1]), [str(f) for f in wire[2]]
    key = (name, *fields)
    if key not in _NAMEDTUPLES:
        _NAMEDTUPLES[key] = collections.namedtuple(name, fields)
    return _NAMEDTUPLES[key](*[decode(v) for v in wire[3]])


def _encode_defaultdict(value: Any, encode: Encode) -> Wire:
    return ["defaultdict", encode(value.default_factory), _pairs(value, encode)]


def _pairs(value: Any, encode: Encode) -> list[Wire]:
    return [encode(part) for pair in value.items() for part in pair]


def _unpair(items: list[Any], decode: Decode) -> list[tuple[Any, Any]]:
    parts = [decode(item) for item in items]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _encode_datetime(value: Any, encode: Encode) -> Wire | None:
    zone = value.tzinfo
    if zone is not None and type(zone) is not datetime.timezone:
        return None
    parts = (
        [*value.timetuple()[:6]] if isinstance(value, datetime.datetime) else [value.hour, value.minute, value.second]
    )
    return [type(value).__name__, *parts, value.microsecond, encode(zone), value.fold]


def _datetime(wire: list[Any], decode: Decode) -> Any:
    kind: Any = {"datetime": datetime.datetime, "time": datetime.time}[wire[0]]
    return kind(*wire[1:-2], tzinfo=decode(wire[-2]), fold=wire[-1])


def _timezone(wire: list[Any], decode: Decode) -> datetime.timezone:
    offset = datetime.timedelta(seconds=wire[1])
    if wire[2] is not None:
        return datetime.timezone(offset, str(wire[2]))
    return datetime.UTC if not offset else datetime.timezone(offset)


def _encode_timezone(value: datetime.timezone, encode: Encode) -> Wire:
    name = value.tzname(None)
    offset = value.utcoffset(None)
    unnamed = datetime.timezone(offset).tzname(None) == name
    return ["timezone", offset.total_seconds(), None if unnamed else name]


def _deque(wire: list[Any], decode: Decode) -> deque[Any]:
    return deque([decode(v) for v in wire[2:]], wire[1])


def _bytes(wire: list[Any]) -> bytes:
    return base64.b64decode(wire[1])


_WRITERS: dict[type, Callable[[Any, Encode], Wire | None]] = {
    tuple: lambda v, e: encode_items("tuple", v, e),
    frozenset: lambda v, e: encode_items("frozenset", v, e),
    bytes: lambda v, e: ["bytes", base64.b64encode(v).decode()],
    complex: lambda v, e: ["complex", v.real, v.imag],
    range: lambda v, e: ["range", e(v.start), e(v.stop), e(v.step)],
    slice: lambda v, e: ["slice", e(v.start), e(v.stop), e(v.step)],
    type(...): lambda v, e: ["..."],
    type(NotImplemented): lambda v, e: ["NotImplemented"],
    Decimal: lambda v, e: ["Decimal", str(v)],
    Fraction: lambda v, e: ["Fraction", e(v.numerator), e(v.denominator)],
    Counter: lambda v, e: ["Counter", _pairs(v, e)],
    OrderedDict: lambda v, e: ["OrderedDict", _pairs(v, e)],
    defaultdict: _encode_defaultdict,
    datetime.datetime: _encode_datetime,
    datetime.time: _encode_datetime,
    datetime.date: lambda v, e: ["date", v.year, v.month, v.day],
    datetime.timedelta: lambda v, e: ["timedelta", v.days, v.seconds, v.microseconds],
    datetime.timezone: _encode_timezone,
    uuid.UUID: lambda v, e: ["UUID", v.hex],
    random.Random: lambda v, e: ["Random", *(e(part) for part in v.getstate())],
    array.array: lambda v, e: ["arrays", v.typecode, base64.b64encode(v.tobytes()).decode()],
    re.Pattern: lambda v, e: ["Pattern", e(v.pattern), v.flags],
    **{kind: lambda v, e, name=name: ["view", name, *[e(part) for part in v]] for kind, name in VIEWS.items()},  # type: ignore[misc]
}


def _path(wire: list[Any]) -> Any:
    import pathlib

    if wire[1] not in _PATHS:
        raise ValueError("no path")
    return getattr(pathlib, wire[1])(wire[2])


def _view(wire: list[Any], decode: Decode) -> Any:
    items = [decode(v) for v in wire[2:]]
    if wire[1] == "keys":
        return dict.fromkeys(items).keys()
    return dict(enumerate(items)).values() if wire[1] == "values" else dict(items).items()


def _random(wire: list[Any], decode: Decode) -> random.Random:
    found = random.Random()
    found.setstate(tuple(decode(part) for part in wire[1:]))
    return found


def _array_of(wire: list[Any]) -> array.array[Any]:
    found: array.array[Any] = array.array(wire[1])
    found.frombytes(base64.b64decode(wire[2]))
    return found


_READERS: dict[str, Callable[[list[Any], Decode], Any]] = {
    "list": lambda w, d: list(decode_items(w[1:], d)),
    "tuple": lambda w, d: tuple(decode_items(w[1:], d)),
    "set": lambda w, d: set(decode_items(w[1:], d)),
    "frozenset": lambda w, d: frozenset(decode_items(w[1:], d)),
    "dict": lambda w, d: dict(_unpair(w[1:], d)),
    "bytearray": lambda w, d: bytearray(_bytes(w)),
    "deque": _deque,
    "int": lambda w, d: int(w[1], 16),
    "bytes": lambda w, d: _bytes(w),
    "complex": lambda w, d: complex(w[1], w[2]),
    "range": lambda w, d: range(d(w[1]), d(w[2]), d(w[3])),
    "slice": lambda w, d: slice(d(w[1]), d(w[2]), d(w[3])),
    "...": lambda w, d: ...,
    "NotImplemented": lambda w, d: NotImplemented,
    "Decimal": lambda w, d: Decimal(w[1]),
    "Fraction": lambda w, d: Fraction(d(w[1]), d(w[2])),
    "Counter": lambda w, d: Counter(dict(_unpair(w[1], d))),
    "OrderedDict": lambda w, d: OrderedDict(_unpair(w[1], d)),
    "defaultdict": lambda w, d: defaultdict(d(w[1]), _unpair(w[2], d)),
    "datetime": _datetime,
    "time": _datetime,
    "date": lambda w, d: datetime.date(*w[1:]),
    "timedelta": lambda w, d: datetime.timedelta(*w[1:]),
    "timezone": _timezone,
    "UUID": lambda w, d: uuid.UUID(hex=w[1]),
    "arrays": lambda w, d: _array_of(w),
    "Random": _random,
    "Pattern": lambda w, d: re.compile(d(w[1]), w[2]),
    "view": _view,
    "path": lambda w, d: _path(w),
    "namedtuple": _namedtuple,
    "type": lambda w, d: NAMED_TYPES[w[1]],
    **dict.fromkeys(("scalar", "array", "objects", "Generator", "RandomState"), decode_array),
    **dict.fromkeys(("missing", "Timestamp", "Timedelta", "DataFrame", "Series", "Index"), decode_table),
}
