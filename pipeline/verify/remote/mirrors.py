"""Mirrors: local objects that stand for objects of the other process, and send it what is done with them."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol, cast

from .values import BASES

BINARY = (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift", "and",
    "xor", "or",
)  # fmt: skip
OPERATORS = (*BINARY, *(f"r{n}" for n in BINARY), *(f"i{n}" for n in BINARY if n != "divmod"))
"""Operators with a second operand."""
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
SPECIAL = (
    *OPERATORS, *COMPARISONS, "contains",
    "call", "iter", "next", "reversed", "len", "length_hint", "getitem", "setitem", "delitem", "enter", "exit",
    "neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil", "int", "float", "index", "complex", "bool",
    "bytes",
    "str", "repr", "format", "hash", "await", "aiter", "anext", "aenter", "aexit",
)  # fmt: skip
"""The special methods that a mirror may have, without underscores."""
READABLE = frozenset({
    "__name__", "__qualname__", "__doc__", "__dict__", "__wrapped__", "__annotations__", "__members__", "__module__",
    "__dataclass_fields__", "__cause__", "__context__", "__notes__", "__slots__", "__func__", "__defaults__",
})  # fmt: skip
"""The only attributes between double underscores that can be asked for: libraries trust what others answer, such as
numpy's `__array_function__`, which decides a comparison."""


class Reference(NamedTuple):
    """An object of the other side by its number."""

    number: int


class Requests(Protocol):
    """What mirrors need of `peer.Peer`."""

    def request(self, op: str, *operands: Any) -> Any:
        """Asks the other side."""


class MirrorType(type):
    """The class of mirror classes. A mirror class stands for a class of the other side."""

    _fusechat_peer: Requests
    _fusechat_number: int

    def __new__(mcs, name: str, bases: tuple[type, ...], names: dict[str, Any]) -> Any:
        """A new mirror class. A class of the tests that is derived from one becomes a class of the other side."""
        mirrored = [b for b in bases if type(b) is MirrorType and "_fusechat_number" in vars(b)]
        if not mirrored or "_fusechat_number" in names:
            return type.__new__(mcs, name, bases, names)
        cell = names.pop("__classcell__", None)
        members = {n: _member(value) for n, value in names.items() if n not in ("__module__", "__qualname__")}
        found = mirrored[0]._fusechat_peer.request("derive", name, bases, tuple(members), tuple(members.values()))
        if cell is not None:
            cell.cell_contents = found
        return found

    def __init__(cls, *_: Any) -> None:
        """Everything is done when the class is made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if issubclass(cls, BaseException):
            return type.__call__(cls, *args, **kwargs)
        mirrored = cast("MirrorType", cls)
        return _call(mirrored._fusechat_peer, mirrored._fusechat_number, args, kwargs)

    def __getattr__(cls, name: str) -> Any:
        return _attribute(cls._fusechat_peer, cls._fusechat_number, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        cls._fusechat_peer.request("set", Reference(cls._fusechat_number), name, value)

    def __iter__(cls) -> Any:
        return cls._special("iter")

    def __len__(cls) -> int:
        return int(cls._special("len"))

    def __getitem__(cls, key: Any) -> Any:
        return cls._fusechat_peer.request("subscript", Reference(cls._fusechat_number), key)

    def __instancecheck__(cls, instance: Any) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        kind = type(instance)  # a namedtuple crosses as its values
        same_name = issubclass(kind, tuple) and hasattr(kind, "_fields") and kind.__name__ == cls.__name__
        return same_name and cls._fields == kind._fields

    def __bool__(cls) -> bool:
        return True

    def _special(cls, name: str, *operands: Any) -> Any:
        return cls._fusechat_peer.request("special", Reference(cls._fusechat_number), name, *operands)


def _member(value: Any) -> tuple[str, Any]:
    """What a class body defines: the decorator and the function, or no decorator and a value."""
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, value.__func__
    return ("property", value.fget) if isinstance(value, property) else ("", value)


class Mirror(metaclass=MirrorType):
    """An object of the other side."""

    __slots__ = ("__weakref__", "_fusechat_id", "_fusechat_to")
    _fusechat_id: int
    _fusechat_to: Requests

    def __getattr__(self, name: str) -> Any:
        return _attribute(self._fusechat_to, self._fusechat_id, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._fusechat_to.request("set", Reference(self._fusechat_id), name, value)

    def __delattr__(self, name: str) -> None:
        self._fusechat_to.request("delete", Reference(self._fusechat_id), name)

    def __dir__(self) -> list[str]:
        return [str(name) for name in self._fusechat_to.request("names", Reference(self._fusechat_id))]

    def __copy__(self) -> Any:
        return self._fusechat_to.request("copy", Reference(self._fusechat_id), False)

    def __deepcopy__(self, memo: object) -> Any:
        return self._fusechat_to.request("copy", Reference(self._fusechat_id), True)

    def _fusechat_base(self) -> list[Any]:
        """The content, if the object is derived from a built-in type, in a list."""
        return cast("list[Any]", self._fusechat_to.request("base", Reference(self._fusechat_id)))

    def __hash__(self) -> int:
        return hash(type(self)._fusechat_number)  # equal objects must have equal hashes


def make_mirror(kind: MirrorType, peer: Requests, number: int) -> Mirror:
    """A mirror of an object, of the class's mirror."""
    found: Mirror = object.__new__(cast("type[Mirror]", kind))
    object.__setattr__(found, "_fusechat_to", peer)
    object.__setattr__(found, "_fusechat_id", number)
    return found


