"""A source behind an OpenAI-compatible endpoint: its limits kept, its failures retried, every answer a sample."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import openai

from ..errors import AskFailedError, StageError, plain
from ..recipe import EndpointSource
from .messages import Generated, GenerateRequest, Wanted, rejected, with_system
from .rate_limit import LONGEST_WAIT_S, Window, retry_after
from .throughput import Reading

CHARS_A_TOKEN = 4


MISCONFIGURED = {401: "api_key_env", 403: "api_key_env", 404: "url or model"}


NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": []}
"""What vLLM knows beyond OpenAI's API; sent only where it says something, since others refuse keys that they don't
know."""


class _FailedError(Exception):
    """One try that failed and may be repeated, `wait` seconds later at the earliest."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        self.reason, self.wait = reason, wait
        super().__init__(reason)


class OpenAIBackend:
    """Asks one endpoint; see SamplingBackend.

    Each sample is one chat completion with a seed of its own, which endpoints honour as well as they can. Tokens are
    what the endpoint says in `usage`; where it says nothing none are counted.

    A sample that failed `max_attempts` times ends its request with an AskFailedError once the others have answered;
    whether the sample or the endpoint is to blame is the caller's to find out.
    """

    def __init__(self, source: EndpointSource) -> None:
        self._source = source
        self._client: openai.AsyncOpenAI | None = None
        self._requests = self._tokens = Window(None)
        self._not_before = 0.0

    async def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See SamplingBackend."""
        samples = [asyncio.create_task(self._sample(request, s)) for s in request["samples"]]
        failed = None
        try:
            for sample in asyncio.as_completed(samples):
                try:
                    yield await sample
                except AskFailedError as error:
                    failed = error
        finally:
            for task in samples:
                task.cancel()
        if failed is not None:
            raise failed

    async def trouble(self) -> str:
        """See SamplingBackend."""
        return f"{self._source.url} does not answer"

    async def counters(self) -> Reading | None:
        """See SamplingBackend; an endpoint has none."""
        return None

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            # Without a key the client wants one all the same; tries are counted here, not inside it.
            self._client = openai.AsyncOpenAI(
                base_url=self._source.url,
                api_key=api_key(self._source) or "none",
                timeout=self._source.timeout_s,
                max_retries=0,
            )
            self._requests = Window(self._source.requests_per_minute)
            self._tokens = Window(self._source.tokens_per_minute)
        return self._client

    async def _sample(self, request: GenerateRequest, wanted: Wanted) -> Generated:
        last = _FailedError("")
        for attempt in range(self._source.max_attempts):
            if attempt:
                self._pause(max(last.wait, random.uniform(0.5, 1) * min(2.0 ** (attempt - 1), LONGEST_WAIT_S)))
            try:
                return await self._try(request, wanted)
            except _FailedError as error:
                last = error
        raise AskFailedError(last.reason)

    def _pause(self, seconds: float) -> None:
        """All requests of the source wait: what is too much for one is too much for all."""
        self._not_before = max(self._not_before, time.monotonic() + min(seconds, LONGEST_WAIT_S))

    async def _try(self, request: GenerateRequest, wanted: Wanted) -> Generated:
        client, params = self._open(), request["params"]
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        expected = sum(len(m["content"]) for m in request["messages"]) / CHARS_A_TOKEN + params["max_tokens"]
        await self._tokens.take(expected)
        await self._requests.take(1)
        more = {k: params[k] for k, neutral in NEUTRAL.items() if params.get(k, neutral) != neutral}
        try:
            answer = await client.chat.completions.create(
                model=self._source.model,
                messages=with_system(request["messages"], self._source.system),  # type: ignore[arg-type]
                temperature=params["temperature"],
                top_p=params.get("top_p", 1.0),
                max_tokens=params["max_tokens"],
                stop=params.get("stop") or openai.omit,
                seed=wanted["seed"],
                extra_body=more or None,
            )
        except openai.APITimeoutError as error:
            raise _FailedError(f"endpoint_timeout: no answer in {self._source.timeout_s:g} s") from error
        except openai.APIStatusError as error:
            return self._refused(error, wanted)
        except (openai.APIError, ValueError) as error:  # no connection, or a body that is no JSON
            raise _FailedError(f"endpoint_error: {plain(error)}") from error
        finally:
            self._tokens.correct(-expected)
        return self._read(answer, wanted)

    def _refused(self, error: openai.APIStatusError, wanted: Wanted) -> Generated:
        status = error.status_code
        if (setting := MISCONFIGURED.get(status)) is not None:
            raise StageError(
                "sample", self._source.name, f"the endpoint answered {status}: {plain(error)}; change {setting}"
            ) from error
        if status == 429:
            wait = retry_after(error.response.headers.get("retry-after"))
            self._pause(wait)
            raise _FailedError("rate_limited: the endpoint answered 429", wait) from error
        if status >= 500 or status == 408:
            wait = retry_after(error.response.headers.get("retry-after"))
            raise _FailedError(f"endpoint_error: {status}: {plain(error)}", wait) from error
        # The request itself is at fault, e.g. longer than the context: asking again would change nothing.
        return rejected(wanted["response_id"], f"endpoint_refused: {status}: {plain(error)}")

    def _read(self, answer: Any, wanted: Wanted) -> Generated:
        choices = getattr(answer, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        text = getattr(message, "content", None)
        if first is None or message is None or not isinstance(text, str | None):
            raise _FailedError("endpoint_error: the answer holds no choice with a message")
        usage = getattr(answer, "usage", None)
        prompt, completion = getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0
        self._tokens.correct(prompt + completion)
        return Generated(
            response_id=wanted["response_id"],
            text=storable(text or ""),
            finish_reason=str(first.finish_reason or "stop"),
            reject="",
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
        )


def api_key(source: EndpointSource) -> str | None:
    """The key, where the source names a variable.

    Raises:
        StageError: the variable is not set.
    """
    if source.api_key_env is None:
        return None
    key = os.environ.get(source.api_key_env)
    if not key:
        raise StageError("sample", source.name, f"environment variable {source.api_key_env} (api_key_env) is not set")
    return key


def storable(text: str) -> str:
    """The text with lone surrogates replaced, which JSON can hold and Parquet can't."""
    return text.encode("utf-8", "replace").decode("utf-8")
