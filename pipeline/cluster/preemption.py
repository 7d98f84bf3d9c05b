"""SIGTERM: a run stops in good order, and the same command resumes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Preempted

_received = threading.Event()


def sigterm_received() -> bool:
    """Whether SIGTERM has come since the run began."""
    return _received.is_set()


def catch_sigterm() -> None:
    """Makes SIGTERM raise KeyboardInterrupt, once.

    Ray's compiled code checks for no other interrupt while it waits.
    """

    def preempted(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _received.set()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, preempted)


@contextmanager
def preemption() -> Iterator[None]:
    """Within this context, SIGTERM ends the run in good order.

    Raises:
        Preempted: SIGTERM came; replaces whatever exception it led to.
    """
    _received.clear()
    catch_sigterm()
    try:
        yield
    except BaseException as error:
        if _received.is_set():
            raise Preempted from error
        raise
