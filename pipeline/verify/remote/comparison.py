"""How the judge compares the candidate's objects: no answer of the candidate alone makes a comparison true.

- Compared with a value of the tests, an object is unequal, unless it is an instance of a subclass of a built-in type
  whose content is equal.
- Two objects of the candidate are equal if they are the same, or if their class says so and their contents are equal.
- An operator with a value of the tests is applied only for classes that the tests name, and only if the result is an
  object again: the other operand may be the expected value.

Where the candidate's word is all there is, `UndecidedError` ends the check without a verdict.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, cast

from .mirrors import OPERATORS, Mirror, MirroredClass, MirrorType, Reference, is_mirrored

_UNARY = (
    "abs",
    "float",
    "int",
    "index",
    "round",
    "trunc",
    "floor",
    "ceil",
    "bool",
    "len",
    "complex",
    "neg",
    "pos",
    "invert",
)
_TEXTS = ("str", "repr", "format")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class UndecidedError(BaseException):
    """The tests can't judge the candidate; the text says why. No handler of the tests catches it."""


class Comparison:
    """Makes the special methods of the judge's mirrors.

    Args:
        named: the names in the tests.
        undecided: is told why there can be no verdict, before `UndecidedError` is raised.
        raised: is told of a failure of the tests that the candidate could hide.
    """

    def __init__(
        self, named: Collection[str], undecided: Callable[[str], None], raised: Callable[[BaseException], None]
    ) -> None:
        self._named, self._undecided, self._raised = named, undecided, raised
        self._derived: set[int] = set()
        """Numbers of objects that an operator with a value of the tests returned."""
        self._told: set[int] = set()
        """Numbers of objects that were compared with a value of the tests: they may know it."""

    def methods(self, kind: MirroredClass) -> dict[str, Any]:
        """The methods that replace those that only send a request, by their name with underscores."""
        named = kind.name in self._named
        found: dict[str, Any] = {
            "__eq__": self._eq(kind),
            "__ne__": self._ne(kind),
            "_fusechat_base": self._base(),
        }
        if not kind.hashable:
            found["__hash__"] = None
        elif kind.immutable is None:  # otherwise equal objects have the hash of their content
            found["__hash__"] = Mirror.__hash__
        for name in kind.special:
            if name in OPERATORS:
                found[f"__{name}__"] = self._operator(name) if named else _not_implemented
            elif name in _ORDER:
                found[f"__{name}__"] = self._order(name)
            elif name == "contains":
                found["__contains__"] = self._contains(named, iterable="iter" in kind.special)
            elif name == "exit":
                found["__exit__"] = self._exit()
            elif name == "aexit":
                found["__aexit__"] = self._aexit()
            elif name in _UNARY:
                found[f"__{name}__"] = self._unary(name)
            elif name in _TEXTS:
                found[f"__{name}__"] = self._text(name)
        return found

    def _base(self) -> Callable[[Any], list[Any]]:
        def base(a: Mirror) -> list[Any]:
            found = Mirror._fusechat_base(a)
            if found and a._fusechat_id in self._derived | self._told:
                self._stop_given(a)
            return found

        return base

    def _ne(self, kind: MirroredClass) -> Callable[[Any, Any], bool]:
        def ne(a: Any, b: Any) -> bool:
            differs = not a == b  # noqa: SIM201 - this is what `!=` calls
            own = "ne" in kind.special and type(a) is type(b)
            if own and a is not b and (_ask(a, "ne", b) is True) is not differs:
                self._stop(f"the candidate's {kind.name} is neither equal nor unequal")
            return differs

        return ne

    def _eq(self, kind: MirroredClass) -> Callable[[Any, Any], object]:
        def eq(a: Mirror, b: object) -> object:
            if a is b:
                return True
            if type(type(b)) is not MirrorType:
                return self._equals_value(a, b, kind)
            if type(a) is not type(b) or not kind.own_eq:
                return False
            if _ask(a, "eq", b) is not True:
                return False
            states = _state(a), _state(b)
            if states[0] != states[1] or states[0] == (None, {}):
                self._stop(f"only the candidate's own {kind.name}.__eq__ says that two objects are equal")
            return True

        return eq

    def _equals_value(self, a: Mirror, b: object, kind: MirroredClass) -> object:
        base = a._fusechat_base()
        if base:
            return base[0] == b and _ask(a, "eq", b) is True
        if getattr(type(b), "__module__", "") in ("__main__", "unittest.mock") or hasattr(type(b), "__approx__"):
            return NotImplemented  # an object of the tests compares itself
        if kind.own_eq and kind.name in self._named:
            self._told.add(a._fusechat_id)
            if _ask(a, "eq", b) is True:
                self._stop(f"only the candidate's own {kind.name}.__eq__ says that it equals a value of the tests")
        return NotImplemented if type(b).__eq__ is not object.__eq__ and not _is_plain(b) else False

    def _order(self, name: str) -> Callable[[Any, Any], object]:
        def method(a: Mirror, b: object) -> object:
            base = a._fusechat_base()
            if base and type(type(b)) is not MirrorType:
                return _ORDER[name](base[0], b)
            if type(b) is not type(a):
                return NotImplemented
            strict = name in ("lt", "gt")
            both = _ask(a, name, b) is True, _ask(b, name, a) is True  # a class that always says yes orders nothing
            return both[0] and not (strict and both[1])

        return method

    def _operator(self, name: str) -> Callable[..., object]:
        def method(a: Mirror, *operands: object) -> object:
            result = _ask(a, name, *operands)
            if result is NotImplemented or all(type(type(b)) is MirrorType for b in operands):
                return result
            if type(type(result)) is not MirrorType:
                self._stop_given(a)
            self._derived.add(result._fusechat_id)
            return result

        return method

    def _text(self, name: str) -> Callable[..., object]:
        def method(a: Mirror, *operands: object) -> object:
            if a._fusechat_id in self._told:
                self._stop_given(a)
            return _ask(a, name, *operands)

        return method

    def _unary(self, name: str) -> Callable[..., object]:
        def method(a: Mirror, *operands: object) -> object:
            result = _ask(a, name, *operands)
            if a._fusechat_id in self._derived | self._told:
                if type(type(result)) is not MirrorType:
                    self._stop_given(a)
                self._derived.add(result._fusechat_id)
            return result

        return method

    def _contains(self, named: bool, *, iterable: bool) -> Callable[[Any, Any], bool]:
        def contains(a: Mirror, item: object) -> bool:
            says = _ask(a, "contains", item) is True
            if iterable:
                items: Iterable[object] = cast("Any", a)
                found = any(item is each or item == each for each in items)
                if found is says:
                    return found
                if not named:
                    self._stop(f"the candidate's {type(a).__name__} holds other items than those it iterates over")
            if not named:
                raise TypeError("the object can't be searched")
            if says and _ask(a, "contains", _other(item)) is True:
                self._stop(f"the candidate's {type(a).__name__} holds whatever is looked for")
            return says

        return contains

    def _exit(self) -> Callable[..., bool]:
        def leave(a: Mirror, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
            """Leaves a `with` block. A failure of the tests is not suppressed."""
            failed = self._note_failure(error)
            return bool(_ask(a, "exit", kind, error, None)) and not failed

        return leave

    def _aexit(self) -> Callable[..., Coroutine[Any, Any, bool]]:
        async def leave(a: Mirror, kind: type[BaseException] | None, error: BaseException | None, _t: object) -> bool:
            failed = self._note_failure(error)
            return bool(await _ask(a, "aexit", kind, error, None)) and not failed

        return leave

    def _note_failure(self, error: BaseException | None) -> bool:
        failed = isinstance(error, AssertionError) or type(error).__name__ == "Failed"
        if error is None or not failed or is_mirrored(error):
            return False
        self._raised(error)
        return True

    def _stop_given(self, a: Mirror) -> None:
        self._stop(f"an operator of the candidate's {type(a).__name__} was given a value of the tests")

    def _stop(self, why: str) -> None:
        self._undecided(why)
        raise UndecidedError(why)


def _not_implemented(_a: object, *_operands: object) -> object:
    return NotImplemented


def _ask(a: Mirror, name: str, *operands: object) -> Any:
    return a._fusechat_to.request("special", Reference(a._fusechat_id), name, *operands)


def _state(a: Mirror) -> tuple[Any, dict[str, Any]]:
    base, names, values = a._fusechat_to.request("state", Reference(a._fusechat_id))
    return base, dict(zip(names, values, strict=True))


def _other(item: object) -> object:
    """A value of the same type that nobody can have put anywhere."""
    if isinstance(item, str):
        return item + "\0" + item[::-1]
    if isinstance(item, int | float):
        return item + 0x5EED_5EED_5EED
    return ("\0", item)


def _is_plain(value: object) -> bool:
    return type(value).__module__ in ("builtins", "collections", "datetime", "decimal", "fractions", "numpy", "uuid")
