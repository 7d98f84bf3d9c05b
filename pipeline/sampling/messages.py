"""What crosses a process boundary: batch requests to source LLMs and reward models, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from ..records import Message

SamplingParams = dict[str, Any]
"""vLLM's sampling parameters by name."""


class Wanted(TypedDict):
    """One sample that is wanted."""

    response_id: str
    seed: int


class GenerateRequest(TypedDict):
    """Samples of one conversation under one set of vLLM sampling parameters."""

    messages: list[Message]
    params: SamplingParams
    samples: list[Wanted]
    deltas: NotRequired[bool]
    """Whether the text is told as it grows."""


class Delta(TypedDict):
    """Text that a sample has grown by."""

    response_id: str
    delta: str


class Generated(TypedDict):
    """One sample; `reject` says why there is none."""

    response_id: str
    text: str
    finish_reason: str
    reject: str
    prompt_tokens: int
    completion_tokens: int


def rejected(response_id: str, reject: str) -> Generated:
    """A sample that has no text, with the reason."""
    return Generated(
        response_id=response_id,
        text="",
        finish_reason="rejected",
        reject=reject,
        prompt_tokens=0,
        completion_tokens=0,
    )


def with_system(messages: Sequence[Message], policy: str) -> list[Message]:
    """The messages under a source's system-message policy (config.Source.system)."""
    if policy == "keep" or not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if policy == "drop" or not rest:
        return rest
    merged = Message(role=rest[0]["role"], content=f"{system['content']}\n\n{rest[0]['content']}")
    return [merged, *rest[1:]]


class Piece(TypedDict):
    """A piece of an OpenAI answer on its way to the caller."""

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
    """A text that asks for one of `levels` as its first token."""

    id: str
    text: str
    levels: list[int]
    min_mass: float


class Rated(TypedDict):
    """A score; none where `reject` says why."""

    id: str
    score: float | None
    mass: float
    reject: str
    tokens: int
    objectives: NotRequired[dict[str, float]]
    """ArmoRM's, unmixed."""
    gate: NotRequired[dict[str, float]]
    """ArmoRM's weights of them."""
