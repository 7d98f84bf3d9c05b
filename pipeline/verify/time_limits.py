"""Deadlines in processor time, so that a busy machine fails no right answer, with a wall-clock bound behind them."""

from __future__ import annotations

from time import clock_gettime, monotonic  # by name: tests may patch the module

from .frames import LateError

WALL_FACTOR = 5.0
"""A check may take this many times its processor time by the clock, e.g. while it sleeps or waits for a core."""
_LEAST_WAIT_S = 0.002


class ProcessTime:
    """The time of one process: processor seconds since now, and wall-clock seconds.

    Args:
        pid: a process that this one started, or a sibling.
        cpu_s: processor seconds that it may use.
        wall_s: wall-clock seconds that it may take.
    """

    def __init__(self, pid: int, cpu_s: float, wall_s: float) -> None:
        self._clock = (~pid << 3) | 2  # the kernel's number of the clock of another process
        self._end_cpu = self._used() + cpu_s
        self._end_wall = monotonic() + wall_s

    def wait_s(self) -> float:
        """Seconds in which the time can't be over.

        Raises:
            LateError: it is over.
        """
        left = min(self._end_cpu - self._used(), self._end_wall - monotonic())
        if left <= 0:
            raise LateError
        return max(left, _LEAST_WAIT_S)

    def _used(self) -> float:
        try:
            return clock_gettime(self._clock)
        except OSError:  # it has ended, which its pipes tell
            return 0.0
