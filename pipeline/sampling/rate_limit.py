"""Rate limits of an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 60.0


class RateLimit:
    """At most `limit` units in any window of `seconds`. None means no limit."""

    def __init__(self, limit: int | None, seconds: float = 60.0) -> None:
        self._limit, self._seconds = limit, seconds
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._lock = asyncio.Lock()

    async def acquire(self, units: float) -> None:
        """Waits until the units fit. More units than the limit wait until the window is empty."""
        if self._limit is None:
            return
        async with self._lock:
            while True:
                now = time.monotonic()
                while self._spent and now - self._spent[0][0] >= self._seconds:
                    self._sum -= self._spent.popleft()[1]
                if not self._spent or self._sum + units <= self._limit:
                    break
                await asyncio.sleep(self._spent[0][0] + self._seconds - now)
            self.adjust(units)

    def adjust(self, units: float) -> None:
        """Adds units that were spent beyond those acquired. A negative number returns units."""
        if self._limit is not None:
            self._spent.append((time.monotonic(), units))
            self._sum += units


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 if it contains neither."""
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
