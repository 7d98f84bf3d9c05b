"""What the judge lets the candidate do with the objects of the tests that it was passed.

The candidate is hostile. It may call the functions that it was passed, iterate, and use the public attributes of
instances of the tests' own classes. It reaches no attribute with an underscore, and no attribute of functions,
generators or other objects of Python itself: those lead to the tests and to everything else in this process.
"""

from __future__ import annotations

import builtins
import collections
import functools
import io
import operator
import random
import re
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

from .coroutines import run_coroutine
from .mirrors import SPECIAL, is_mirrored
from .values import SCALARS
from .wire import Wire

TESTS = "__main__"
"""The module of the tests' own classes."""
_VALUE_TYPES = (int, float, str, bool, list, tuple, set, dict)
_METHODS = (types.FunctionType, types.BuiltinFunctionType, classmethod, staticmethod, types.MethodDescriptorType)
_CONTAINERS = (list, dict, set, bytearray, collections.deque)
_STREAMS = (io.StringIO, io.BytesIO)
_RECORDS = frozenset({
    "called", "call_count", "call_args", "call_args_list", "mock_calls", "method_calls", "return_value", "side_effect",
    *("assert_any_call", "assert_called", "assert_called_once", "assert_called_once_with", "assert_called_with"),
    *("assert_has_calls", "assert_not_called", "assert_awaited", "assert_awaited_once", "assert_not_awaited"),
})  # fmt: skip
"""What a mock knows of its calls, and does."""
_STREAM_METHODS = frozenset({
    "read", "readline", "readlines", "write", "writelines", "getvalue", "seek", "tell", "close", "closed", "flush",
    "truncate", "readable", "writable", "seekable",
})  # fmt: skip


class Guard:
    """Serves the candidate's requests within these limits."""

    failed: AssertionError | None = None
    """The first assertion that failed in a function of the tests that the candidate called: it may have caught it."""

    def get(self, value: Any, name: Any) -> Any:
        """A public attribute.

        Raises:
            AttributeError: it is none that the candidate may read.
        """
        self._check_name(value, name)
        if isinstance(value, _STREAMS) and name not in _STREAM_METHODS:
            raise AttributeError(name)
        return getattr(value, name)

    def set(self, value: Any, name: Any, new: Any) -> None:
        """Sets a data attribute of an instance; a method stays what the tests say that it is.

        Raises:
            AttributeError: it is none that the candidate may set.
        """
        self._check_name(value, name)
        found = next((vars(c)[name] for c in type(value).__mro__ if name in vars(c)), None)
        is_open = _is_test_class(type(value)) or isinstance(value, (types.SimpleNamespace, *_mocks()))
        if not is_open or isinstance(value, type) or isinstance(found, _METHODS) or name in _RECORDS:
            raise AttributeError(name)
        setattr(value, name, new)

    def delete(self, value: Any, name: Any) -> None:
        """Deletes nothing.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(name)

    def call(self, value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a function, a class or an object of the tests.

        Raises:
            TypeError: it can't be called.
        """
        if not _is_callable(value):
            raise TypeError(f"a {type(value).__name__} of the tests can't be called")
        return value(*args, **kwargs)

    def special(self, value: Any, name: Any, operands: Sequence[Any]) -> Any:
        """Calls a special method.

        Raises:
            TypeError: the object has none of this name.
        """
        if name == "call":
            return self.call(value, operands, {})
        if name in SPECIAL and isinstance(value, _mocks()):
            return getattr(value, f"__{name}__")(*operands)
        method = getattr(type(value), f"__{name}__", None) if name in SPECIAL else None
        if method is None or isinstance(value, type | types.ModuleType):
            raise TypeError(f"a {type(value).__name__} of the tests has no such method")
        return method(value, *operands)

    def extra(self, op: str, operands: Sequence[Any]) -> Any:
        """Reads a line as the tests' `input` does, runs a coroutine, or advances a generator.

        Raises:
            TypeError: there is no such request.
        """
        if op == "input":
            return builtins.input(str(operands[0]))
        value = operands[0]
        if op == "run" and isinstance(value, types.CoroutineType):
            return run_coroutine(value)
        if op == "method" and isinstance(value, types.GeneratorType):
            advance: dict[str, Callable[..., Any]] = {
                "__next__": value.__next__,
                "send": value.send,
                "throw": value.throw,
            }
            return advance[operands[1]](*operands[2:])
        raise TypeError("no such request")

    def importable(self, value: Any) -> tuple[str, str] | None:
        """What belongs to Python or a library: the candidate uses its own, which reaches nothing here."""
        if isinstance(value, types.ModuleType):
            return (value.__name__, "") if sys.modules.get(value.__name__) is value else None
        name = getattr(value, "__name__", "")
        if type(value).__name__ == "ufunc" and getattr(sys.modules["numpy"], name, None) is value:
            return "numpy", name
        if not isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodDescriptorType):
            return None
        owner = value.__objclass__ if isinstance(value, types.MethodDescriptorType) else value
        module, name = getattr(owner, "__module__", None), getattr(value, "__qualname__", "")
        if module is None or module == TESTS or module not in sys.modules:
            return None
        try:
            found = functools.reduce(getattr, name.split("."), cast("Any", sys.modules[module]))
        except AttributeError:
            return None
        return (module, name) if found is value else None

    def import_(self, module: Any, name: Any) -> Any:
        """Nothing is imported for the candidate.

        Raises:
            ValueError: always.
        """
        raise ValueError("the candidate names something to import")

    def raised(self, error: BaseException) -> None:
        """Notes an assertion of the tests that failed: the candidate may catch it."""
        if isinstance(error, AssertionError) and not is_mirrored(error):
            self.failed = self.failed or error

    def sends_base(self, value: Any) -> bool:
        """Instances of subclasses of built-in types are sent as their base values."""
        return not _is_test_class(type(value)) or isinstance(value, int | float | str)

    def take_events(self) -> list[Wire]:
        """What the tests print stays here."""
        return []

    def show_events(self, events: list[Any]) -> None:
        """Prints, logs and warns as the candidate did: the tests may have redirected it."""
        for kind, *parts in events:
            if kind == "print":
                sys.stdout.write(str(parts[0]))
            elif kind == "log" and "logging" in sys.modules:
                sys.modules["logging"].getLogger(str(parts[0])).log(int(parts[1]), "%s", str(parts[2]))
            elif kind == "warning":
                category = getattr(builtins, str(parts[0]), None)
                known = isinstance(category, type) and issubclass(category, Warning)
                warnings.warn(str(parts[1]), category if known else UserWarning, stacklevel=2)

    def _check_name(self, value: Any, name: Any) -> None:
        kind = value if isinstance(value, type) else type(value)
        if (
            type(name) is not str
            or name.startswith("_")
            or not (_is_test_class(kind) or isinstance(value, _open_types()))
        ):
            raise AttributeError(name)


