"""Feeding a source: Ray Data's worker, which keeps the engine busy and makes every sample durable within seconds."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from ..cluster.ray_data import FLUSH_S, Done, DoneColumns, UnitBatch, columns, drive
from ..errors import FusechatError
from ..machine.process_priority import give_way
from ..models.pinned_source import PinnedSource
from ..recipe import Sample, Source
from ..records import PROMPT, RESPONSE, ResponseRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .backend import SamplingBackend
from .concurrency import ConcurrencyLimit
from .plan import COLUMNS, Unit, requests
from .retry import RetryingClient
from .throughput import INTERVAL_S, MIN_INTERVALS, Watch

BUCKETS_HELD = 4


class ResponseWriter:
    """Finished samples on their way to the run directory; a unit is done once its samples are durable."""

    def __init__(self, parts: Parts, num_buckets: int) -> None:
        self._parts, self._num_buckets = parts, num_buckets
        self._rows: list[ResponseRow] = []
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, row: ResponseRow) -> None:
        """A sample that finished; durable `FLUSH_S` later."""
        self._rows.append(row)
        if self._task is None:
            self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(FLUSH_S)
        self._task = None
        await self.flush()

    async def flush(self) -> None:
        """Makes all that finished durable.

        Raises:
            RunDirectoryError: it can't be written; the rows are kept for another try.
        """
        async with self._lock:
            rows, self._rows = self._rows, []
            if rows:
                try:
                    await asyncio.to_thread(self._parts.write_all, rows, self._num_buckets)
                except BaseException:
                    self._rows = rows + self._rows
                    raise

    async def durable(self) -> None:
        """Returns when what finished before is durable.

        Raises:
            RunDirectoryError: it can't be written.
        """
        if self._task is not None:
            await asyncio.shield(self._task)
        else:  # a flush that is under way, or rows that could not be written
            await self.flush()


class BatchWorker:
    """Ray Data's worker for one source: slices of prompts in, durable responses out.

    Args:
        prompts: folder of the prompts' shards.
        folder: of the responses.
        concurrency: samples in flight, all replicas together.
    """

    def __init__(
        self,
        run: RunDir,
        prompts: str,
        folder: str,
        asked: PinnedSource,
        asker: SamplingBackend,
        config: Sample,
        concurrency: int,
    ) -> None:
        self._prompts = Parts(run, prompts, PROMPT, "prompt_id")
        self._parts = Parts(run, folder, RESPONSE, "response_id")
        self._asked, self._asker, self._config, self._concurrency = asked, asker, config, concurrency
        if isinstance(asked.source, Source) and not asked.source.placement.num_gpus:
            give_way()
        self._ledger = ResponseWriter(self._parts, config.buckets)
        self._pump: RetryingClient | None = None
        self._held: dict[int, tuple[pa.Table, set[str]]] = {}
        self._reading = asyncio.Lock()
        self._run, self._meter_file = run, (folder, "meters", f"{asked.source.name}.json")
        self._metering: asyncio.Task[None] | None = None

    async def __call__(self, batch: UnitBatch) -> DoneColumns:
        """Ray Data's calling convention: a column of units in, columns of `Done` out."""
        return columns([await self._feed(json.loads(text)) for text in batch["unit"]])

    async def _feed(self, unit: Unit) -> Done:
        if self._pump is None:
            attempts = self._config.max_attempts
            self._pump = RetryingClient(
                self._asked.source.name, self._asker, self._concurrency, attempts, self._ledger.add
            )
            self._metering = asyncio.create_task(self._meter(self._pump.slots))
        try:
            prompts, done = await self._bucket(unit["bucket"])
            wanted = requests(self._asked, prompts.slice(unit["start"], unit["stop"] - unit["start"]), done)
            try:
                tokens = await self._pump.run_all(wanted)
            finally:
                await self._ledger.durable()
        except FusechatError as error:
            return Done(rows=0, tokens=0, error=str(error))
        return Done(rows=unit["missing"], tokens=tokens, error="")

    async def _meter(self, slots: ConcurrencyLimit) -> None:
        """Notes what a token costs, for `fusechat plan`."""
        watch, written = Watch(), 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            reading = await self._asker.counters()
            if reading is not None:
                watch.read(time.monotonic(), reading, slots.full)
            if watch.meter.intervals - written >= MIN_INTERVALS:
                written = watch.meter.intervals
                await asyncio.to_thread(self._run.write_json, watch.meter.as_json(), *self._meter_file)

    async def _bucket(self, bucket: int) -> tuple[pa.Table, set[str]]:
        """A bucket's prompts, and the responses that were durable before this worker came to it."""
        async with self._reading:
            if bucket not in self._held:
                while len(self._held) >= BUCKETS_HELD:
                    del self._held[next(iter(self._held))]
                self._held[bucket] = await asyncio.to_thread(self._read, bucket)
            return self._held[bucket]

    def _read(self, bucket: int) -> tuple[pa.Table, set[str]]:
        return self._prompts.read(bucket, columns=COLUMNS), self._parts.ids(bucket)


def feed(
    run: RunDir,
    prompts: str,
    folder: str,
    asked: PinnedSource,
    asker: SamplingBackend,
    units: Sequence[Unit],
    config: Sample,
    on_batch: Callable[[int, int], None],
    replicas: int = 1,
) -> int:
    """Brings all that the units miss from one source; returns the tokens generated.

    Raises:
        StageError: the source was given up; what it brought is kept.
    """
    concurrency = config.concurrency * replicas
    return drive(
        BatchWorker,
        (run, prompts, folder, asked, asker, config, concurrency),
        [json.dumps(u) for u in units],
        stage="sample",
        who=asked.source.name,
        # Twice the prompts that can be under way: units that wait for their samples to be durable hold no place.
        concurrency=2 + math.ceil(2 * concurrency / max((u["stop"] - u["start"] for u in units), default=1)),
        on_batch=on_batch,
    )
