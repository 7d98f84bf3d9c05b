"""Rate limits of an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import parsedate_to_datetime

LONGEST_WAIT_S = 60.0


class Window:
    """At most `limit` units in any `seconds`; any number where there is no limit."""

    def __init__(self, limit: int | None, seconds: float = 60.0) -> None:
        self._limit, self._seconds = limit, seconds
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._turn = asyncio.Lock()

    async def take(self, units: float) -> None:
        """Waits until so many units fit; more than the limit wait until nothing is spent."""
        if self._limit is None:
            return
        async with self._turn:
            while True:
                now = time.monotonic()
                while self._spent and now - self._spent[0][0] >= self._seconds:
                    self._sum -= self._spent.popleft()[1]
                if not self._spent or self._sum + units <= self._limit:
                    break
                await asyncio.sleep(self._spent[0][0] + self._seconds - now)
            self.correct(units)

    def correct(self, units: float) -> None:
        """Counts what was spent beyond what was taken; a negative number gives back."""
        if self._limit is not None:
            self._spent.append((time.monotonic(), units))
            self._sum += units


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, a number or a date; none where it says neither."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
