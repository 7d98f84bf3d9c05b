"""Records of the evaluation: answers, items of suites, and contaminated rows of suites."""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa

from .prompt_records import Domain

ANSWER = pa.schema(
    [
        pa.field("answer_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # target, sft, dpo, or another evaluated model
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("template_seen", pa.bool_()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("rating", pa.float64()),
    ]
)


class AnswerRow(TypedDict):
    """A row of ANSWER."""

    answer_id: str
    model: str
    prompt_id: str
    id: str
    domain: Domain
    template_seen: bool | None
    prompt: str
    text: str
    finish_reason: str
    completion_tokens: int
    correct: bool | None
    verdict: str
    rating: float | None


ITEM = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field(
            "score", pa.float64()
        ),  # in [0, 1]: share of correct answers, or preference; or a rating from 1 to 10; null if there is none
        pa.field(
            "why", pa.string(), nullable=False
        ),  # verdict on the first answer, or the judge's verdicts for both orders
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the first answer
        pa.field("answers", pa.int32(), nullable=False),
        pa.field("rejected", pa.int32(), nullable=False),  # number of rejected answers
        pa.field("truncated", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.float64(), nullable=False),  # mean over the answers
        pa.field("chars", pa.float64(), nullable=False),
        pa.field("style", pa.list_(pa.int32()), nullable=False),  # style features (win_rates) of the first answer
        pa.field("contaminated", pa.bool_(), nullable=False),
    ]
)
"""An item of a suite, for one model. In suites judged in pairs, the baseline's items have a preference of 0.5."""


class ItemRow(TypedDict):
    """A row of ITEM."""

    suite: str
    model: str
    prompt_id: str
    id: str
    domain: Domain
    score: float | None
    why: str
    prompt: str
    text: str
    answers: int
    rejected: int
    truncated: int
    completion_tokens: float
    chars: float
    style: list[int]
    contaminated: bool


OVERLAP = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),  # file:line of the suite's row
        pa.field("training", pa.string(), nullable=False),  # file:line of the training prompt that contains most of it
        pa.field("num", pa.int32(), nullable=False),  # number of its n-grams in the training prompt
        pa.field("of", pa.int32(), nullable=False),  # number of its n-grams
    ]
)
"""A contaminated row of a suite."""


class OverlapRow(TypedDict):
    """A row of OVERLAP."""

    suite: str
    id: str
    prompt_id: str
    place: str
    training: str
    num: int
    of: int
