"""Feeding a source: Ray Data's worker, which keeps the engine busy and makes every sample durable within seconds."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa
from ray.exceptions import RayError

from fusechat.pipeline.cluster.ray_data import FLUSH_S, Done, columns, drive
from fusechat.pipeline.errors import AskFailedError, EngineDiedError, FusechatError, StageError
from fusechat.pipeline.machine.process_priority import give_way
from fusechat.pipeline.recipe import Sample, Source
from fusechat.pipeline.records import PROMPT, RESPONSE, Message
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest, Wanted, rejected
from fusechat.pipeline.sampling.plan import COLUMNS, Asked, Rows, Unit, requests, response
from fusechat.pipeline.sampling.throughput import INTERVAL_S, MIN_INTERVALS, Reading, Watch
from fusechat.pipeline.storage.run_dir import Parts, RunDir

DEATHS_TOGETHER = 2
"""Engine deaths after which a prompt that was under way each time is asked alone."""
DEATHS_ALONE = 2
"""Deaths of the engine with this prompt alone after which the prompt is to blame."""
SETTLE_S = 3.0
"""Seconds after an engine's death before anything is asked again; another takes longer than that to start."""
STALL_S = 900.0
"""Seconds without any finished sample after which a source is given up; a large engine takes minutes to restart."""
BUCKETS_HELD = 4
FAILURES = (RayError, RuntimeError, ValueError, OSError)
"""What one request may fail with; what a replica raises comes as Ray's error."""


class Asker(Protocol):
    """A way to ask a source (services/llm.py hosts them, endpoint.py calls one over HTTP)."""

    def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """Yields each wanted sample once, as it finishes.

        Raises:
            EngineDiedError: what answers is gone and will be replaced; what is missing may be asked for again.
            AskFailedError: what is missing was asked for as often as it may be.
            StageError: the source can't be used at all.
        """

    async def trouble(self) -> str:
        """Why nothing may be coming, in one line; empty where nothing is known."""

    async def counters(self) -> Reading | None:
        """The engine's own counters, where it has some and answers."""


