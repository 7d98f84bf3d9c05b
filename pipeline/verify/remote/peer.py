"""Calls between judge and candidate. Both run this code; what one lets the other do is up to its `Access`.

A value that has no encoded form stays where it is. The other side gets a handle, and makes a mirror of it (mirrors.py):
an object that sends what is done with it back as a request. A request may cause requests in the other direction.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..frames import MAX_MESSAGE, FrameReader, TimeLimit, send
from .mirrors import (
    SPECIAL,
    Mirror,
    MirroredClass,
    MirrorType,
    Reference,
    make_coroutine,
    make_exception,
    make_function,
    make_generator,
    make_mirror,
    mirror_class,
)
from .shared import SharedContainers
from .values import MUTABLE, NAMED_TYPES, TYPE_NAMES, Wire, base_value, decode_plain, encode_items, encode_plain, has_base

ASK, RETURN, RAISE = "?", "=", "!"
CALLS = frozenset({"call", "special", "method", "run"})


class Access(Protocol):
    """What one side lets the other do with its objects."""

    def get(self, value: Any, name: str) -> Any:
        """The attribute of an object."""

    def set(self, value: Any, name: str, new: Any) -> None:
        """Sets the attribute of an object."""

    def delete(self, value: Any, name: str) -> None:
        """Deletes the attribute of an object."""

    def call(self, value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Calls an object."""

    def special(self, value: Any, name: str, operands: Sequence[Any]) -> Any:
        """Calls a special method, such as `__len__`."""

    def extra(self, op: str, operands: Sequence[Any]) -> Any:
        """Any other request."""

    def take_printed(self) -> str:
        """What was printed since the last message."""

    def show_printed(self, text: str) -> None:
        """Takes what the other side printed."""

    def importable(self, value: Any) -> tuple[str, str] | None:
        """Module and name of a function, class or module that the other side can import; None to send a handle."""

    def import_(self, module: str, name: str) -> Any:
        """What the other side sent as module and name."""

    def sends_base(self, value: Any) -> bool:
        """Whether an instance of a subclass of a built-in type is sent as its base value."""


class RemoteError(BaseException):
    """What the other side sent is no message. No handler of the tests catches it."""


class EndedError(BaseException):
    """The other side has ended. No handler of the tests catches it."""


