"""`/v1/sample`: one conversation asked of several sources, under the identities of the batch pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa

from fusechat.pipeline import identities
from fusechat.pipeline.errors import AskFailedError, StageError, last_line
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import Policy, Recipe
from fusechat.pipeline.records import ResponseRow, prompt_records, response_records
from fusechat.pipeline.sampling.backend import SamplingBackend
from fusechat.pipeline.sampling.messages import Delta, Generated, GenerateRequest, Rated, ScoreItem
from fusechat.pipeline.sampling.plan import requests, response
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

from .error_responses import RefusedError, without_paths
from .schemas import SampleBody, Sampled, SourceError, Verdict

Event = Sampled | Delta | SourceError


@dataclass(frozen=True, slots=True)
class Scoring:
    """How answers are scored and verified; a part that was not asked for is none."""

    score: Any = None
    """Takes ScoreItems, returns their Rateds."""
    verify: Any = None
    """Takes (check, responses), returns their Verdicts."""


class Sampler:
    """Asks sources, or the run's store.

    Args:
        asked: the sources with what their responses' identities hang on.
        askers: source name -> how it is asked.
    """

    def __init__(self, recipe: Recipe, asked: Sequence[PinnedSource], askers: Mapping[str, SamplingBackend]) -> None:
        self._recipe = recipe
        self._asked = {a.source.name: a for a in asked}
        self._askers = askers
        self._store = Parts(RunDir(recipe.run_dir), "sample", response_records.RESPONSE, "response_id")

    def check(self, body: SampleBody) -> list[PinnedSource]:
        """The sources that are asked, with the sampling parameters and numbers of this request.

        Raises:
            RefusedError: a source or its number is none that there is.
        """
        if body.messages[-1].role != "user" or not body.messages[-1].content.strip():
            raise RefusedError(400, "invalid_request", "messages: the last one must be the user's", param="messages")
        names = body.sources or [n for n, a in self._asked.items() if body.domain in a.source.samples]
        found = []
        for name in dict.fromkeys(names):
            if name not in self._asked:
                there = ", ".join(self._asked)
                raise RefusedError(404, "no_such_source", f"sources: {name} is none of {there}", param="sources")
            found.append(self._adapted(self._asked[name], body))
        if not found:
            raise RefusedError(
                400, "invalid_request", f"domain: no source serves {body.domain}; name sources", param="domain"
            )
        return found

    def _adapted(self, asked: PinnedSource, body: SampleBody) -> PinnedSource:
        source = asked.source
        num = body.n or source.samples.get(body.domain, 1)
        changed: dict[str, Any] = {"samples": {body.domain: num}}
        if body.sampling.model_fields_set:
            sampling = body.sampling.over(source.sampling_for(body.domain))
            changed |= {"sampling": sampling, "max_tokens": {}}
        return replace(asked, source=_copy(source, changed))

    async def sample(self, body: SampleBody, scoring: Scoring) -> AsyncIterator[Event]:
        """Each answer as it finishes; a source that can't answer comes as an error and holds nobody up.

        Raises:
            RefusedError: see `check`.
        """
        sources = self.check(body)
        messages = [prompt_records.Message(role=m.role, content=m.content) for m in body.messages]
        prompt = {"prompt_id": identities.prompt_id(messages), "domain": body.domain, "messages": messages}
        table = pa.Table.from_pylist([prompt])
        queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

        async def one(asked: PinnedSource) -> None:
            try:
                async for event in self._ask(asked, table, body, scoring):
                    queue.put_nowait(event)
            except RefusedError as error:
                queue.put_nowait(SourceError(source=asked.source.name, code=error.reason, message=str(error)))
            except (StageError, AskFailedError) as error:
                message = without_paths(last_line(error))
                queue.put_nowait(SourceError(source=asked.source.name, code="unavailable", message=message))
            except Exception as error:  # noqa: BLE001 - raised below, in the caller's task
                queue.put_nowait(error)
            finally:
                queue.put_nowait(None)

        tasks = [asyncio.create_task(one(a)) for a in sources]
        try:
            left = len(tasks)
            while left:
                event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                left -= event is None
                if event is not None:
                    yield event
        finally:  # the caller may have left
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(
        self, asked: PinnedSource, table: pa.Table, body: SampleBody, scoring: Scoring
    ) -> AsyncIterator[Event]:
        ((request, rows),) = requests(asked, table, set())
        left = {row["response_id"]: row for row in rows}
        for stored in await asyncio.to_thread(self._stored, table["prompt_id"][0].as_py(), set(left)):
            left.pop(stored["response_id"])
            yield await self._finished(stored, request, body, scoring, stored=True)
        if not left:
            return
        wanted = [s for s in request["samples"] if s["response_id"] in left]
        asking = GenerateRequest(messages=request["messages"], params=request["params"], samples=wanted)
        if body.deltas:
            asking["deltas"] = True
        asker = cast("AsyncGenerator[Generated | Delta]", self._askers[asked.source.name].ask(asking))
        async with aclosing(asker) as answers:
            async for generated in answers:
                if "delta" in generated:
                    yield cast("Delta", generated)
                    continue
                row = response(left.pop(generated["response_id"]), generated)
                yield await self._finished(row, request, body, scoring, stored=False)

    def _stored(self, prompt_id: str, wanted: set[str]) -> list[ResponseRow]:
        """Rows of the run's store; none where the run has not begun."""
        bucket = identities.bucket_of(prompt_id, self._recipe.sample.buckets)
        there = self._store.ids(bucket) & wanted
        if not there:
            return []
        rows = self._store.read(bucket).to_pylist()
        return [r for r in rows if r["response_id"] in there and not r["reject"]]

    async def _finished(
        self, row: Mapping[str, Any], request: GenerateRequest, body: SampleBody, scoring: Scoring, *, stored: bool
    ) -> Sampled:
        found = Sampled(
            **{k: row[k] for k in Sampled.model_fields if k in row and row[k] is not None},
            stored=stored,
        )
        if found.reject:
            return found.model_copy(update={"reject": without_paths(found.reject)})
        update: dict[str, Any] = {}
        item = ScoreItem(id=found.response_id, messages=request["messages"], response=found.text)
        scored, verified = await asyncio.gather(_score(scoring, item), _verify(scoring, body, found.text))
        if scored is not None:
            update |= {"reward": scored["score"], "reward_reject": without_paths(scored["reject"])}
        if verified is not None:
            update |= verified.model_dump(include={"correct", "verdict", "detail"})
        return found.model_copy(update=update)


async def _score(scoring: Scoring, item: ScoreItem) -> Rated | None:
    if scoring.score is None:
        return None
    (rated,) = await scoring.score([item])
    found: Rated = rated
    return found


async def _verify(scoring: Scoring, body: SampleBody, text: str) -> Verdict | None:
    if scoring.verify is None or body.verify is None:
        return None
    (verdict,) = await scoring.verify([(body.verify, text)])
    found: Verdict = verdict
    return found


def _copy(source: Policy, changed: dict[str, Any]) -> Policy:
    return source.model_copy(update=changed)


def ranked(samples: Sequence[Sampled]) -> list[Sampled]:
    """Right before unknown before wrong, then by reward, then by source and index; rejects last."""
    rank = {True: 0, None: 1, False: 2}

    def key(s: Sampled) -> tuple[Any, ...]:
        reward = float("inf") if s.reward is None else -s.reward
        return bool(s.reject), rank[s.correct], reward, s.source, s.sample_index

    return sorted(samples, key=key)
