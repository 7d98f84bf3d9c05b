"""Stopping all processes of one side while the other is measured."""

from __future__ import annotations

import contextlib
import signal

import psutil


def send(pid: int, number: int) -> None:
    """A signal to a process and to all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)


def pause(pid: int) -> None:
    """Stops them; the process must have a session of its own, or the end of its parent's shell wakes it."""
    send(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Lets them go on."""
    send(pid, signal.SIGCONT)
