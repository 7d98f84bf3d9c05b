"""Descriptions of classes and functions, from which the other process makes mirrors."""

from __future__ import annotations

import sys
import types
from typing import Any

from .mirrors import SPECIAL, MirroredClass
from .values import BASES, IMMUTABLE, SCALARS
from .wire import Wire

_COROUTINE = 0x80
"""The flag of coroutine functions (inspect.CO_COROUTINE); inspect itself takes too much memory."""
_STEERING = ("unittest", "doctest", "builtins")
_LIBRARIES = ("numpy", "pandas", "scipy", "sortedcontainers", "dateutil")


def describe_class(kind: type) -> list[Wire]:
    """Name, qualified name, module and documentation; the special methods; whether it compares by more than identity,
    has hashes, and is an exception; and the immutable built-in type that it is derived from, whose methods are left
    out."""
    base = next((b for b in IMMUTABLE if issubclass(kind, b)), None)
    special: list[Wire] = [n for n in SPECIAL if _defines(kind, n, base)]
    hashable = kind.__hash__ is not None
    own_eq = any("__eq__" in vars(c) for c in kind.__mro__ if c is not object)
    module, qualname = str(kind.__module__), str(kind.__qualname__)
    if is_library(module) and _named(module, qualname) is not kind:
        module = ""  # it only says that it is of a library
    texts: list[Wire] = [str(kind.__name__), qualname, module, _doc(kind)]
    is_exception = issubclass(kind, BaseException)
    return [*texts, special, own_eq, hashable, is_exception, None if base is None else base.__name__]


def library_class(found: MirroredClass) -> type | None:
    """The class of a library in this process that the other side names: an exception of it can be caught, an object
    passes as its instance.

    What steers the run of tests is left out: an exception of the candidate must not skip a test.
    """
    value = _named(found.module, found.qualname) if is_library(found.module) else None
    if not isinstance(value, type) or issubclass(value, BASES):
        return None
    # Not under another name: numpy has unittest's SkipTest too.
    is_itself = (value.__module__, value.__qualname__) == (found.module, found.qualname)
    fits = is_itself and issubclass(value, BaseException) == found.is_exception
    return value if fits and value.__module__.partition(".")[0] not in _STEERING else None


def is_library(module: str) -> bool:
    """Whether a module is of Python's standard library or of an installed library that both processes have."""
    root = module.partition(".")[0]
    return root in sys.stdlib_module_names or root in _LIBRARIES


def _named(module: str, qualname: str) -> Any:
    """What a loaded module has under this name; None if it has nothing."""
    value: Any = sys.modules.get(module)
    for name in qualname.split("."):
        value = vars(value).get(name) if isinstance(value, types.ModuleType | type) else None
    return value


def _defines(kind: type, name: str, base: type | None) -> bool:
    method = f"__{name}__"
    own = any(vars(c).get(method) is not None for c in kind.__mro__ if c is not object and c is not base)
    return own or name in ("str", "repr")


def _doc(value: Any) -> str | None:
    doc = getattr(value, "__doc__", None)
    return doc[:10_000] if type(doc) is str else None


def exception_arguments(error: BaseException) -> tuple[Any, ...]:
    """The arguments that make the exception again; an OSError does not keep all of them in `args`."""
    if isinstance(error, OSError) and error.filename is not None:
        return (*error.args[:2], error.filename)
    return error.args


def exception_attributes(error: BaseException) -> list[tuple[str, Any]]:
    """Names and values of the attributes of an exception of the standard library, and notes.

    Those of the candidate's own classes are asked for when they are read.
    """
    own = type(error).__module__.partition(".")[0] not in sys.stdlib_module_names
    return [(n, v) for n, v in vars(error).items() if n == "__notes__" or not (own or n.startswith("_"))]


def text_of(value: Any) -> str:
    """The text of an object, whatever its own `__str__` does."""
    try:
        return str(value)[:10_000]
    except Exception:  # noqa: BLE001 - model-written `__str__`
        return f"a {type(value).__name__} without a text"


def describe_function(value: Any, *, with_parameters: bool) -> list[Wire]:
    """Name, documentation, whether it is a coroutine function, and its parameters."""
    parameters: Wire = None
    if with_parameters:
        import inspect

        try:
            found = inspect.signature(value).parameters.values()
            parameters = [[p.name, int(p.kind), *_default(p)] for p in found]
        except (TypeError, ValueError):
            parameters = None
    return [str(getattr(value, "__name__", "")), _doc(value), _is_coroutine_function(value), parameters]


def _default(parameter: Any) -> list[Wire]:
    """The default value in a list, an ellipsis for one that is no plain value; empty without a default."""
    if parameter.default is parameter.empty:
        return []
    return [parameter.default if type(parameter.default) in SCALARS else ["..."]]


def _is_coroutine_function(value: Any) -> bool:
    code = getattr(value, "__code__", None)
    return isinstance(code, types.CodeType) and bool(code.co_flags & _COROUTINE)
