"""The core of /v1/sample with sources that answer, fail, or never answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import small
from example_rows import make_generated

from fusechat.pipeline.errors import RequestFailedError
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import EndpointSource
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest
from fusechat.services.sample_route import Sampler, Scoring
from fusechat.services.schemas import SampleBody, SampleResult, SourceError


class Answering:
    """A source that answers, after an event if one is given."""

    def __init__(self, after: asyncio.Event | None = None) -> None:
        self.after = after

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        if self.after is not None:
            await self.after.wait()
        for wanted in request["samples"]:
            yield make_generated(wanted["response_id"], "four", prompt_tokens=3)


class Failing:
    """A source that fails."""

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        raise RequestFailedError("http_error: 500 from /srv/secret/app.py")
        yield


class Silent:
    """A source that never answers. It records when a request comes and when it is cancelled."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), False

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        self.asked.set()
        try:
            await asyncio.Event().wait()
            yield make_generated("")
        finally:
            self.left = True


@pytest.fixture
def sampler_of(tmp_path: Path) -> Any:
    def made(**askers: Any) -> Sampler:
        recipe = load(small.recipe(tmp_path, small.prompts(1), samples=1, source={}))
        asked = [
            PinnedSource(
                source=EndpointSource(
                    kind="endpoint", name=name, url="http://127.0.0.1:9/v1", model="m", samples={"instruction": 2}
                ),
                revision="r",
                template="t",
                seed=0,
            )
            for name in askers
        ]
        return Sampler(recipe, asked, askers)

    return made


BODY = SampleBody(messages=[{"role": "user", "content": "2 + 2?"}])  # type: ignore[list-item]


async def first(events: AsyncIterator[Any], num: int) -> list[Any]:
    found = []
    async for event in events:
        found.append(event)
        if len(found) == num:
            break
    await events.aclose()  # type: ignore[attr-defined]
    return found


def test_a_silent_source_holds_no_other_up_and_is_left_with_its_caller(sampler_of: Any) -> None:
    silent = Silent()
    sampler = sampler_of(silent=silent, answering=Answering(after=silent.asked))
    found = asyncio.run(asyncio.wait_for(first(sampler.sample(BODY, Scoring()), 2), 300))
    assert [(type(e), e.source, e.text) for e in found] == [(SampleResult, "answering", "four")] * 2
    assert silent.left


def test_a_failing_source_is_an_error_beside_the_others_answers(sampler_of: Any) -> None:
    sampler = sampler_of(failing=Failing(), answering=Answering())

    async def everything() -> list[Any]:
        return [event async for event in sampler.sample(BODY, Scoring())]

    found = asyncio.run(asyncio.wait_for(everything(), 300))
    assert sorted(type(e).__name__ for e in found) == ["SampleResult", "SampleResult", "SourceError"]
    (error,) = [e for e in found if isinstance(e, SourceError)]
    assert error.source == "failing"
    assert error.code == "unavailable"
    assert "500" in error.message
    assert "/srv/secret" not in error.message
