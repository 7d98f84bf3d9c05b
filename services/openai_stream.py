"""OpenAI answers of one engine: the output of vLLM's serving classes, in pieces that the gateway forwards unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal

from fusechat.pipeline.sampling.messages import Piece

if TYPE_CHECKING:
    from pydantic import ValidationError
    from vllm.exceptions import VLLMClientError

    from fusechat.pipeline.cluster.ray_internals import VLLMEngine

Route = Literal["chat", "completions"]
INTERVAL_S = 0.05
"""Tokens of a stream that arrive within this interval are sent together. The first one is sent at once."""
NO_CHOICES = '"choices":[]'
"""Marks vLLM's last event, which contains only the usage."""


def error_json(status: int, message: str, kind: str, param: str | None = None) -> str:
    """Returns OpenAI's error object as JSON."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": str(status)}})


async def openai_answer(
    engine: VLLMEngine, route: Route, body: Mapping[str, object], request_id: str
) -> AsyncGenerator[Piece]:
    """Yields one answer: a single piece, or server-sent events as they come if the request streams.

    Args:
        body: of the request, with vLLM's field names.

    Raises:
        EngineDeadError: the engine's process died.
    """
    from pydantic import ValidationError
    from vllm.exceptions import VLLMClientError

    from fusechat.pipeline.cluster.ray_internals import openai_api_models as openai

    fields = {**body, "request_id": request_id}
    if body.get("stream"):
        fields |= {"stream_options": {"include_usage": True}}
    try:
        request = (openai.ChatCompletionRequest if route == "chat" else openai.CompletionRequest).model_validate(fields)
    except (ValidationError, VLLMClientError) as error:
        yield Piece(text=error_json(400, _first_error(error), "invalid_request_error"), status=400)
        return
    answers = (engine.chat if route == "chat" else engine.completions)(request, None)
    options = body.get("stream_options")
    wants_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    async with aclosing(answers):
        try:
            first = await anext(answers)
        except (ValueError, VLLMClientError) as error:  # a mistake of the caller
            yield Piece(text=error_json(400, str(error), "invalid_request_error"), status=400)
            return
        if isinstance(first, openai.ErrorResponse):
            detail = first.error
            status = int(detail.code)
            yield Piece(text=error_json(status, detail.message, detail.type, detail.param), status=status)
        elif isinstance(first, str):
            async with aclosing(_stream(first, answers, wants_usage)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            usage = first.usage
            yield Piece(
                text=first.model_dump_json(),
                status=200,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens or 0,
            )


def _first_error(error: ValidationError | VLLMClientError) -> str:
    """Returns what is wrong, in one line. pydantic reports an error for each allowed type of a value."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return " ".join(str(error).split())
    first = errors()[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"


async def _stream(first: str, rest: AsyncIterator[str], wants_usage: bool) -> AsyncGenerator[Piece]:
    yield Piece(text=first, status=200)
    async with aclosing(coalesce(rest, INTERVAL_S)) as texts:
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


async def coalesce(chunks: AsyncIterator[str], interval_s: float) -> AsyncGenerator[str]:
    """Joins the chunks, so that at most one is yielded per interval. Closing it stops reading the chunks."""
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
    ended = False
    try:
        while not ended and (chunk := await queue.get()) is not None:
            await asyncio.sleep(max(0.0, due - loop.time()))
            joined = [chunk]
            while not queue.empty() and not ended:
                if (more := queue.get_nowait()) is None:
                    ended = True
                else:
                    joined.append(more)
            due = loop.time() + interval_s
            yield "".join(joined)
        await reader  # raises what the engine raised
    finally:
        reader.cancel()
        await asyncio.wait((reader,))
