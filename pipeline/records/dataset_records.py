"""Records of selection: SFT rows, preference pairs, and the outcome of each prompt."""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa

from .prompt_records import MESSAGES, Domain, Message

_PROVENANCE = [
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("domain", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("revision", pa.string(), nullable=False),
    pa.field("template", pa.string(), nullable=False),
    pa.field("params", pa.string(), nullable=False),
    pa.field("recipe", pa.string(), nullable=False),  # name of the recipe
    pa.field("code", pa.string(), nullable=False),  # version of fusechat
]


class _Provenance(TypedDict):
    """The columns of _PROVENANCE."""

    row_id: str
    prompt_id: str
    domain: Domain
    source: str
    revision: str
    template: str
    params: str
    recipe: str
    code: str


def _with_nulls(schema: pa.Schema, *columns: str) -> pa.Schema:
    """The schema of rows that may lack these columns."""
    return pa.schema([f.with_nullable(True) if f.name in columns else f for f in schema])


SFT_ROW = pa.schema(
    [
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("completion", MESSAGES, nullable=False),
        *_PROVENANCE,
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("verdict", pa.string()),
    ]
)


IMPORTED_SFT_ROW = _with_nulls(SFT_ROW, "reward")
"""SFT_ROW of an imported data set, which may have no scores."""


class SftRow(_Provenance):
    """A row of SFT_ROW or IMPORTED_SFT_ROW."""

    prompt: list[Message]
    completion: list[Message]
    response_id: str
    seed: int
    reward: float | None
    correct: bool | None
    verdict: str | None


PAIR = pa.schema(
    [
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("chosen", MESSAGES, nullable=False),
        pa.field("rejected", MESSAGES, nullable=False),
        *_PROVENANCE,
        pa.field("chosen_id", pa.string(), nullable=False),
        pa.field("rejected_id", pa.string(), nullable=False),
        pa.field("chosen_seed", pa.int64(), nullable=False),
        pa.field("rejected_seed", pa.int64(), nullable=False),
        pa.field("chosen_reward", pa.float64(), nullable=False),
        pa.field("rejected_reward", pa.float64(), nullable=False),
        pa.field("chosen_correct", pa.bool_()),
        pa.field("rejected_correct", pa.bool_()),
        pa.field("chosen_verdict", pa.string()),
        pa.field("rejected_verdict", pa.string()),
        pa.field("margin", pa.float64(), nullable=False),
    ]
)


IMPORTED_PAIR = _with_nulls(PAIR, "chosen_reward", "rejected_reward", "margin")
"""PAIR of an imported data set, which may have no scores."""


class PairRow(_Provenance):
    """A row of PAIR or IMPORTED_PAIR."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_id: str
    rejected_id: str
    chosen_seed: int
    rejected_seed: int
    chosen_reward: float | None
    rejected_reward: float | None
    chosen_correct: bool | None
    rejected_correct: bool | None
    chosen_verdict: str | None
    rejected_verdict: str | None
    margin: float | None


CANDIDATE_PAIR = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("sft_share", pa.bool_(), nullable=False),  # only SFT may use the prompt
        pa.field("chosen_reward", pa.float64(), nullable=False),
        pa.field("margin", pa.float64(), nullable=False),
    ]
)


class CandidatePairRow(TypedDict):
    """A row of CANDIDATE_PAIR."""

    prompt_id: str
    domain: Domain
    source: str
    sft_share: bool
    chosen_reward: float
    margin: float


OUTCOME = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string()),  # source of the selected row
    ]
)


class OutcomeRow(TypedDict):
    """A row of OUTCOME."""

    prompt_id: str
    domain: Domain
    reason: str
    source: str | None
