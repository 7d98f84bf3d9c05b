"""Encodes all values for the other process: plain ones, containers that both hold, and handles of everything else.

A value that has no encoded form stays where it is. The other side gets a handle, and makes a mirror of it (mirrors.py).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from .access import Access
from .described import (
    describe_class,
    describe_function,
    exception_arguments,
    exception_attributes,
    library_class,
    text_of,
)
from .functions import make_coroutine, make_function, make_generator
from .mirrors import (
    SPECIAL,
    Mirror,
    MirroredClass,
    MirrorType,
    Reference,
    Requests,
    make_exception,
    make_mirror,
    mirror_class,
)
from .mutable import is_mutable
from .shared import SharedContainers
from .values import NAMED_TYPES, TYPE_NAMES, base_value, decode_plain, encode_items, encode_plain, has_base
from .wire import Wire

SIGNATURES = frozenset({"signature", "getfullargspec"})
ANNOTATIONS = frozenset({"__annotations__", "get_type_hints", "signature", "getfullargspec"})


class Codec:
    """Values of one side.

    Args:
        peer: where mirrors send their requests.
        access: of this side.
        first_label: 0 or 1, each side another.
        methods: the special methods, by name, that the mirrors of a class get instead of those that send a request.
    """

    def __init__(
        self, peer: Requests, access: Access, first_label: int, methods: Callable[[MirroredClass], dict[str, Any]]
    ) -> None:
        self._peer, self._access, self._methods = peer, access, methods
        self.shared = SharedContainers(first_label)
        self.named: frozenset[str] = frozenset()
        """The names in the tests: functions are sent with what of them is named."""
        self._exported: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._sent_classes: set[int] = set()
        self._classes: dict[int, type] = {}
        self._mirrors: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._owned_there: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._plain_references = 0
        encode_items("list", [[]], self._count_references)

    def _count_references(self, value: Any) -> Wire:
        """Notes how many references `encode` sees of a container that nobody else refers to."""
        self._plain_references = sys.getrefcount(value)
        return None

    def encode(self, value: Any) -> Wire:
        """A value for the other side.

        Raises:
            Exception: it can't be encoded.
        """
        if is_mutable(value):
            is_view = getattr(value, "base", None) is not None  # of an array that somebody else may refer to
            shared = is_view or sys.getrefcount(value) > self._plain_references
            return self.shared.encode(value, self.encode_shared if shared else self.encode, shared=shared)
        return self._encode_other(value)

    def encode_shared(self, value: Any) -> Wire:
        """An item of a labelled container."""
        if is_mutable(value):
            return self.shared.encode(value, self.encode_shared, shared=True)
        return self._encode_other(value)

    def _encode_other(self, value: Any) -> Wire:
        if type(value) is not Reference:
            kept = isinstance(value, tuple) and sys.getrefcount(value) > self._plain_references + 1
            plain = encode_plain(value, self.encode_shared if kept else self.encode)
            if plain is not None or value is None:
                return plain
        number = self._number_there(value)
        if number is not None:
            return ["yours", number]
        if has_base(value) and self._access.sends_base(value):
            return self.encode(base_value(value))
        return self._handle(value)

    def decode(self, wire: Wire) -> Any:
        """A value of the other side.

        Raises:
            Exception: it is no encoded value.
        """
        if type(wire) is not list:
            return wire
        tag: Any = wire[0]
        reader = self._readers.get(tag)
        if reader is not None:
            return reader(self, wire)
        return decode_plain(wire, self.decode)

    def _number_there(self, value: Any) -> int | None:
        """The number by which the other side knows this mirror of one of its objects."""
        if type(value) is Reference:
            return value.number
        if isinstance(value, MirrorType):
            return value._fusechat_number
        if type(type(value)) is MirrorType and not isinstance(value, BaseException):
            return cast("int", object.__getattribute__(value, "_fusechat_id"))
        if isinstance(value, BaseException):
            return vars(value)["_fusechat_id"] if vars(value).get("_fusechat_to") is self._peer else None
        if isinstance(value, types.FunctionType | types.GeneratorType | types.CoroutineType):
            return self._owned_there.get(value)
        return None

    # --- handles of own objects

    def _handle(self, value: Any) -> Wire:
        if (found := self._access.importable(value)) is not None:
            return ["import", *found]
        number = self._export(value)
        if isinstance(value, BaseException):
            kind = self._class(type(value))  # in the order in which it is decoded
            args = [self._encode_or_text(a) for a in exception_arguments(value)]
            cause: Wire = None if value.__cause__ is None else self.encode(value.__cause__)
            attributes: list[Wire] = [[n, self._encode_or_text(v)] for n, v in exception_attributes(value)]
            return ["exception", number, kind, args, text_of(value), cause, attributes]
        if isinstance(value, type):
            return self._class(value)
        is_function = isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType)
        if is_function and self.named.isdisjoint(getattr(value, "__dict__", ())):  # else its attributes are used
            annotations = getattr(value, "__annotations__", {}) if self.named & ANNOTATIONS else {}
            described = describe_function(value, with_parameters=bool(self.named & SIGNATURES))
            return ["function", number, *described, [[str(n), self.encode(v)] for n, v in annotations.items()]]
        if isinstance(value, types.GeneratorType):
            return ["generator", number]
        if isinstance(value, types.CoroutineType):
            return ["coroutine", number]
        return ["object", number, self._class(type(value))]

    def _encode_or_text(self, value: Any) -> Wire:
        try:
            return self.encode(value)
        except Exception:  # noqa: BLE001 - the exception matters more than its arguments
            return text_of(value)

    def _export(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = len(self._exported) + 1
            self._numbers[id(value)], self._exported[number] = number, value
        return number

    def _class(self, kind: type) -> Wire:
        """A class: its number and, the first time, its description."""
        there = self._number_there(kind)
        if there is not None:
            return ["yours", there]
        name = TYPE_NAMES.get(kind)
        number = self._export(kind)
        if number in self._sent_classes:
            return ["class", number]
        self._sent_classes.add(number)
        bases: list[Wire] = []
        for base in kind.__bases__ if name is None else ():
            bases.append(["type", TYPE_NAMES[base]] if base in TYPE_NAMES else self._class(base))
        return ["class", number, [*describe_class(kind), name, bases]]

    # --- mirrors of the other side's objects

    def _decode_yours(self, wire: list[Any]) -> Any:
        return self._exported[wire[1]]

    def _decode_import(self, wire: list[Any]) -> Any:
        return self._access.import_(wire[1], wire[2])

    def _decode_shared(self, wire: list[Any]) -> Any:
        return self.shared.decode(wire, self.decode)

    def _decode_class(self, wire: list[Any]) -> type:
        number = wire[1]
        if number not in self._classes:
            name, qualname, module, doc, special, own_eq, hashable, is_exception, immutable, known, bases = wire[2]
            found = MirroredClass(
                number,
                str(name),
                str(qualname),
                str(module),
                None if doc is None else str(doc),
                None if known is None else NAMED_TYPES[known],
                [self.decode(base) for base in bases],
                [n for n in SPECIAL if n in special],
                bool(own_eq),
                bool(hashable),
                bool(is_exception),
                None if immutable is None else NAMED_TYPES[f"builtins.{immutable}"],
            )
            found = found._replace(known=found.known or library_class(found))
            if found.is_exception and found.known is not None:
                self._classes[number] = found.known
            else:
                self._classes[number] = mirror_class(self._peer, found, self._methods(found))
        return self._classes[number]

    def _decode_object(self, wire: list[Any]) -> Any:
        kind = self.decode(wire[2])
        return self._kept(wire[1], lambda: make_mirror(kind, self._peer, wire[1]))

    def _decode_function(self, wire: list[Any]) -> Any:
        _, number, name, doc, is_async, parameters, annotations = wire
        doc = None if doc is None else str(doc)

        def make() -> Callable[..., Any]:
            found = make_function(self._peer, number, str(name), doc, is_async=bool(is_async), parameters=parameters)
            found.__annotations__ = {str(n): self.decode(v) for n, v in annotations}
            return found

        return self._kept(number, make)

    def _decode_generator(self, wire: list[Any]) -> Any:
        make = make_generator if wire[0] == "generator" else make_coroutine
        return self._kept(wire[1], lambda: make(self._peer, wire[1]))

    def _decode_exception(self, wire: list[Any]) -> BaseException:
        _, number, kind_wire, args, text, cause, attributes = wire
        kind = self.decode(kind_wire)
        if not issubclass(kind, BaseException):
            raise ValueError("no exception")
        error = make_exception(kind, [self.decode(a) for a in args], self._peer, number, str(text))
        error.__cause__ = self.decode(cause)
        for name, value in attributes:
            if type(name) is str and (not name.startswith("_") or name == "__notes__"):
                vars(error)[name] = self.decode(value)
        return error

    def _kept(self, number: int, make: Callable[[], Any]) -> Any:
        """The mirror of an object: the same as long as somebody refers to it."""
        found = self._mirrors.get(number)
        if found is None:
            found = self._mirrors[number] = make()
            if not isinstance(found, Mirror):
                self._owned_there[found] = number
        return found

    _readers: ClassVar[dict[str, Callable[[Codec, list[Any]], Any]]] = {
        "yours": _decode_yours,
        "import": _decode_import,
        "known": _decode_shared,
        "shared": _decode_shared,
        "class": _decode_class,
        "object": _decode_object,
        "function": _decode_function,
        "generator": _decode_generator,
        "coroutine": _decode_generator,
        "exception": _decode_exception,
    }
