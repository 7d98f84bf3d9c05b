"""Requests to one source, retried until each sample is there or rejected."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence

from ray.exceptions import RayError

from ..errors import AskFailedError, EngineDiedError, StageError, last_line
from ..records import Message, ResponseRow
from .backend import SamplingBackend
from .concurrency import ConcurrencyLimit
from .messages import GenerateRequest, Wanted, rejected
from .plan import WantedRow, response

DEATHS_TOGETHER = 2
"""Engine deaths after which a prompt that was under way each time is asked alone."""


DEATHS_ALONE = 2
"""Deaths of the engine with this prompt alone after which the prompt is to blame."""


SETTLE_S = 3.0
"""Seconds after an engine's death before anything is asked again; another takes longer than that to start."""


STALL_S = 900.0
"""Seconds without any finished sample after which a source is given up; a large engine takes minutes to restart."""


FAILURES = (RayError, RuntimeError, ValueError, OSError)
"""What one request may fail with; what a replica raises comes as Ray's error."""


class RetryingClient:
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
        self,
        source: str,
        asker: SamplingBackend,
        concurrency: int,
        max_attempts: int,
        keep: Callable[[ResponseRow], None],
    ) -> None:
        self._source, self._asker, self._max_attempts, self._keep = source, asker, max_attempts, keep
        self.slots = ConcurrencyLimit(concurrency)
        self._lost: asyncio.Future[StageError] = asyncio.get_running_loop().create_future()
        self._last = time.monotonic()
        self._epoch = 0  # deaths of the engine, ever
        self._not_before = 0.0
        self._fruitless = 0  # and since a sample finished
        self._watch = asyncio.create_task(self._until_stalled())

    async def run_all(self, wanted: Sequence[tuple[GenerateRequest, Sequence[WantedRow]]]) -> int:
        """Asks for all of them; returns the tokens generated.

        Raises:
            StageError: the source is given up.
        """
        tasks = [asyncio.create_task(self.run(request, rows)) for request, rows in wanted]
        work = asyncio.gather(*tasks, return_exceptions=True)
        both: list[asyncio.Future[list[int | BaseException]] | asyncio.Future[StageError]] = [work, self._lost]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await work
        self._check()
        return sum(task.result() for task in tasks)

    async def run(self, request: GenerateRequest, rows: Sequence[WantedRow]) -> int:
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
