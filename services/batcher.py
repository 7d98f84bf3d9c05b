"""Dynamic batching: conversations of concurrent requests are sorted by length and scored together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from .reward_inputs import Conversation, RewardInput, RewardNetwork, RewardScore, batches

WAIT_S = 0.005
"""Seconds that the first row waits for others. During a forward pass, rows queue up anyway."""
WINDOW = 16
"""Rows are sorted by length within a window of this many batches' tokens. The oldest rows enter the window first, so
that a long row does not wait forever."""


class Batcher:
    """Scores conversations of many callers on one network, one forward pass at a time."""

    def __init__(self, model: RewardNetwork, max_batch_tokens: int) -> None:
        self._model, self._max_batch_tokens = model, max_batch_tokens
        self._waiting: deque[tuple[RewardInput, asyncio.Future[RewardScore]]] = deque()
        self._tokens = 0
        self._enough = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        # One thread each: tokenizers are not thread-safe, and a forward pass uses the whole device.
        self._encoding, self._rating = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.num_tokens = self.num_computed = 0
        """Tokens of the rows scored so far, without and with padding."""

    async def score(self, conversations: Sequence[Conversation]) -> list[RewardScore]:
        """Returns one score per conversation, in order."""
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoding, lambda: [self._model.encode(c) for c in conversations])
        futures = [self._add(e) for e in encoded if isinstance(e, RewardInput)]
        rated = iter(await asyncio.gather(*futures))
        return [next(rated) if isinstance(e, RewardInput) else e for e in encoded]

    def _add(self, row: RewardInput) -> asyncio.Future[RewardScore]:
        future: asyncio.Future[RewardScore] = asyncio.get_running_loop().create_future()
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
            window = self._take_window()
            for batch in batches(window, [len(row.ids) for row, _ in window], self._max_batch_tokens):
                pending = [(row, future) for row, future in batch if not future.done()]  # a caller may have left
                if not pending:
                    continue
                rows = [row for row, _ in pending]
                try:
                    scores = await loop.run_in_executor(self._rating, self._model.rate, rows)
                except Exception as error:  # noqa: BLE001 - raised in each caller's task
                    for _, future in pending:
                        if not future.done():
                            future.set_exception(error)
                    continue
                self.num_tokens += sum(len(row.ids) for row in rows)
                self.num_computed += len(rows) * max(len(row.ids) for row in rows)
                for (_, future), score in zip(pending, scores, strict=True):
                    if not future.done():
                        future.set_result(score)

    def _take_window(self) -> list[tuple[RewardInput, asyncio.Future[RewardScore]]]:
        """Removes the oldest rows, one window of them, from the queue."""
        window: list[tuple[RewardInput, asyncio.Future[RewardScore]]] = []
        room = self._max_batch_tokens * WINDOW
        while self._waiting and (room > 0 or not window):
            row, future = self._waiting.popleft()
            room -= len(row.ids)
            self._tokens -= len(row.ids)
            window.append((row, future))
        if self._tokens < self._max_batch_tokens * WINDOW:
            self._enough.clear()
        return window
