"""Scores from a source LLM's log-probabilities: the likelihood of a response, and the rating of a judge."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling.messages import Rated, RateRequest, ScoreItem

from .prompt_rendering import PromptRenderer

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams


class LogprobScorer:
    """Scores responses on one engine.

    Args:
        run: runs one request (prompt token ids, parameters, request id) on the engine and returns its final output.
    """

    def __init__(
        self, renderer: PromptRenderer, run: Callable[[list[int], SamplingParams, str], Awaitable[RequestOutput]]
    ) -> None:
        self._renderer, self._run = renderer, run

    async def likelihood(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """Returns the mean log-probability (nats per token) of each response given its conversation."""
        return list(await asyncio.gather(*(self._likelihood(i) for i in items)))

    async def rate(self, requests: Sequence[RateRequest]) -> list[Rated]:
        """Returns the expected rating level under the next-token distribution; `mass` is the levels' probability."""
        return list(await asyncio.gather(*(self._rate(r) for r in requests)))

    async def _likelihood(self, item: ScoreItem) -> Rated:
        def rejected(reason: str) -> Rated:
            return Rated(id=item["id"], score=None, mass=1.0, reject=reason, tokens=0)

        max_model_len = self._renderer.max_model_len
        ids = self._renderer.render(item["messages"], for_scoring=True)
        if isinstance(ids, str):
            return rejected(ids)
        if token := self._renderer.find_special_token(item["response"]):
            return rejected(f"special_token: a message holds {token!r}")
        response = self._renderer.tokenize(item["response"])
        if not response:
            return rejected("empty_response")
        if len(ids) + len(response) >= max_model_len:
            return rejected(f"too_long: {len(ids) + len(response)} tokens, the engine takes {max_model_len - 1}")
        logprobs = await self._response_logprobs(ids, response, unique_request_id(item["id"]))
        return finite_rating(item["id"], sum(logprobs) / len(logprobs), 1.0, len(ids) + len(response))

    async def _response_logprobs(self, ids: list[int], response: list[int], request_id: str) -> list[float]:
        """Returns the log-probability of each token of the response after the prompt `ids`.

        The first request uses vLLM's prefix cache: blocks of the prompt that another response left there are not
        computed again. vLLM returns no log-probabilities for cached tokens. If the cache reaches into the response
        (because the same text was scored before), a second request computes everything.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        for skip_cache in (False, True):
            params = SamplingParams(
                max_tokens=1,
                temperature=0,
                prompt_logprobs=0,
                skip_reading_prefix_cache=skip_cache,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            output = await self._run([*ids, *response], params, f"{request_id}-{skip_cache:d}")
            if not skip_cache and (output.num_cached_tokens or 0) >= len(ids):
                continue
            entries = [
                position.get(token) if position is not None else None
                for position, token in zip((output.prompt_logprobs or [])[len(ids) :], response, strict=True)
            ]
            logprobs = [entry.logprob for entry in entries if entry is not None]
            if len(logprobs) == len(response):
                return logprobs
        raise RuntimeError("the engine returned no prompt log-probabilities")

    async def _rate(self, request: RateRequest) -> Rated:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        ids = self._renderer.render([Message(role="user", content=request["text"])], for_scoring=True)
        if isinstance(ids, str):
            return Rated(id=request["id"], score=None, mass=0.0, reject=ids, tokens=0)
        params = SamplingParams(max_tokens=1, temperature=0, logprobs=20, output_kind=RequestOutputKind.FINAL_ONLY)
        output = await self._run(ids, params, unique_request_id(request["id"]))
        first = (output.outputs[0].logprobs or [{}])[0]
        masses = dict.fromkeys(request["levels"], 0.0)
        for logprob in first.values():
            token = (logprob.decoded_token or "").strip()
            if token.isascii() and token.isdigit() and int(token) in masses:
                masses[int(token)] += math.exp(logprob.logprob)
        mass = sum(masses.values())
        if mass < request["min_mass"]:
            reject = f"no_rating: the levels hold {mass:.3f} of the probability, {request['min_mass']} is needed"
            return Rated(id=request["id"], score=None, mass=mass, reject=reject, tokens=len(ids))
        expected = sum(level * p for level, p in masses.items()) / mass
        return finite_rating(request["id"], expected, mass, len(ids))


def unique_request_id(request_id: str) -> str:
    """Returns an engine request id for one try.

    Another caller may use the same id, or the engine may still be working on an earlier try.
    """
    return f"{request_id}-{uuid.uuid4().hex[:8]}"


def finite_rating(item: str, score: float, mass: float, tokens: int) -> Rated:
    """Returns a rating, or a reject if the score is NaN or infinite."""
    if not math.isfinite(score):
        return Rated(id=item, score=None, mass=mass, reject=f"not_finite: {score}", tokens=tokens)
    return Rated(id=item, score=score, mass=mass, reject="", tokens=tokens)
