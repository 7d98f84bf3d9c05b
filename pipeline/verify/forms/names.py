"""The names that tests see: their own, then those of the candidate, then Python's."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.abc
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..remote.comparison import UndecidedError
from ..remote.described import is_library
from . import starter

MODULE = "solution"
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class TestNames(dict[str, Any]):
    """The global names of the tests.

    A name that the tests do not define is looked up in the candidate each time, so that the tests see it as it is. The
    candidate can't replace what belongs to Python: functions that need no import, and what LeetCode imports, such as
    `Counter` and `sqrt`, which tests use when the response has imported it.

    Args:
        defined: the names that the candidate defines.
        modules: name -> module that the candidate has imported under that name.
        find: the candidate's object of a name.
        undecided: is told why there can be no verdict.
    """

    __test__ = False

    def __init__(
        self,
        defined: Collection[str],
        modules: Mapping[str, str],
        find: Callable[[str], Any],
        undecided: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._defined, self._modules, self._find, self._undecided = defined, modules, find, undecided

    def __missing__(self, name: str) -> Any:
        if name not in self._defined or hasattr(builtins, name):
            raise KeyError(name)
        module = self._modules.get(name, "")
        if is_library(module) and module in sys.modules:
            return sys.modules[module]
        if name in starter.known():
            return starter.known()[name]
        if name.startswith("assert"):
            why = f"the tests use {name}, which only the response defines"
            self._undecided(why)
            raise UndecidedError(why)
        return self._find(name)


class CandidateModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the candidate under any module name that does not exist here: `from solution import f`.

    Args:
        defined: the names that the candidate defines.
        find: the candidate's object of a name.
        replace: sets a name of the candidate.
        imported: the modules that the tests import. Others stay missing.
        undecided: is told that the tests need a module that is not here.
    """

    def __init__(
        self,
        imported: Collection[str],
        defined: Collection[str],
        find: Callable[[str], Any],
        replace: Callable[[str, Any], None],
        undecided: Callable[[str], None],
    ) -> None:
        self._imported, self._defined, self._find_name = imported, defined, find
        self._replace, self._undecided = replace, undecided

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a name that the tests import."""
        root = fullname.partition(".")[0]
        exists = root != fullname and not isinstance(sys.modules.get(root), _CandidateModule)
        if root not in self._imported or exists:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A module that has the candidate's names."""
        return _CandidateModule(spec.name, self)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""

    def attribute(self, module: str, name: str) -> Any:
        """The candidate's object of a name; a module that the tests need and that is not here ends the check."""
        if name in self._defined:
            return self._find_name(name)
        if name.startswith("__"):
            raise AttributeError(name)
        why = f"the tests need {name} of the module {module}, which is neither here nor in the response"
        self._undecided(why)
        raise UndecidedError(why)

    def replace(self, name: str, value: Any) -> None:
        """Sets a name of the candidate, as mock.patch does."""
        self._replace(name, value)


class _NoNames:
    """What `__dict__` of the candidate's module shows: monkeypatch would take what it lacks for undefined."""

    def keys(self) -> tuple[str, ...]:
        """No names."""
        return ()

    def __getitem__(self, name: str) -> object:
        raise KeyError(name)


class _CandidateModule(types.ModuleType):
    """The candidate as a module."""

    __dict__ = property(lambda _self: _NoNames())

    def __init__(self, name: str, modules: CandidateModules) -> None:
        super().__init__(name)
        object.__setattr__(self, "_modules", modules)
        object.__setattr__(self, "_deleted", set())

    def __getattr__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "_deleted"):
            raise AttributeError(name)
        return object.__getattribute__(self, "_modules").attribute(self.__name__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or isinstance(value, types.ModuleType):
            super().__setattr__(name, value)
        else:
            object.__getattribute__(self, "_deleted").discard(name)
            object.__getattribute__(self, "_modules").replace(name, value)

    def __delattr__(self, name: str) -> None:
        """Hides a name, as mock.patch does before it sets it again."""
        object.__getattribute__(self, "_deleted").add(name)


def imports_of(nodes: Iterable[ast.AST]) -> dict[str, set[str]]:
    """Module -> names that the tests import from it."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.name.partition(".")[0], set())
        elif isinstance(node, ast.ImportFrom):
            node.level = 0  # `from .solution import f`: there is no package
            node.module = node.module or MODULE
            found.setdefault(node.module.partition(".")[0], set()).update(a.name for a in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            found.setdefault(node.value.partition(".")[0], set())  # of mock.patch
    return found


def install(modules: CandidateModules, imports: dict[str, set[str]], defined: Collection[str]) -> None:
    """Makes imports of the tests find the candidate, also where a module of that name exists: `from test import f`."""
    sys.meta_path.append(modules)
    for module, names in imports.items():
        if names and names <= set(defined) and not all(hasattr(_real_module(module), name) for name in names):
            sys.modules[module] = _CandidateModule(module, modules)


def _real_module(name: str) -> types.ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
