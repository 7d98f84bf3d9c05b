"""Batch requests to source LLMs and reward models, and their answers, as they cross process boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from ..records import Message


class SamplingParams(TypedDict, total=False):
    """vLLM's sampling parameters, as the recipe's Sampling section defines them."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]


class SampleSeed(TypedDict):
    """One requested sample."""

    response_id: str
    seed: int


class GenerateRequest(TypedDict):
    """Samples of one conversation under one set of vLLM sampling parameters."""

    messages: list[Message]
    params: SamplingParams
    samples: list[SampleSeed]
    deltas: NotRequired[bool]
    """Whether partial text is streamed."""


class Delta(TypedDict):
    """Text that was added to a sample."""

    response_id: str
    delta: str


class Generated(TypedDict):
    """One sample; `reject` is the reason if there is none."""

    response_id: str
    text: str
    finish_reason: str
    reject: str
    prompt_tokens: int
    completion_tokens: int


def rejected(response_id: str, reject: str) -> Generated:
    """A sample without text, with the reason."""
    return Generated(
        response_id=response_id,
        text="",
        finish_reason="rejected",
        reject=reject,
        prompt_tokens=0,
        completion_tokens=0,
    )


def with_system(messages: Sequence[Message], policy: str) -> list[Message]:
    """The messages after a source's system-message policy (the recipe's `sources.*.system`) is applied."""
    if policy == "keep" or not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if policy == "drop" or not rest:
        return rest
    merged = Message(role=rest[0]["role"], content=f"{system['content']}\n\n{rest[0]['content']}")
    return [merged, *rest[1:]]


class Piece(TypedDict):
    """A piece of an OpenAI answer that is sent to the caller."""

    text: str
    """JSON of the whole answer or of an error, or server-sent events."""
    status: int
    prompt_tokens: NotRequired[int]
    completion_tokens: NotRequired[int]


class ScoreItem(TypedDict):
    """A response to be scored."""

    id: str
    messages: list[Message]
    response: str


class RateRequest(TypedDict):
    """A judge prompt whose answer must start with one of `levels`."""

    id: str
    text: str
    levels: list[int]
    min_mass: float


class Rated(TypedDict):
    """A score; None if there is a `reject` reason."""

    id: str
    score: float | None
    mass: float
    reject: str
    tokens: int
    objectives: NotRequired[dict[str, float]]
    """ArmoRM's objective scores, before mixing."""
    gate: NotRequired[dict[str, float]]
    """ArmoRM's gating weights of the objectives."""
