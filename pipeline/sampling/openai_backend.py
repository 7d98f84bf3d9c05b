"""A source behind an OpenAI-compatible endpoint: keeps its rate limits and retries its failures."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Mapping

import openai
from openai.types.chat import ChatCompletion

from ..errors import RequestFailedError, StageError, one_line
from ..machine.accelerators import CHARS_PER_TOKEN
from ..recipe import EndpointSource
from .messages import Generated, GenerateRequest, SampleSeed, rejected, with_system
from .rate_limit import MAX_WAIT_S, RateLimit, retry_after
from .throughput import EngineCounters

MISCONFIGURED = {401: "api_key_env", 403: "api_key_env", 404: "url or model"}
"""HTTP status -> recipe setting that is probably wrong."""
NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": []}
"""vLLM's parameters beyond OpenAI's API, with the values that change nothing. Other values are sent; these are not,
because other servers refuse unknown keys."""


class _RetryableError(Exception):
    """An attempt failed and may be repeated after `wait_s` seconds."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        self.reason, self.wait_s = reason, wait_s
        super().__init__(reason)


class OpenAIBackend:
    """Samples from one endpoint; see SamplingBackend.

    Each sample is one chat completion with its own seed, which endpoints honor as well as they can. Token counts come
    from the answer's `usage`; without it no tokens are counted.

    If a sample fails `max_attempts` times, its request raises a RequestFailedError after the other samples have
    finished. The caller must find out whether the sample or the endpoint is the cause.
    """

    def __init__(self, source: EndpointSource) -> None:
        self._source = source
        self._client: openai.AsyncOpenAI | None = None
        self._request_limit = self._token_limit = RateLimit(None)
        self._not_before = 0.0

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See SamplingBackend."""
        tasks = [asyncio.create_task(self._sample(request, s)) for s in request["samples"]]
        failure = None
        try:
            for sample in asyncio.as_completed(tasks):
                try:
                    yield await sample
                except RequestFailedError as error:
                    failure = error
        finally:
            for task in tasks:
                task.cancel()
        if failure is not None:
            raise failure

    async def failure_reason(self) -> str:
        """See SamplingBackend."""
        return f"{self._source.url} does not answer"

    async def counters(self) -> EngineCounters | None:
        """See SamplingBackend. An endpoint has no counters."""
        return None

    def _connect(self) -> openai.AsyncOpenAI:
        if self._client is None:
            # The client requires a key even if the endpoint does not. This class retries, so the client must not.
            self._client = openai.AsyncOpenAI(
                base_url=self._source.url,
                api_key=api_key(self._source) or "none",
                timeout=self._source.timeout_s,
                max_retries=0,
            )
            self._request_limit = RateLimit(self._source.requests_per_minute)
            self._token_limit = RateLimit(self._source.tokens_per_minute)
        return self._client

    async def _sample(self, request: GenerateRequest, sample: SampleSeed) -> Generated:
        last = _RetryableError("")
        for attempt in range(self._source.max_attempts):
            if attempt:
                self._pause(max(last.wait_s, random.uniform(0.5, 1) * min(2.0 ** (attempt - 1), MAX_WAIT_S)))
            try:
                return await self._attempt(request, sample)
            except _RetryableError as error:
                last = error
        raise RequestFailedError(last.reason)

    def _pause(self, seconds: float) -> None:
        """Delays all requests of the source, because they share its limits."""
        self._not_before = max(self._not_before, time.monotonic() + min(seconds, MAX_WAIT_S))

    async def _attempt(self, request: GenerateRequest, sample: SampleSeed) -> Generated:
        client, params = self._connect(), request["params"]
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        expected = sum(len(m["content"]) for m in request["messages"]) / CHARS_PER_TOKEN + params["max_tokens"]
        await self._token_limit.acquire(expected)
        await self._request_limit.acquire(1)
        values: Mapping[str, object] = params
        extra = {k: values[k] for k, neutral in NEUTRAL.items() if values.get(k, neutral) != neutral}
        try:
            answer = await client.chat.completions.create(
                model=self._source.model,
                messages=with_system(request["messages"], self._source.system),  # type: ignore[arg-type]
                temperature=params["temperature"],
                top_p=params.get("top_p", 1.0),
                max_tokens=params["max_tokens"],
                stop=params.get("stop") or openai.omit,
                seed=sample["seed"],
                extra_body=extra or None,
            )
        except openai.APITimeoutError as error:
            raise _RetryableError(f"endpoint_timeout: no answer in {self._source.timeout_s:g} s") from error
        except openai.APIStatusError as error:
            return self._rejected(error, sample)
        except (openai.APIError, ValueError) as error:  # no connection, or a body that is not JSON
            raise _RetryableError(f"endpoint_error: {one_line(error)}") from error
        finally:
            self._token_limit.adjust(-expected)
        return self._generated(answer, sample)

    def _rejected(self, error: openai.APIStatusError, sample: SampleSeed) -> Generated:
        """The reject of a request that the endpoint refused.

        Raises:
            StageError: the recipe's settings of the endpoint are wrong.
            _RetryableError: another attempt may succeed.
        """
        status = error.status_code
        if (setting := MISCONFIGURED.get(status)) is not None:
            raise StageError(
                "sample", self._source.name, f"the endpoint answered {status}: {one_line(error)}; change {setting}"
            ) from error
        if status == 429:
            wait_s = retry_after(error.response.headers.get("retry-after"))
            self._pause(wait_s)
            raise _RetryableError("rate_limited: the endpoint answered 429", wait_s) from error
        if status >= 500 or status == 408:
            wait_s = retry_after(error.response.headers.get("retry-after"))
            raise _RetryableError(f"endpoint_error: {status}: {one_line(error)}", wait_s) from error
        # The request itself is at fault, e.g. longer than the context. A retry would change nothing.
        return rejected(sample["response_id"], f"endpoint_refused: {status}: {one_line(error)}")

    def _generated(self, answer: ChatCompletion, sample: SampleSeed) -> Generated:
        """The sample in an answer. The client does not validate answers, so any part of it may be missing."""
        choices = getattr(answer, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        text = getattr(message, "content", None)
        if first is None or message is None or not isinstance(text, str | None):
            raise _RetryableError("endpoint_error: the answer holds no choice with a message")
        usage = getattr(answer, "usage", None)
        prompt, completion = getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0
        self._token_limit.adjust(prompt + completion)
        return Generated(
            response_id=sample["response_id"],
            text=storable(text or ""),
            finish_reason=str(first.finish_reason or "stop"),
            reject="",
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
        )


def api_key(source: EndpointSource) -> str | None:
    """The API key, or None if the source names no environment variable for it.

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
    """The text with lone surrogates replaced: JSON can contain them, Parquet can't."""
    return text.encode("utf-8", "replace").decode("utf-8")
