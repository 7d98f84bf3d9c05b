"""OpenAI answers of one engine: what vLLM's serving classes make, in pieces that the gateway passes on as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from fusechat.pipeline.sampling.messages import Piece

Route = Literal["chat", "completions"]
INTERVAL_S = 0.05
"""Tokens of a stream travel together where they come faster than this; the first one travels at once."""
NO_CHOICES = '"choices":[]'
"""What marks vLLM's last event, which holds the usage alone."""


def problem(status: int, message: str, kind: str, code: str | None = None, param: str | None = None) -> str:
    """OpenAI's error object as JSON."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code or str(status)}})


async def answer(engine: Any, route: Route, body: Mapping[str, Any], request_id: str) -> AsyncGenerator[Piece]:
    """One answer: a single piece, or, of a stream, server-sent events as they come.

    Args:
        engine: Ray's VLLMEngine.
        body: of the request, under vLLM's names.

    Raises:
        EngineDeadError: the engine's process is gone.
    """
    from pydantic import ValidationError
    from ray.llm._internal.serve.core.configs import openai_api_models as openai
    from vllm.exceptions import VLLMClientError

    asked = {**body, "request_id": request_id}
    if body.get("stream"):
        asked |= {"stream_options": {"include_usage": True}}
    try:
        request = (openai.ChatCompletionRequest if route == "chat" else openai.CompletionRequest).model_validate(asked)
    except (ValidationError, VLLMClientError) as error:
        yield Piece(text=problem(400, _first(error), "invalid_request_error"), status=400)
        return
    found = (engine.chat if route == "chat" else engine.completions)(request, None)
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    async with aclosing(found):
        try:
            first_one = await anext(found)
        except (ValueError, VLLMClientError) as error:  # vLLM's words for what a caller did wrong
            yield Piece(text=problem(400, str(error), "invalid_request_error"), status=400)
            return
        if isinstance(first_one, openai.ErrorResponse):
            told = first_one.error
            status = int(told.code)
            yield Piece(text=problem(status, told.message, told.type, param=told.param), status=status)
        elif isinstance(first_one, str):
            async with aclosing(_stream(first_one, found, wants_usage)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            usage = first_one.usage
            yield Piece(
                text=first_one.model_dump_json(),
                status=200,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens or 0,
            )


def _first(error: Exception) -> str:
    """What is wrong, in one line: pydantic tells of each form that a value might have had."""
    told = getattr(error, "errors", None)
    if told is None:
        return " ".join(str(error).split())
    first = told()[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"


async def _stream(first: str, rest: AsyncIterator[str], wants_usage: bool) -> AsyncGenerator[Piece]:
    yield Piece(text=first, status=200)
    async with aclosing(coalesced(rest, INTERVAL_S)) as texts:
        async for text in texts:
            if NO_CHOICES not in text:
                yield Piece(text=text, status=200)
                continue
            events = text.split("\n\n")
            last = next(i for i, e in enumerate(events) if NO_CHOICES in e)
            usage = json.loads(events[last].removeprefix("data: "))["usage"]
            if not wants_usage:
                del events[last]
            yield Piece(
                text="\n\n".join(events),
                status=200,
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"] or 0,
            )


async def coalesced(chunks: AsyncIterator[str], interval_s: float) -> AsyncGenerator[str]:
    """The chunks, joined to at most one each interval; once it is closed, nobody reads them any more."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def read() -> None:
        try:
            async for chunk in chunks:
                queue.put_nowait(chunk)
        finally:
            queue.put_nowait(None)

    reader = asyncio.create_task(read())
    due = loop.time() + interval_s
    over = False
    try:
        while not over and (chunk := await queue.get()) is not None:
            await asyncio.sleep(max(0.0, due - loop.time()))
            joined = [chunk]
            while not queue.empty() and not over:
                if (more := queue.get_nowait()) is None:
                    over = True
                else:
                    joined.append(more)
            due = loop.time() + interval_s
            yield "".join(joined)
        await reader  # raises what the engine raised
    finally:
        reader.cancel()
        await asyncio.wait((reader,))