class Served:
    """A source that Ray Serve hosts.

    Args:
        handle: of its deployment; else the application of that name is asked.
    """

    def __init__(self, app: str, handle: Any = None) -> None:
        self._app = app
        self._handle = None if handle is None else handle.options(stream=True)

    async def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See Asker."""
        from ray import serve
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

        if self._handle is None:
            self._handle = serve.get_app_handle(self._app).options(stream=True)
        gone = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)
        answers = self._handle.generate.remote(request)
        try:
            async for generated in answers:
                yield generated
        except gone as error:
            raise EngineDiedError(last_line(error)) from error
        except EngineDiedError as error:  # through Ray, which puts its whole trace into the message
            raise EngineDiedError(str(getattr(error, "cause", error))) from error
        finally:
            answers.cancel()  # who asked may have left

    async def counters(self) -> Reading | None:
        """See Asker."""
        from ray import serve

        try:
            reading: Reading = await serve.get_app_handle(self._app).counters.remote()
            return reading
        except (RayError, RuntimeError):  # it is being replaced; the next reading will do
            return None

    async def trouble(self) -> str:
        """See Asker."""
        from ray import serve

        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self._app)
        if app is None:
            return "it is no longer deployed"
        said = [str(app.message), *(str(d.message) for d in app.deployments.values())]
        return last_line("\n".join(said))


class Slots:
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


class Ledger:
    """Finished samples on their way to the run directory; a unit is done once its samples are durable."""

    def __init__(self, parts: Parts, num_buckets: int) -> None:
        self._parts, self._num_buckets = parts, num_buckets
        self._rows: Rows = []
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, row: dict[str, Any]) -> None:
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


class Pump:
    """Asks one source for many prompts at once and survives what goes wrong on the way.

    An engine that dies takes all that was under way with it; its samples are asked for again. A prompt that was under
    way at `DEATHS_TOGETHER` deaths is asked alone; at `DEATHS_ALONE` more it is to blame. Before any prompt is blamed,
    and whenever the engine died twice without a sample between, the source answers a harmless prompt alone: one that
    can't is given up with its reason, and blames nobody.

    Args:
        keep: gets each finished RESPONSE row.
        max_attempts: tries of a prompt that fails without taking the engine with it.
    """

    def __init__(
        self, source: str, asker: Asker, concurrency: int, max_attempts: int, keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self._source, self._asker, self._max_attempts, self._keep = source, asker, max_attempts, keep
        self.slots = Slots(concurrency)
        self._lost: asyncio.Future[StageError] = asyncio.get_running_loop().create_future()
        self._last = time.monotonic()
        self._epoch = 0  # deaths of the engine, ever
        self._not_before = 0.0
        self._fruitless = 0  # and since a sample finished
        self._watch = asyncio.create_task(self._until_stalled())

    async def run_all(self, wanted: Sequence[tuple[GenerateRequest, Rows]]) -> int:
        """Asks for all of them; returns the tokens generated.

        Raises:
            StageError: the source is given up.
        """
        tasks = [asyncio.create_task(self.run(request, rows)) for request, rows in wanted]
        work = asyncio.gather(*tasks, return_exceptions=True)
        both: list[asyncio.Future[Any]] = [work, self._lost]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await work
        self._check()
        return sum(task.result() for task in tasks)

    async def run(self, request: GenerateRequest, rows: Rows) -> int:
        """Asks until each of the rows is a sample or a reject; returns the tokens generated.

        Raises:
            StageError: the source is given up.
        """
        left = {row["response_id"]: row for row in rows}
        deaths = failures = tokens = 0
        while left:
            alone = deaths >= DEATHS_TOGETHER
            held = len(left)
            await self.slots.take(held, alone=alone, again=bool(deaths + failures))
            reason = doubt = ""
            try:
                await self._settled()
                epoch = self._epoch
                self._check()
                wanted = [s for s in request["samples"] if s["response_id"] in left]
                asked = GenerateRequest(messages=request["messages"], params=request["params"], samples=wanted)
                async for generated in self._asker.ask(asked):
                    row = left.pop(generated["response_id"], None)
                    if row is None:
                        raise RuntimeError("the source answered with another identity than it was asked for")
                    self._keep(response(row, generated))
                    tokens += generated["completion_tokens"]
                    self._last, self._fruitless = time.monotonic(), 0
                    self.slots.give(1)
                    held -= 1
                if left:
                    raise RuntimeError("the source ended without all the samples that it was asked for")
            except EngineDiedError as error:
                deaths += 1
                reason = f"engine_died: {error}" if deaths >= DEATHS_TOGETHER + DEATHS_ALONE else ""
                if epoch == self._epoch:  # otherwise another prompt told of this death
                    self._epoch += 1
                    self._not_before = time.monotonic() + SETTLE_S
                    self._fruitless += 1
                    doubt = f"engine_died: {error}" if self._fruitless >= DEATHS_TOGETHER else ""
            except StageError as error:
                self._lose(error)
                raise
            except AskFailedError as error:
                reason = str(error)
            except FAILURES as error:
                failures += 1
                reason = f"engine_error: {last_line(error)}" if failures >= self._max_attempts else ""
            finally:
                self.slots.give(held)
                if alone:
                    self.slots.open()
            if reason or doubt:
                await self._works(reason or doubt)
            if reason:
                for row in left.values():
                    self._keep(response(row, rejected(row["response_id"], reason[:300])))
                break
            if left:
                await asyncio.sleep(min(0.25 * 2 ** (deaths + failures), 10))
        return tokens

    async def _works(self, reason: str) -> None:
        """Returns once the source answered a harmless prompt.

        Raises:
            StageError: it does not; the source is given up with `reason`.
        """
        probe = GenerateRequest(
            messages=[Message(role="user", content="Hello")],
            params={"temperature": 0.0, "max_tokens": 1},
            samples=[Wanted(response_id=f"probe-{uuid.uuid4().hex}", seed=0)],
        )
        await self.slots.take(1, alone=True)
        try:
            await self._settled()
            self._check()
            found = [g async for g in self._asker.ask(probe)]
        except (EngineDiedError, AskFailedError, *FAILURES) as error:
            self._lose(self._given_up(f"{reason}; a harmless prompt failed too: {last_line(error)}"))
            self._check()
            raise
        finally:
            self.slots.give(1)
            self.slots.open()
        self._fruitless = 0
        if not found or found[0]["reject"]:
            why = found[0]["reject"] if found else "no answer"
            self._lose(self._given_up(f"{reason}; a harmless prompt failed too: {why}"))
            self._check()

    async def _settled(self) -> None:
        """Waits until what died can't be asked by mistake: it takes a moment to go."""
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _until_stalled(self) -> None:
        while not self._lost.done():
            await asyncio.sleep(min(5.0, STALL_S))
            if not self.slots.in_use:
                self._last = time.monotonic()
            elif time.monotonic() - self._last > STALL_S:
                why = await self._asker.trouble()
                self._lose(self._given_up(f"no sample finished for {STALL_S:.0f} s: {why}"))

    def _given_up(self, reason: str) -> StageError:
        return StageError("sample", self._source, f"given up: {reason}")

    def _lose(self, error: StageError) -> None:
        if not self._lost.done():
            self._lost.set_result(error)

    def _check(self) -> None:
        if self._lost.done():
            first = self._lost.result()  # one for each who raises it: an error that is raised twice grows its trace
            raise StageError(first.stage, first.place, first.cause)


