"""`/v1/sample`: samples several sources for one conversation, with the same response ids as the batch pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa

from fusechat.pipeline import identities, records
from fusechat.pipeline.errors import RequestFailedError, StageError, last_line
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import Policy, Recipe
from fusechat.pipeline.records import ResponseRow
from fusechat.pipeline.sampling.backend import SamplingBackend
from fusechat.pipeline.sampling.messages import Delta, Generated, GenerateRequest, Rated, ScoreItem
from fusechat.pipeline.sampling.plan import requests, response
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

from .error_responses import RefusedError, without_paths
from .schemas import SampleBody, SampleResult, SourceError, VerificationSpec, VerifyResult

Event = SampleResult | Delta | SourceError


@dataclass(frozen=True, slots=True)
class Scoring:
    """How answers are scored and verified. None means that the request doesn't ask for it."""

    score: Callable[[list[ScoreItem]], Awaitable[list[Rated]]] | None = None
    verify: Callable[[Sequence[tuple[VerificationSpec, str]]], Awaitable[list[VerifyResult]]] | None = None
    """Takes pairs of a specification and a response."""


class Sampler:
    """Samples the sources, or returns what the run directory already contains.

    Args:
        asked: the sources, with the settings that their response ids depend on.
        askers: source name -> client that calls it.
    """

    def __init__(self, recipe: Recipe, asked: Sequence[PinnedSource], askers: Mapping[str, SamplingBackend]) -> None:
        self._recipe = recipe
        self._asked = {a.source.name: a for a in asked}
        self._askers = askers
        self._stored_responses = Parts(RunDir(recipe.run_dir), "sample", records.RESPONSE, "response_id")

    def check(self, body: SampleBody) -> list[PinnedSource]:
        """Returns the sources to sample, with this request's sampling parameters and numbers of samples.

        Raises:
            RefusedError: 404 if a source does not exist; 400 if no source serves the domain, or if the last message is
                not the user's.
        """
        if body.messages[-1].role != "user" or not body.messages[-1].content.strip():
            raise RefusedError(400, "invalid_request", "messages: the last one must be the user's", param="messages")
        names = body.sources or [n for n, a in self._asked.items() if body.domain in a.source.samples]
        sources = []
        for name in dict.fromkeys(names):
            if name not in self._asked:
                allowed = ", ".join(self._asked)
                message = f"sources: {name} is not one of {allowed}"
                raise RefusedError(404, "no_such_source", message, param="sources")
            sources.append(self._adapt(self._asked[name], body))
        if not sources:
            raise RefusedError(
                400, "invalid_request", f"domain: no source serves {body.domain}; name sources", param="domain"
            )
        return sources

    def _adapt(self, asked: PinnedSource, body: SampleBody) -> PinnedSource:
        """Applies the request's overrides to a source of the recipe."""
        source = asked.source
        num = body.n or source.samples.get(body.domain, 1)
        overrides: dict[str, object] = {"samples": {body.domain: num}}
        if body.sampling.model_fields_set:
            sampling = body.sampling.apply_to(source.sampling_for(body.domain))
            overrides |= {"sampling": sampling, "max_tokens": {}}
        return replace(asked, source=_copy(source, overrides))

    async def sample(self, body: SampleBody, scoring: Scoring) -> AsyncIterator[Event]:
        """Yields each answer as it finishes. A source that can't answer yields an error and does not delay the others.

        Raises:
            RefusedError: see `check`.
        """
        sources = self.check(body)
        messages = [records.Message(role=m.role, content=m.content) for m in body.messages]
        prompt = {"prompt_id": identities.prompt_id(messages), "domain": body.domain, "messages": messages}
        table = pa.Table.from_pylist([prompt])
        queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

        async def sample_source(asked: PinnedSource) -> None:
            try:
                async for event in self._sample_source(asked, table, body, scoring):
                    queue.put_nowait(event)
            except RefusedError as error:
                queue.put_nowait(SourceError(source=asked.source.name, code=error.reason, message=str(error)))
            except (StageError, RequestFailedError) as error:
                message = without_paths(last_line(error))
                queue.put_nowait(SourceError(source=asked.source.name, code="unavailable", message=message))
            except Exception as error:  # noqa: BLE001 - raised below, in the caller's task
                queue.put_nowait(error)
            finally:
                queue.put_nowait(None)

        tasks = [asyncio.create_task(sample_source(a)) for a in sources]
        try:
            num_running = len(tasks)
            while num_running:
                event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                num_running -= event is None
                if event is not None:
                    yield event
        finally:  # the caller may have disconnected
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sample_source(
        self, asked: PinnedSource, table: pa.Table, body: SampleBody, scoring: Scoring
    ) -> AsyncIterator[Event]:
        ((request, rows),) = requests(asked, table, set())
        missing = {row["response_id"]: row for row in rows}
        for stored in await asyncio.to_thread(self._read_stored, table["prompt_id"][0].as_py(), set(missing)):
            missing.pop(stored["response_id"])
            yield await self._finish(stored, request, body, scoring, stored=True)
        if not missing:
            return
        samples = [s for s in request["samples"] if s["response_id"] in missing]
        remaining = GenerateRequest(messages=request["messages"], params=request["params"], samples=samples)
        if body.deltas:
            remaining["deltas"] = True
        answers = cast("AsyncGenerator[Generated | Delta]", self._askers[asked.source.name].generate(remaining))
        async with aclosing(answers):
            async for generated in answers:
                if "delta" in generated:
                    yield cast("Delta", generated)
                    continue
                row = response(missing.pop(generated["response_id"]), generated)
                yield await self._finish(row, request, body, scoring, stored=False)

    def _read_stored(self, prompt_id: str, response_ids: set[str]) -> list[ResponseRow]:
        """Returns the rows of these responses in the run directory, without rejects."""
        bucket = identities.bucket_of(prompt_id, self._recipe.sample.buckets)
        found = self._stored_responses.ids(bucket) & response_ids
        if not found:
            return []
        rows = self._stored_responses.read(bucket).to_pylist()
        return [r for r in rows if r["response_id"] in found and not r["reject"]]

    async def _finish(
        self, row: Mapping[str, Any], request: GenerateRequest, body: SampleBody, scoring: Scoring, *, stored: bool
    ) -> SampleResult:
        """Turns a RESPONSE row into a result, scored and verified as the request asks."""
        result = SampleResult(
            **{k: row[k] for k in SampleResult.model_fields if k in row and row[k] is not None},
            stored=stored,
        )
        if result.reject:
            return result.model_copy(update={"reject": without_paths(result.reject)})
        update: dict[str, object] = {}
        item = ScoreItem(id=result.response_id, messages=request["messages"], response=result.text)
        rating, verdict = await asyncio.gather(_score(scoring, item), _verify(scoring, body, result.text))
        if rating is not None:
            update |= {"reward": rating["score"], "reward_reject": without_paths(rating["reject"])}
        if verdict is not None:
            update |= verdict.model_dump(include={"correct", "verdict", "detail"})
        return result.model_copy(update=update)


async def _score(scoring: Scoring, item: ScoreItem) -> Rated | None:
    if scoring.score is None:
        return None
    (rating,) = await scoring.score([item])
    return rating


async def _verify(scoring: Scoring, body: SampleBody, text: str) -> VerifyResult | None:
    if scoring.verify is None or body.verify is None:
        return None
    (verdict,) = await scoring.verify([(body.verify, text)])
    return verdict


def _copy(source: Policy, overrides: dict[str, object]) -> Policy:
    return source.model_copy(update=overrides)


def ranked(samples: Sequence[SampleResult]) -> list[SampleResult]:
    """Sorts correct before unknown before wrong, then by reward, then by source and index; rejects last."""
    rank = {True: 0, None: 1, False: 2}

    def key(s: SampleResult) -> tuple[bool, int, float, str, int]:
        reward = float("inf") if s.reward is None else -s.reward
        return bool(s.reject), rank[s.correct], reward, s.source, s.sample_index

    return sorted(samples, key=key)
