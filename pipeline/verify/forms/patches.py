"""What tests do with Python's modules is done for the candidate too: seeds, mock.patch, monkeypatch, dataclasses."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from typing import Any

from ..remote.mirrors import MirrorType

_SEEDED = ("random", "numpy.random")
_DATACLASSES = ("asdict", "astuple", "fields", "is_dataclass", "replace")
"""They read a class in ways that a mirror does not have."""


class Patches:
    """Passes changes on to the candidate.

    Args:
        request: asks the candidate.
        importable: module and name of an object that the candidate can import.
    """

    def __init__(self, request: Callable[..., Any], importable: Callable[[Any], tuple[str, str] | None]) -> None:
        self._request, self._importable = request, importable
        self._environ = dict(os.environ)

    def install(self) -> None:
        """Begins to pass changes on, in this process, for good. `sync` passes on the rest before each call."""
        for name in _SEEDED:
            module: Any = sys.modules.get(name)
            if module is not None:
                module.seed = self._seeding(name, module.seed)
        dataclasses: Any = sys.modules.get("dataclasses")
        for name in _DATACLASSES if dataclasses is not None else ():
            setattr(dataclasses, name, self._forwarding(name, getattr(dataclasses, name)))
        mock: Any = sys.modules.get("unittest.mock")
        if mock is not None:
            self._wrap_patch(mock._patch)
        pytest: Any = sys.modules.get("pytest")
        if pytest is not None:
            self._wrap_monkeypatch(pytest.MonkeyPatch)

    def sync(self) -> None:
        """Passes on environment variables that have changed."""
        names = dict(os.environ)
        if names != self._environ:
            self._environ = names
            self._request("environ", names)

    def _seeding(self, module: str, seed: Callable[..., None]) -> Callable[..., None]:
        def seed_both(*args: Any) -> None:
            seed(*args)
            self._request("seed", module, args)

        return seed_both

    def _forwarding(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of `dataclasses`; for the candidate's objects, the candidate's."""

        def forward(value: Any, *args: Any, **kwargs: Any) -> Any:
            theirs = MirrorType in (type(value), type(type(value)))
            return (self._request("imported", "dataclasses", name) if theirs else function)(value, *args, **kwargs)

        return forward

    def _wrap_patch(self, kind: Any) -> None:
        enter, leave = kind.__enter__, kind.__exit__

        def enter_both(patch: Any) -> Any:
            found = enter(patch)
            self._set(patch.target, patch.attribute)
            return found

        def leave_both(patch: Any, *error: Any) -> Any:
            target = patch.target
            done = leave(patch, *error)
            self._set(target, patch.attribute, restore=True)
            return done

        kind.__enter__, kind.__exit__ = enter_both, leave_both

    def _wrap_monkeypatch(self, kind: Any) -> None:
        set_attribute, undo = kind.setattr, kind.undo

        def set_both(patch: Any, *args: Any, **kwargs: Any) -> None:
            before = len(patch._setattr)
            set_attribute(patch, *args, **kwargs)
            for target, name, _ in patch._setattr[before:]:
                self._set(target, name)

        def undo_both(patch: Any) -> None:
            changed = [(target, name) for target, name, _ in patch._setattr]
            undo(patch)
            for target, name in changed:
                self._set(target, name, restore=True)

        kind.setattr, kind.undo = set_both, undo_both

    def _set(self, target: Any, name: str, *, restore: bool = False) -> None:
        """Sets an attribute of a module or class for the candidate as it is here, or as it was in the candidate."""
        if not isinstance(target, types.ModuleType | type) or type(target) not in (types.ModuleType, type):
            return
        found = self._importable(target)
        if found is not None:
            value = [] if restore else [target.__dict__.get(name)]
            self._request("patch", *found, name, value)