class Feeder:
    """Ray Data's worker for one source: slices of prompts in, durable responses out.

    Args:
        prompts: folder of the prompts' shards.
        folder: of the responses.
        concurrency: samples in flight, all replicas together.
    """

    def __init__(
        self, run: RunDir, prompts: str, folder: str, asked: Asked, asker: Asker, config: Sample, concurrency: int
    ) -> None:
        self._prompts = Parts(run, prompts, PROMPT, "prompt_id")
        self._parts = Parts(run, folder, RESPONSE, "response_id")
        self._asked, self._asker, self._config, self._concurrency = asked, asker, config, concurrency
        if isinstance(asked.source, Source) and not asked.source.placement.num_gpus:
            give_way()
        self._ledger = Ledger(self._parts, config.buckets)
        self._pump: Pump | None = None
        self._held: dict[int, tuple[pa.Table, set[str]]] = {}
        self._reading = asyncio.Lock()
        self._run, self._meter_file = run, (folder, "meters", f"{asked.source.name}.json")
        self._metering: asyncio.Task[None] | None = None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Ray Data's calling convention: a column of units in, columns of `Done` out."""
        return columns([await self._feed(json.loads(text)) for text in batch["unit"]])

    async def _feed(self, unit: Unit) -> Done:
        if self._pump is None:
            attempts = self._config.max_attempts
            self._pump = Pump(self._asked.source.name, self._asker, self._concurrency, attempts, self._ledger.add)
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

    async def _meter(self, slots: Slots) -> None:
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
    asked: Asked,
    asker: Asker,
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
        Feeder,
        (run, prompts, folder, asked, asker, config, concurrency),
        [json.dumps(u) for u in units],
        stage="sample",
        who=asked.source.name,
        # Twice the prompts that can be under way: units that wait for their samples to be durable hold no place.
        concurrency=2 + math.ceil(2 * concurrency / max((u["stop"] - u["start"] for u in units), default=1)),
        on_batch=on_batch,
    )


def last_line(error: object) -> str:
    """The telling end of an error, whose text may hold a worker's whole trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:300]
