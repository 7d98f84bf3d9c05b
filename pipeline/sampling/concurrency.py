"""A bound on the samples in flight."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ConcurrencyLimit:
    """Bounds the samples in flight. Who asks again comes before who asks for the first time; else first come, first
    served."""

    def __init__(self, limit: int) -> None:
        self.limit, self.in_use = limit, 0
        self._alone = False
        self._waiting: list[tuple[bool, int, int, bool, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def take(self, num: int, *, alone: bool = False, again: bool = False) -> None:
        """Waits for `num` slots; `alone` waits for all of them and lets nobody else in until `open`."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not (alone or again), next(self._numbers), num, alone, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.give(num)
                if alone:
                    self.open()
            raise

    def _admit(self) -> None:
        while self._waiting and not self._alone:
            _, _, num, alone, admitted = self._waiting[0]
            if not admitted.cancelled():
                if self.in_use and (alone or self.in_use + num > self.limit):
                    return
                self.in_use += num
                self._alone = alone
                admitted.set_result(None)
            heapq.heappop(self._waiting)

    def give(self, num: int) -> None:
        """Gives slots back."""
        self.in_use -= num
        self._admit()

    def open(self) -> None:
        """Lets others in again after an `alone` turn."""
        self._alone = False
        self._admit()

    @property
    def full(self) -> bool:
        """Whether somebody waits: the engine has as much to do as it may have."""
        return bool(self._waiting)
