"""A stream that its caller leaves ends the engine's generation there and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import clocks
import pytest

from fusechat.services.openai_stream import coalesce, openai_answer

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


class Engine:
    """Streams for ever, as Ray's engine does until it is closed."""

    closed = False

    async def chat(self, request: object, raw: object) -> AsyncGenerator[str]:
        try:
            while True:
                yield 'data: {"choices":[{}]}\n\n'
                await asyncio.sleep(0.01)
        finally:
            self.closed = True


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_closing_an_answer_closes_the_generation(pieces: int) -> None:
    engine = Engine()

    async def leave() -> None:
        found = openai_answer(engine, "chat", BODY, "r")
        async with aclosing(found):
            for _ in range(pieces):
                await anext(found)
        assert engine.closed

    asyncio.run(leave())


def test_chunks_are_joined_and_none_is_lost() -> None:
    async def chunks() -> AsyncGenerator[str]:
        for i in range(50):
            yield f"{i},"
            await asyncio.sleep(0.001)

    async def joined() -> list[str]:
        return [text async for text in coalesce(chunks(), 0.02)]

    found = clocks.run(joined)
    assert "".join(found) == "".join(f"{i}," for i in range(50))
    assert len(found) < 25


def test_what_the_engine_raises_reaches_the_caller() -> None:
    async def chunks() -> AsyncGenerator[str]:
        yield "a"
        raise RuntimeError("engine")

    async def read() -> None:
        async for _ in coalesce(chunks(), 0.01):
            pass

    with pytest.raises(RuntimeError, match="engine"):
        asyncio.run(read())
