"""Records of scoring: verdicts, rewards, and scores, which merge both."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import pyarrow as pa

from .prompt_records import Domain

VERDICT = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("correct", pa.bool_()),  # null if the response can't be verified
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("check_id", pa.string()),  # hash of the response and what it was checked against; null: early version
    ]
)


class VerdictRow(TypedDict):
    """A row of VERDICT."""

    response_id: str
    correct: bool | None
    verdict: str
    detail: str
    check_id: NotRequired[str | None]


OBJECTIVES = (
    "helpsteer-helpfulness",
    "helpsteer-correctness",
    "helpsteer-coherence",
    "helpsteer-complexity",
    "helpsteer-verbosity",
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)
"""ArmoRM's objectives, in the order of the columns `objectives` and `gate`."""
VALUES = pa.list_(pa.float64())
_IN_ORDER = {"order": ",".join(OBJECTIVES)}

REWARD = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("reject", pa.string(), nullable=False),  # reason for a missing score; otherwise empty
        pa.field("objectives", VALUES, metadata=_IN_ORDER),  # ArmoRM's objective scores; null for other reward models
        pa.field("gate", VALUES, metadata=_IN_ORDER),  # ArmoRM's gating weights
    ]
)


class RewardRow(TypedDict):
    """A row of REWARD."""

    response_id: str
    score: float | None
    reject: str
    objectives: NotRequired[list[float] | None]
    gate: NotRequired[list[float] | None]


SCORE = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("rewards", pa.map_(pa.string(), pa.float64()), nullable=False),  # reward model -> score
        pa.field(
            "reward_rejects", pa.map_(pa.string(), pa.string()), nullable=False
        ),  # reward model -> reason for a missing score
        pa.field("correct", pa.bool_()),  # null if the response can't be verified
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("objectives", pa.map_(pa.string(), VALUES), metadata=_IN_ORDER),  # reward model -> objective scores
        pa.field("gate", pa.map_(pa.string(), VALUES), metadata=_IN_ORDER),  # reward model -> gating weights
    ]
)


class ScoreRow(TypedDict):
    """A row of SCORE."""

    response_id: str
    prompt_id: str
    domain: Domain
    source: str
    rewards: list[tuple[str, float]]
    reward_rejects: list[tuple[str, str]]
    correct: bool | None
    verdict: str
    detail: str
    objectives: list[tuple[str, list[float]]] | None
    gate: list[tuple[str, list[float]]] | None
