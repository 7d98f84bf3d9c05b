"""Simulated time: tests of waits that take no time and have the same result on every machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting for the next timer, moves the clock to it. Each turn of the loop takes a microsecond."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(None if timeout is None else 0)
        self.now += 1e-6 if events or not timeout else timeout + 1e-6
        return events


class ManualClock:
    """A monotonic clock that a test moves by setting `now`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tick_s = 0.0
        """Seconds that each reading takes."""

    def __call__(self) -> float:
        self.now += self.tick_s
        return self.now

    monotonic = __call__


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a simulated clock. What it waits for must not happen in another thread or process."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Callable[[], Coroutine[Any, Any, T]], *modules: Any) -> T:
    """Runs `main` on such a loop and returns its result. The loop's clock replaces `time.monotonic` in `modules`."""
    with asyncio.Runner(loop_factory=Loop) as runner, pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "time", SimpleNamespace(monotonic=runner.get_loop().time))
        return runner.run(main())
