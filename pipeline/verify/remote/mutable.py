"""The types whose objects both processes can hold, since their content can be encoded, compared and replaced."""

from __future__ import annotations

import array
import base64
import operator
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from .values import encode_items, encode_plain
from .wire import Encode, Wire

Content = list[Any]
"""The items of a container; of any other object, one bytes object that holds all of its content."""


class Mutable(NamedTuple):
    """What is done with the objects of one type."""

    content: Callable[[Any], Content]
    fill: Callable[[Any, Any], None]
    """Replaces the content by that of another object of the type."""


def is_mutable(value: Any) -> bool:
    """Whether an object is of one of these types, and its content can be encoded."""
    kind = type(value)
    return kind in MUTABLE and (kind.__name__ != "Generator" or type(value.bit_generator).__name__ == "PCG64")


def encode_content(value: Any, encode: Encode) -> Wire:
    """An object of one of these types as its tag and its content."""
    kind = type(value)
    if kind is list or kind is set:
        return encode_items(kind.__name__, value, encode)
    if kind is dict:
        return encode_items("dict", [part for pair in value.items() for part in pair], encode)
    if kind is bytearray:
        return ["bytearray", base64.b64encode(value).decode()]
    if kind is deque:
        return ["deque", value.maxlen, *[encode(v) for v in value]]
    return encode_plain(value, encode)


def empty(wire: list[Any]) -> Any:
    """An empty container of the type of an encoded one, which may contain itself; None for other types."""
    if wire[0] == "deque":
        return deque(maxlen=wire[1])
    kind = _CONTAINERS.get(wire[0])
    return None if kind is None else kind()


def content_of(value: Any) -> Content:
    """The content, to compare with it later."""
    return MUTABLE[type(value)].content(value)


def fill(value: Any, new: Any) -> None:
    """Replaces the content of an object.

    Raises:
        ValueError: the new content is that of another type.
    """
    if type(new) is not type(value):
        raise ValueError("an object changes its type")
    MUTABLE[type(value)].fill(value, new)


def is_same(old: Content, new: Content) -> bool:
    """Whether both hold the same objects. A container whose items are equal but others counts as changed."""
    if len(old) != len(new):
        return False
    return all(map(operator.is_, old, new)) or (len(old) == 1 and type(old[0]) is type(new[0]) is bytes and old == new)


def use_libraries() -> None:
    """Adds the types of numpy and pandas, if they are loaded."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        MUTABLE[numpy.ndarray] = Mutable(_array_content, _fill_array)
        MUTABLE[numpy.random.Generator] = Mutable(lambda g: [repr(g.bit_generator.state).encode()], _fill_generator)
        MUTABLE[numpy.random.RandomState] = Mutable(
            lambda r: [repr([*r.get_state()[:1], r.get_state()[1].tobytes(), *r.get_state()[2:]]).encode()],
            lambda r, new: r.set_state(new.get_state()),
        )
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None:
        for kind in (pandas.DataFrame, pandas.Series):
            MUTABLE[kind] = Mutable(lambda t: [repr(encode_plain(t, _by_identity)).encode()], _fill_table)


def _by_identity(value: Any) -> Wire:
    """A part of a table, to compare with it later."""
    plain = encode_plain(value, _by_identity)
    return ["id", id(value)] if plain is None and value is not None else plain


def _array_content(value: Any) -> Content:
    if value.dtype.kind == "O":
        return list(value.ravel().tolist())
    return [repr((value.dtype.str, value.shape)).encode() + value.tobytes()]


def _fill_sequence(value: Any, new: Any) -> None:
    value[:] = new


def _fill_dict(value: Any, new: Any) -> None:
    value.clear()
    for key, item in new.items():
        value[key] = item


def _fill_set(value: set[Any], new: set[Any]) -> None:
    value.clear()
    value.update(new)


def _fill_deque(value: deque[Any], new: deque[Any]) -> None:
    value.clear()
    value.extend(new)


def _fill_array(value: Any, new: Any) -> None:
    if value.shape != new.shape:
        value.resize(new.shape, refcheck=False)
    value[...] = new


def _fill_generator(value: Any, new: Any) -> None:
    value.bit_generator.state = new.bit_generator.state


def _fill_table(value: Any, new: Any) -> None:
    type(value).__init__(value, new)


_CONTAINERS: dict[str, type] = {"list": list, "dict": dict, "set": set, "Counter": Counter, "OrderedDict": OrderedDict}
_DICT = Mutable(lambda d: [*d, *d.values()], _fill_dict)
MUTABLE: dict[type, Mutable] = {
    list: Mutable(list, _fill_sequence),
    **dict.fromkeys((dict, Counter, OrderedDict, defaultdict), _DICT),
    set: Mutable(list, _fill_set),
    deque: Mutable(list, _fill_deque),
    bytearray: Mutable(lambda b: [bytes(b)], _fill_sequence),
    array.array: Mutable(lambda a: [a.tobytes()], _fill_sequence),
    random.Random: Mutable(lambda r: [repr(r.getstate()).encode()], lambda r, new: r.setstate(new.getstate())),
}