def _is_test_class(kind: type) -> bool:
    return kind.__module__ == TESTS


def _mocks() -> tuple[type, ...]:
    mock: Any = sys.modules.get("unittest.mock")
    return (mock.NonCallableMock,) if mock else ()


def _open_types() -> tuple[type, ...]:
    return (*_STREAMS, types.SimpleNamespace, *_mocks())


def _is_callable(value: Any) -> bool:
    if isinstance(value, type):
        return _is_test_class(value)
    if type(getattr(value, "__self__", None)) is random.Random:
        return True
    if isinstance(value, types.MethodType):
        owner = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
        return isinstance(value.__func__, types.FunctionType) and _is_test_class(owner)
    if isinstance(value, types.FunctionType):
        return value.__module__ == TESTS
    if isinstance(value, functools.partial):
        return _is_callable(value.func) or _is_operation(value.func)
    if isinstance(value, functools._lru_cache_wrapper):
        return _is_callable(value.__wrapped__)
    if isinstance(value, operator.itemgetter | operator.attrgetter | operator.methodcaller):
        return True
    if isinstance(value, types.MethodWrapperType):  # `(5).__lt__`
        return type(value.__self__) in SCALARS
    if isinstance(value, types.BuiltinMethodType):
        return isinstance(value.__self__, (*_CONTAINERS, str, re.Pattern, *_STREAMS))
    return _is_test_class(type(value)) or (isinstance(value, _mocks()) and callable(value))


def _is_operation(value: Any) -> bool:
    """Whether a function only computes: operators, those of math, and the types of plain values."""
    return value in _VALUE_TYPES or (
        isinstance(value, types.BuiltinFunctionType) and value.__module__ in ("_operator", "math")
    )
