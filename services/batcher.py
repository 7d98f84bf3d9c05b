"""Batches across callers: what concurrent requests ask of one replica is sorted by length and rated together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from .reward_inputs import Conversation, RewardNetwork, Row, Score, batches

WAIT_S = 0.005
"""Seconds that the first row waits for others; while a pass is under way they gather anyway."""
WINDOW = 16
"""Batches' worth of tokens that are sorted at once; the oldest rows come first, so that no long one waits for ever."""


class Collector:
    """Rates conversations of many callers on one network, one forward pass at a time."""

    def __init__(self, model: RewardNetwork, max_batch_tokens: int) -> None:
        self._model, self._max_batch_tokens = model, max_batch_tokens
        self._waiting: deque[tuple[Row, asyncio.Future[Score]]] = deque()
        self._tokens = 0
        self._enough = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        # Threads of their own: tokenizers must not be called twice at once, and a pass takes the whole device.
        self._encoding, self._rating = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.num_tokens = self.num_computed = 0
        """Tokens of the rows rated so far, and the same with padding."""

    async def score(self, conversations: Sequence[Conversation]) -> list[Score]:
        """One score each, in the order given."""
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoding, lambda: [self._model.encode(c) for c in conversations])
        futures = [self._add(e) for e in encoded if isinstance(e, Row)]
        rated = iter(await asyncio.gather(*futures))
        return [next(rated) if isinstance(e, Row) else e for e in encoded]

    def _add(self, row: Row) -> asyncio.Future[Score]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        self._tokens += len(row.ids)
        if self._tokens >= self._max_batch_tokens * WINDOW:
            self._enough.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), WAIT_S)
            window = self._take()
            for batch in batches(window, [len(row.ids) for row, _ in window], self._max_batch_tokens):
                wanted = [(row, future) for row, future in batch if not future.done()]  # a caller may have left
                if not wanted:
                    continue
                rows = [row for row, _ in wanted]
                try:
                    scores = await loop.run_in_executor(self._rating, self._model.rate, rows)
                except Exception as error:  # noqa: BLE001 - raised where each caller waits
                    for _, future in wanted:
                        if not future.done():
                            future.set_exception(error)
                    continue
                self.num_tokens += sum(len(row.ids) for row in rows)
                self.num_computed += len(rows) * max(len(row.ids) for row in rows)
                for (_, future), score in zip(wanted, scores, strict=True):
                    if not future.done():
                        future.set_result(score)

    def _take(self) -> list[tuple[Row, asyncio.Future[Score]]]:
        """The oldest rows, a window of them."""
        window: list[tuple[Row, asyncio.Future[Score]]] = []
        left = self._max_batch_tokens * WINDOW
        while self._waiting and (left > 0 or not window):
            row, future = self._waiting.popleft()
            left -= len(row.ids)
            self._tokens -= len(row.ids)
            window.append((row, future))
        if self._tokens < self._max_batch_tokens * WINDOW:
            self._enough.clear()
        return window
