"""Time that passes when nothing else is to be done: tests of waits that take none, and come out the same anywhere."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Where the loop would wait for its next timer, the clock is put forward to it. A turn takes a microsecond."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(None if timeout is None else 0)
        self.now += 1e-6 if found or not timeout else timeout + 1e-6
        return found


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own. What it waits for must not happen in another thread or process."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Callable[[], Coroutine[Any, Any, T]], *modules: Any) -> T:
    """What `main` returns on such a loop, whose clock is also the `time.monotonic` of the modules."""
    with asyncio.Runner(loop_factory=Loop) as runner, pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "time", SimpleNamespace(monotonic=runner.get_loop().time))
        return runner.run(main())
