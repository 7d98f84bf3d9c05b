"""Requests to one source, retried until each sample is finished or rejected."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence

from ray.exceptions import RayError

from ..errors import EngineDiedError, RequestFailedError, StageError, last_line
from ..records import Message, ResponseRow, WantedResponse
from .backend import SamplingBackend
from .concurrency import ConcurrencyLimit
from .messages import GenerateRequest, SampleSeed, rejected
from .plan import response

MAX_SHARED_DEATHS = 2
"""Engine deaths during a prompt, together with others, after which it is sent alone."""
MAX_DEATHS_ALONE = 2
"""Engine deaths during a prompt that was sent alone, after which the prompt is rejected."""
RESTART_DELAY_S = 3.0
"""Seconds after an engine's death before the next request; starting another engine takes longer."""
STALL_S = 900.0
"""Seconds without a finished sample after which a source is given up; a large engine takes minutes to restart."""
FAILURES = (RayError, RuntimeError, ValueError, OSError)
"""Errors of a single request. Errors that a replica raises arrive as Ray's."""


class RetryingClient:
    """Sends many prompts to one source at once and retries what fails.

    When an engine dies, everything in flight is lost and its samples are requested again. A prompt that was in flight
    at `MAX_SHARED_DEATHS` deaths is sent alone. After `MAX_DEATHS_ALONE` more deaths it is rejected. Before a prompt is
    rejected, and whenever the engine died twice without finishing a sample, a harmless probe prompt is sent alone. If
    the probe fails, the source is given up with its reason, and no prompt is rejected.

    Args:
        on_sample: receives each finished RESPONSE row.
        max_attempts: attempts of a prompt that fails while the engine survives.
    """

    def __init__(
        self,
        source: str,
        backend: SamplingBackend,
        concurrency: int,
        max_attempts: int,
        on_sample: Callable[[ResponseRow], None],
    ) -> None:
        self._source, self._backend, self._max_attempts, self._on_sample = source, backend, max_attempts, on_sample
        self.slots = ConcurrencyLimit(concurrency)
        self._failure: asyncio.Future[StageError] = asyncio.get_running_loop().create_future()
        self._last_sample_at = time.monotonic()
        self._deaths = 0
        self._deaths_since_sample = 0
        self._not_before = 0.0
        self._stall_watch = asyncio.create_task(self._give_up_if_stalled())

    async def run_all(self, requests: Sequence[tuple[GenerateRequest, Sequence[WantedResponse]]]) -> int:
        """Runs all requests; returns the number of tokens generated.

        Raises:
            StageError: the source is given up.
        """
        tasks = [asyncio.create_task(self.run(request, rows)) for request, rows in requests]
        work = asyncio.gather(*tasks, return_exceptions=True)
        both: list[asyncio.Future[list[int | BaseException]] | asyncio.Future[StageError]] = [work, self._failure]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await work
        self._raise_if_given_up()
        return sum(task.result() for task in tasks)

    async def run(self, request: GenerateRequest, rows: Sequence[WantedResponse]) -> int:
        """Retries a request until each row is a sample or a reject; returns the number of tokens generated.

        Raises:
            StageError: the source is given up.
        """
        missing = {row["response_id"]: row for row in rows}
        deaths = failures = tokens = 0
        while missing:
            exclusive = deaths >= MAX_SHARED_DEATHS
            held = len(missing)
            await self.slots.acquire(held, exclusive=exclusive, retry=bool(deaths + failures))
            reject_reason = probe_reason = ""
            try:
                await self._wait_for_restart()
                deaths_before = self._deaths
                self._raise_if_given_up()
                samples = [s for s in request["samples"] if s["response_id"] in missing]
                remaining = GenerateRequest(messages=request["messages"], params=request["params"], samples=samples)
                async for generated in self._backend.generate(remaining):
                    row = missing.pop(generated["response_id"], None)
                    if row is None:
                        raise RuntimeError("the source answered with another identity than it was asked for")
                    self._on_sample(response(row, generated))
                    tokens += generated["completion_tokens"]
                    self._last_sample_at, self._deaths_since_sample = time.monotonic(), 0
                    self.slots.release(1)
                    held -= 1
                if missing:
                    raise RuntimeError("the source ended without all the samples that it was asked for")
            except EngineDiedError as error:
                deaths += 1
                reject_reason = f"engine_died: {error}" if deaths >= MAX_SHARED_DEATHS + MAX_DEATHS_ALONE else ""
                if deaths_before == self._deaths:  # otherwise another prompt has counted this death
                    self._deaths += 1
                    self._not_before = time.monotonic() + RESTART_DELAY_S
                    self._deaths_since_sample += 1
                    probe_reason = f"engine_died: {error}" if self._deaths_since_sample >= MAX_SHARED_DEATHS else ""
            except StageError as error:
                self._give_up_with(error)
                raise
            except RequestFailedError as error:
                reject_reason = str(error)
            except FAILURES as error:
                failures += 1
                reject_reason = f"engine_error: {last_line(error)}" if failures >= self._max_attempts else ""
            finally:
                self.slots.release(held)
                if exclusive:
                    self.slots.end_exclusive()
            if reject_reason or probe_reason:
                await self._probe(reject_reason or probe_reason)
            if reject_reason:
                for row in missing.values():
                    self._on_sample(response(row, rejected(row["response_id"], reject_reason[:300])))
                break
            if missing:
                await asyncio.sleep(min(0.25 * 2 ** (deaths + failures), 10))
        return tokens

    async def _probe(self, reason: str) -> None:
        """Sends a harmless prompt alone; returns when it is answered.

        Raises:
            StageError: it is not answered; the source is given up with `reason`.
        """
        request = GenerateRequest(
            messages=[Message(role="user", content="Hello")],
            params={"temperature": 0.0, "max_tokens": 1},
            samples=[SampleSeed(response_id=f"probe-{uuid.uuid4().hex}", seed=0)],
        )
        await self.slots.acquire(1, exclusive=True)
        try:
            await self._wait_for_restart()
            self._raise_if_given_up()
            answers = [g async for g in self._backend.generate(request)]
        except (EngineDiedError, RequestFailedError, *FAILURES) as error:
            self._give_up(f"{reason}; a harmless prompt failed too: {last_line(error)}")
            self._raise_if_given_up()
            raise
        finally:
            self.slots.release(1)
            self.slots.end_exclusive()
        self._deaths_since_sample = 0
        if not answers or answers[0]["reject"]:
            cause = answers[0]["reject"] if answers else "no answer"
            self._give_up(f"{reason}; a harmless prompt failed too: {cause}")
            self._raise_if_given_up()

    async def _wait_for_restart(self) -> None:
        """Waits until a dead engine can no longer be reached by mistake; it takes a moment to go."""
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _give_up_if_stalled(self) -> None:
        while not self._failure.done():
            await asyncio.sleep(min(5.0, STALL_S))
            if not self.slots.in_use:
                self._last_sample_at = time.monotonic()
            elif time.monotonic() - self._last_sample_at > STALL_S:
                cause = await self._backend.failure_reason()
                self._give_up(f"no sample finished for {STALL_S:.0f} s: {cause}")

    def _give_up(self, reason: str) -> None:
        self._give_up_with(StageError("sample", self._source, f"given up: {reason}"))

    def _give_up_with(self, error: StageError) -> None:
        """Ends all requests; the first error counts."""
        if not self._failure.done():
            self._failure.set_result(error)

    def _raise_if_given_up(self) -> None:
        if self._failure.done():
            error = self._failure.result()  # a new one for each caller: raising one error twice extends its traceback
            raise StageError(error.stage, error.place, error.cause)