class Peer:
    """One side of the connection.

    Args:
        first_label: 0 or 1, each side another.
        limit: raises `LateError` when the time for an answer is over.
        methods: the special methods, by name, that the mirrors of a class get instead of those that send a request.
        caught: what the other side learns of when it is raised here.
    """

    def __init__(
        self,
        frames: FrameReader,
        write_fd: int,
        access: Access,
        *,
        first_label: int,
        limit: TimeLimit | None = None,
        methods: Callable[[MirroredClass], dict[str, Any]] = lambda _kind: {},
        caught: type[BaseException] = Exception,
    ) -> None:
        self._frames, self._write_fd, self._access, self._limit, self._methods, self._caught = frames, write_fd, access, limit, methods, caught
        self._shared = SharedContainers(first_label)
        self._exported: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._sent_classes: set[int] = set()
        self._classes: dict[int, type] = {}
        self._mirrors: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._owned_there: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.with_signatures = False
        """Whether functions are sent with their signatures."""
        self.num_calls = 0
        """How often an object of the other side was called."""
        self._plain_references = 0
        encode_items("list", [[]], self._count_references)

    def _count_references(self, value: Any) -> Wire:
        self._plain_references = sys.getrefcount(value)
        return None

    # --- messages

    def request(self, op: str, *operands: Any) -> Any:
        """Asks the other side, and serves what it asks meanwhile.

        Raises:
            Exception: the other side raised it.
            LateError: the answer did not come in time.
            RemoteError: the answer is no message.
            EndedError: the other side has ended.
        """
        self.num_calls += op in CALLS
        self._send(ASK, op, operands)
        del operands
        while True:
            kind, op, values = self._receive()
            if kind == RETURN:
                return values[0]
            if kind == RAISE:
                error = values[0]
                raise error if isinstance(error, BaseException) else RemoteError("no exception was sent")
            self._answer(op, values)

    def serve(self) -> None:
        """Answers requests until the other side ends."""
        while True:
            self.serve_one()

    def serve_one(self) -> None:
        """Answers one request."""
        kind, op, values = self._receive()
        if kind == ASK:
            self._answer(op, values)

    def _answer(self, op: str, operands: list[Any]) -> None:
        kind, boxed = RETURN, []
        try:
            boxed.append(self._serve(op, operands))
        except self._caught as error:  # whatever was raised goes to the other side
            kind, boxed = RAISE, [error.with_traceback(None)]
        del operands[:]
        try:
            self._send(kind, "", boxed)
        except (TypeError, ValueError, RecursionError, MemoryError, ArithmeticError, LookupError) as error:
            self._send(RAISE, "", [TypeError(f"no value crossed: {error}")])

    def _serve(self, op: str, operands: list[Any]) -> Any:
        access = self._access
        if op == "call":
            value, args, names, values = operands
            return access.call(value, args, dict(zip(names, values, strict=True)))
        if op == "special":
            return access.special(operands[0], operands[1], operands[2:])
        served: dict[str, Callable[..., Any]] = {"get": access.get, "set": access.set, "delete": access.delete}
        return served[op](*operands) if op in served else access.extra(op, operands)

    def _send(self, kind: str, op: str, values: Sequence[Any]) -> None:
        body = encode_items("list", values, self.encode)
        changes = self._shared.changes(self._encode_shared)
        del values
        message = [kind, op, body, changes, self._shared.unreferenced(), self._access.take_printed()]
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            send(self._write_fd, data)
        except OSError as error:
            raise EndedError from error

    def _receive(self) -> tuple[str, str, list[Any]]:
        try:
            message = self._frames.receive(MAX_MESSAGE, self._limit)
        except (OSError, EOFError) as error:
            raise EndedError from error
        except ValueError as error:
            raise RemoteError(f"a message of over {MAX_MESSAGE >> 20} MiB") from error
        try:
            kind, op, body, changes, gone, printed = json.loads(message)
            values = decode_plain(body, self.decode)
            self._shared.apply(changes, self.decode)
            self._shared.forget(gone)
            if type(op) is not str or type(values) is not list or not values and kind != ASK:
                raise ValueError("no request")
            if printed:
                self._access.show_printed(str(printed))
        except Exception as error:
            raise RemoteError(f"{type(error).__name__}: {error}") from error
        return kind, op, values

    # --- values

    def encode(self, value: Any) -> Wire:
        """A value for the other side.

        Raises:
            Exception: it can't be encoded.
        """
        if type(value) in MUTABLE:
            shared = sys.getrefcount(value) > self._plain_references
            return self._shared.encode(value, self._encode_shared if shared else self.encode, shared=shared)
        return self._encode_other(value)

    def _encode_shared(self, value: Any) -> Wire:
        """An item of a labelled container."""
        if type(value) in MUTABLE:
            return self._shared.encode(value, self._encode_shared, shared=True)
        return self._encode_other(value)

    def _encode_other(self, value: Any) -> Wire:
        if type(value) is not Reference:
            plain = encode_plain(value, self.encode)
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
            return vars(value)["_fusechat_id"] if vars(value).get("_fusechat_to") is self else None
        if isinstance(value, types.FunctionType | types.GeneratorType | types.CoroutineType):
            return self._owned_there.get(value)
        return None

    # --- handles of own objects

    def _handle(self, value: Any) -> Wire:
        if (found := self._access.importable(value)) is not None:
            return ["import", *found]
        number = self._export(value)
        if isinstance(value, BaseException):
            args = [self._encode_or_text(a) for a in value.args]
            return ["exception", number, self._class(type(value)), args, _text_of(value)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
            return ["function", number, *_description_of(value, self.with_signatures)]
        if isinstance(value, types.GeneratorType):
            return ["generator", number]
        if isinstance(value, types.CoroutineType):
            return ["coroutine", number]
        return ["object", number, self._class(type(value))]

    def _encode_or_text(self, value: Any) -> Wire:
        try:
            return self.encode(value)
        except Exception:  # noqa: BLE001 - the exception matters more than its arguments
            return _text_of(value)

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
        special = [n for n in SPECIAL if _defines(kind, n)]
        own_eq = any("__eq__" in vars(c) for c in kind.__mro__ if c is not object)
        fields = [str(kind.__name__), str(kind.__qualname__), str(kind.__module__), _doc(kind)]
        return ["class", number, [*fields, name, bases, special, own_eq, issubclass(kind, BaseException)]]

    # --- mirrors of the other side's objects

    def _decode_yours(self, wire: list[Any]) -> Any:
        return self._exported[wire[1]]

    def _decode_import(self, wire: list[Any]) -> Any:
        return self._access.import_(wire[1], wire[2])

    def _decode_shared(self, wire: list[Any]) -> Any:
        return self._shared.decode(wire, self.decode)

    def _decode_class(self, wire: list[Any]) -> type:
        number = wire[1]
        if number not in self._classes:
            name, qualname, module, doc, known, bases, special, own_eq, is_exception = wire[2]
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
                bool(is_exception),
            )
            if found.is_exception and found.known is not None:
                self._classes[number] = found.known
            else:
                self._classes[number] = mirror_class(self, found, self._methods(found))
        return self._classes[number]

    def _decode_object(self, wire: list[Any]) -> Any:
        kind = self.decode(wire[2])
        return self._kept(wire[1], lambda: make_mirror(kind, self, wire[1]))

    def _decode_function(self, wire: list[Any]) -> Any:
        _, number, name, doc, is_async, parameters = wire
        doc = None if doc is None else str(doc)
        return self._kept(
            number,
            lambda: make_function(self, number, str(name), doc, is_async=bool(is_async), parameters=parameters),
        )

    def _decode_generator(self, wire: list[Any]) -> Any:
        make = make_generator if wire[0] == "generator" else make_coroutine
        return self._kept(wire[1], lambda: make(self, wire[1]))

    def _decode_exception(self, wire: list[Any]) -> BaseException:
        _, number, kind_wire, args, text = wire
        kind = self.decode(kind_wire)
        if not issubclass(kind, BaseException):
            raise ValueError("no exception")
        return make_exception(kind, [self.decode(a) for a in args], self, number, str(text))

    def _kept(self, number: int, make: Callable[[], Any]) -> Any:
        """The mirror of an object: the same as long as somebody refers to it."""
        found = self._mirrors.get(number)
        if found is None:
            found = self._mirrors[number] = make()
            if not isinstance(found, Mirror):
                self._owned_there[found] = number
        return found

    _readers: dict[str, Callable[[Peer, list[Any]], Any]] = {
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


def _defines(kind: type, name: str) -> bool:
    method = f"__{name}__"
    return any(vars(c).get(method) is not None for c in kind.__mro__ if c is not object) or name in ("str", "repr")


def _doc(value: Any) -> str | None:
    doc = getattr(value, "__doc__", None)
    return doc[:10_000] if type(doc) is str else None


def _text_of(value: Any) -> str:
    try:
        return str(value)[:10_000]
    except Exception:  # noqa: BLE001 - model-written `__str__`
        return f"a {type(value).__name__} without a text"


def _description_of(value: Any, with_signature: bool) -> list[Wire]:
    """Name, documentation, whether it is a coroutine function, and its parameters."""
    parameters: Wire = None
    if with_signature:
        import inspect

        try:
            found = inspect.signature(value).parameters.values()
            parameters = [[p.name, int(p.kind), p.default is not p.empty] for p in found]
        except (TypeError, ValueError):
            parameters = None
    return [str(getattr(value, "__name__", "")), _doc(value), _is_coroutine_function(value), parameters]


def _is_coroutine_function(value: Any) -> bool:
    code = getattr(value, "__code__", None)
    return isinstance(code, types.CodeType) and bool(code.co_flags & _COROUTINE)


_COROUTINE = 0x80
"""The flag of coroutine functions (inspect.CO_COROUTINE); inspect itself takes too much memory."""