class MirroredClass(NamedTuple):
    """What is known of a class of the other side."""

    number: int
    name: str
    qualname: str
    module: str
    doc: str | None
    known: type | None
    """The type of the standard library that it is."""
    bases: Sequence[type]
    special: Collection[str]
    """Names of `SPECIAL` that it defines."""
    own_eq: bool
    """Whether it compares in another way than by identity."""
    hashable: bool
    is_exception: bool
    immutable: type | None = None
    """The immutable built-in type that it is derived from; its methods work on the content."""


def mirror_class(peer: Requests, found: MirroredClass, methods: dict[str, Any]) -> type:
    """The mirror of a class.

    Args:
        methods: replace those that send a request.
    """
    names: dict[str, Any] = {
        "__slots__": (),
        "__module__": found.module,
        "__qualname__": found.qualname,
        "__doc__": found.doc,
        "_fusechat_peer": peer,
        "_fusechat_number": found.number,
        "__init__": _initialize(peer, found.number),
    }
    if found.is_exception:
        bases = tuple(b for b in found.bases if issubclass(b, BaseException)) or (Exception,)
        del names["__slots__"], names["__init__"]
        return _new_type(found.name, bases, names | {"__str__": _exception_text, "__getattr__": _exception_attribute})
    if found.immutable is not None:
        names |= {f"__{n}__": _on_content(found.immutable, n) for n in SPECIAL if hasattr(found.immutable, f"__{n}__")}
    names |= {f"__{name}__": _special_method(name) for name in found.special if name != "hash"} | methods
    if (kind := found.known or _built_in(found)) is not None:
        names["__class__"] = property(lambda _self: kind)  # for isinstance
    if found.known is types.FunctionType:
        names |= {n: property(lambda self, n=n: self.__getattr__(n)) for n in ("__doc__", "__annotations__")}  # type: ignore[misc]
    return _new_type(found.name, tuple(b for b in found.bases if isinstance(b, MirrorType)) or (Mirror,), names)


def _initialize(peer: Requests, number: int) -> Callable[..., None]:
    """What `super().__init__()` calls in a class of the tests that is derived from the mirror."""

    def initialize(self: Mirror, *args: Any, **kwargs: Any) -> None:
        peer.request("get", Reference(number), "__init__")(self, *args, **kwargs)

    return initialize


def _built_in(found: MirroredClass) -> type | None:
    """A class of this name with the built-in type that it is derived from."""
    base = found.immutable or next((b for b in found.bases if b in BASES), None)
    return None if base is None else type(found.name, (base,), {"__module__": found.module})


def _new_type(name: str, bases: tuple[type, ...], names: dict[str, Any]) -> type:
    try:
        return MirrorType(name, bases, names)
    except TypeError:  # no order of the bases is consistent without those that are left out
        return MirrorType(name, bases[:1], names)


def _on_content(kind: type, name: str) -> Callable[..., Any]:
    """A method of a built-in type on the content of an object."""

    def method(self: Mirror, *operands: Any) -> Any:
        plain = [o._fusechat_base()[0] if isinstance(o, Mirror) else o for o in operands]
        return getattr(kind, f"__{name}__")(self._fusechat_base()[0], *plain)

    return method


def _special_method(name: str) -> Callable[..., Any]:
    def call(self: Mirror, *args: Any, **kwargs: Any) -> Any:
        return _call(self._fusechat_to, self._fusechat_id, args, kwargs)

    def method(self: Mirror, *operands: Any) -> Any:
        return self._fusechat_to.request("special", Reference(self._fusechat_id), name, *operands)

    return call if name == "call" else method


def _attribute(peer: Requests, number: int, name: str) -> Any:
    if name.startswith("__") and name.endswith("__") and name not in READABLE:
        raise AttributeError(name)
    return peer.request("get", Reference(number), name)


def _call(peer: Requests, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return peer.request("call", Reference(number), args, tuple(kwargs), tuple(kwargs.values()))


def _exception_text(self: BaseException) -> str:
    text = vars(self).get("_fusechat_text")
    return str(text) if text is not None else Exception.__str__(cast("Exception", self))


def _exception_attribute(self: BaseException, name: str) -> Any:
    peer = vars(self).get("_fusechat_to")
    if peer is None:
        raise AttributeError(name)
    return _attribute(peer, vars(self)["_fusechat_id"], name)


def make_exception(
    kind: type[BaseException], args: Sequence[Any], peer: Requests, number: int, text: str
) -> BaseException:
    """An exception that the other side raised."""
    try:
        error = kind(*args)
    except Exception:  # noqa: BLE001 - its constructor takes something else
        error = kind.__new__(kind)
        error.args = tuple(args)
    vars(error).update(_fusechat_to=peer, _fusechat_id=number, _fusechat_text=text)
    return error


def is_mirrored(error: BaseException) -> bool:
    """Whether the other side raised this exception."""
    return "_fusechat_to" in vars(error)
