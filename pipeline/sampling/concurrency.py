"""A limit on the number of samples in flight."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ConcurrencyLimit:
    """Limits the number of samples in flight.

    Retries come before first attempts. Otherwise slots are granted first come, first served.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.in_use = limit, 0
        self._exclusive = False
        self._waiting: list[tuple[bool, int, int, bool, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def acquire(self, num: int, *, exclusive: bool = False, retry: bool = False) -> None:
        """Waits for `num` slots.

        Args:
            exclusive: waits until no slot is in use, and admits nobody else until `end_exclusive`.
            retry: goes before first attempts.
        """
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not (exclusive or retry), next(self._numbers), num, exclusive, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.release(num)
                if exclusive:
                    self.end_exclusive()
            raise

    def _admit(self) -> None:
        while self._waiting and not self._exclusive:
            _, _, num, exclusive, admitted = self._waiting[0]
            if not admitted.cancelled():
                if self.in_use and (exclusive or self.in_use + num > self.limit):
                    return
                self.in_use += num
                self._exclusive = exclusive
                admitted.set_result(None)
            heapq.heappop(self._waiting)

    def release(self, num: int) -> None:
        """Returns slots."""
        self.in_use -= num
        self._admit()

    def end_exclusive(self) -> None:
        """Admits others again after an exclusive request."""
        self._exclusive = False
        self._admit()

    @property
    def is_saturated(self) -> bool:
        """Whether requests are waiting, i.e. the engine has as much work as it may have."""
        return bool(self._waiting)
