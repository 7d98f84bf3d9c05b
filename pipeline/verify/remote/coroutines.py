"""Runs coroutines in the sandbox, which has no sockets: asyncio's loop needs one only to be woken by other threads."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Any


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, also while another loop runs."""
    if "asyncio" not in sys.modules:  # it awaits nothing of asyncio's
        return _run_without_loop(coroutine)
    import asyncio
    from asyncio import events

    running = events._get_running_loop()
    events._set_running_loop(None)
    try:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            loop.close()
    finally:
        events._set_running_loop(running)


def _run_without_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def use_loops_without_sockets() -> None:
    """Makes asyncio's loops of this process work without sockets."""
    import asyncio
    import selectors

    class Loop(asyncio.SelectorEventLoop):
        """A loop that no other thread wakes."""

        def __init__(self) -> None:
            super().__init__(selectors.PollSelector())

        def _make_self_pipe(self) -> None:
            self._ssock = self._csock = None
            self._internal_fds = 0

        def _close_self_pipe(self) -> None:
            """There is nothing to close."""

        def _write_to_self(self) -> None:
            """There is nobody to wake."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        """Makes such loops."""

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return Loop()

    asyncio.set_event_loop_policy(Policy())
