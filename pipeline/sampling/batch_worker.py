"""Ray Data's worker for one source: keeps the engine busy and makes every sample durable within seconds."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from ..cluster.ray_data import FLUSH_S, ResultColumns, UnitBatch, UnitResult, as_columns, run_units
from ..errors import FusechatError
from ..machine.process_priority import lower_priority
from ..models.pinned_source import PinnedSource
from ..recipe import Sample, Source
from ..records import PROMPT, RESPONSE, ResponseRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .backend import SamplingBackend
from .concurrency import ConcurrencyLimit
from .plan import COLUMNS, Unit, requests
from .retry import RetryingClient
from .throughput import INTERVAL_S, MIN_INTERVALS, ThroughputRecorder

CACHED_BUCKETS = 4


class ResponseWriter:
    """Writes finished samples to the run directory in batches. A unit is done once its samples are durable."""

    def __init__(self, parts: Parts, num_buckets: int) -> None:
        self._parts, self._num_buckets = parts, num_buckets
        self._rows: list[ResponseRow] = []
        self._lock = asyncio.Lock()
        self._flush_task: asyncio.Task[None] | None = None

    def add(self, row: ResponseRow) -> None:
        """Adds a finished sample; it is durable `FLUSH_S` later."""
        self._rows.append(row)
        if self._flush_task is None:
            self._flush_task = asyncio.create_task(self._flush_after_delay())

    async def _flush_after_delay(self) -> None:
        await asyncio.sleep(FLUSH_S)
        self._flush_task = None
        await self.flush()

    async def flush(self) -> None:
        """Makes all added samples durable.

        Raises:
            RunDirectoryError: the run directory can't be written. The rows are kept for the next attempt.
        """
        async with self._lock:
            rows, self._rows = self._rows, []
            if rows:
                try:
                    await asyncio.to_thread(self._parts.write_all, rows, self._num_buckets)
                except BaseException:
                    self._rows = rows + self._rows
                    raise

    async def wait_until_durable(self) -> None:
        """Returns when all samples added before are durable.

        Raises:
            RunDirectoryError: the run directory can't be written.
        """
        if self._flush_task is not None:
            await asyncio.shield(self._flush_task)
        else:  # a flush is in progress, or rows could not be written
            await self.flush()


class BatchWorker:
    """Ray Data's worker for one source: takes slices of prompts and makes their responses durable.

    Args:
        prompts: folder of the prompts' shards.
        folder: folder of the responses.
        concurrency: samples in flight, over all replicas.
    """

    def __init__(
        self,
        run: RunDir,
        prompts: str,
        folder: str,
        source: PinnedSource,
        backend: SamplingBackend,
        config: Sample,
        concurrency: int,
    ) -> None:
        self._prompts = Parts(run, prompts, PROMPT, "prompt_id")
        self._responses = Parts(run, folder, RESPONSE, "response_id")
        self._source, self._backend, self._config, self._concurrency = source, backend, config, concurrency
        if isinstance(source.source, Source) and not source.source.placement.num_gpus:
            lower_priority()
        self._writer = ResponseWriter(self._responses, config.buckets)
        self._client: RetryingClient | None = None
        self._buckets: dict[int, tuple[pa.Table, set[str]]] = {}
        self._read_lock = asyncio.Lock()
        self._run, self._stats_file = run, (folder, "meters", f"{source.source.name}.json")
        self._stats_task: asyncio.Task[None] | None = None

    async def __call__(self, batch: UnitBatch) -> ResultColumns:
        """Ray Data's calling convention: takes a column of units, returns columns of `UnitResult`."""
        return as_columns([await self._sample(json.loads(text)) for text in batch["unit"]])

    async def _sample(self, unit: Unit) -> UnitResult:
        if self._client is None:
            attempts = self._config.max_attempts
            self._client = RetryingClient(
                self._source.source.name, self._backend, self._concurrency, attempts, self._writer.add
            )
            self._stats_task = asyncio.create_task(self._record_throughput(self._client.slots))
        try:
            prompts, done = await self._bucket(unit["bucket"])
            missing = requests(self._source, prompts.slice(unit["start"], unit["stop"] - unit["start"]), done)
            try:
                tokens = await self._client.run_all(missing)
            finally:
                await self._writer.wait_until_durable()
        except FusechatError as error:
            return UnitResult(rows=0, tokens=0, error=str(error))
        return UnitResult(rows=unit["missing"], tokens=tokens, error="")

    async def _record_throughput(self, slots: ConcurrencyLimit) -> None:
        """Writes what a token costs to the run directory, for `fusechat plan`."""
        recorder, written = ThroughputRecorder(), 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            counters = await self._backend.counters()
            if counters is not None:
                recorder.record(time.monotonic(), counters, slots.is_saturated)
            if recorder.stats.intervals - written >= MIN_INTERVALS:
                written = recorder.stats.intervals
                await asyncio.to_thread(self._run.write_json, recorder.stats.as_json(), *self._stats_file)

    async def _bucket(self, bucket: int) -> tuple[pa.Table, set[str]]:
        """A bucket's prompts, and the responses that were stored before this worker first read it."""
        async with self._read_lock:
            if bucket not in self._buckets:
                while len(self._buckets) >= CACHED_BUCKETS:
                    del self._buckets[next(iter(self._buckets))]
                self._buckets[bucket] = await asyncio.to_thread(self._read, bucket)
            return self._buckets[bucket]

    def _read(self, bucket: int) -> tuple[pa.Table, set[str]]:
        return self._prompts.read(bucket, columns=COLUMNS), self._responses.ids(bucket)


def sample_units(
    run: RunDir,
    prompts: str,
    folder: str,
    source: PinnedSource,
    backend: SamplingBackend,
    units: Sequence[Unit],
    config: Sample,
    on_batch: Callable[[int, int], None],
    replicas: int = 1,
) -> int:
    """Samples the missing responses of the units from one source; returns the number of tokens generated.

    Raises:
        StageError: the source was given up. Its finished samples are kept.
    """
    concurrency = config.concurrency * replicas
    return run_units(
        BatchWorker,
        (run, prompts, folder, source, backend, config, concurrency),
        [json.dumps(u) for u in units],
        stage="sample",
        who=source.source.name,
        # Twice the prompts that can be in flight: units that wait for their samples to be durable use no slot.
        concurrency=2 + math.ceil(2 * concurrency / max((u["stop"] - u["start"] for u in units), default=1)),
        on_batch=on_batch,
    )
