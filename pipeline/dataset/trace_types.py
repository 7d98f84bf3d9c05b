"""Content of a trace, as `fusechat trace --json` prints it."""

from __future__ import annotations

from typing import Literal, TypedDict

from ..records import PromptRow, RejectRow, ResponseRow


class TracedOutcome(TypedDict):
    """The selection's result for a prompt."""

    reason: str
    means: str
    source: str | None


class TracedScores(TypedDict, total=False):
    """The scores of a response; empty if it was not scored."""

    rewards: dict[str, float]
    reward_rejects: dict[str, str]
    correct: bool | None
    verdict: str
    detail: str


class TracedResponse(ResponseRow, TracedScores):
    """A response with its status in the selection, and its scores."""

    status: str
    means: str


class RowTrace(TypedDict):
    """The trace of a row of the data set."""

    kind: Literal["row"]
    table: str
    row: dict[str, object]
    """The row without its messages."""
    outcome: TracedOutcome | None
    prompt: PromptRow | None
    responses: list[TracedResponse]


class ResponseTrace(TracedResponse):
    """The trace of a response."""

    kind: Literal["response"]
    outcome: TracedOutcome | None
    prompt: PromptRow | None


class PromptTrace(TypedDict):
    """The trace of a prompt."""

    kind: Literal["prompt"]
    prompt: PromptRow | None
    outcome: TracedOutcome | None
    rows: list[str]
    """Row ids."""
    responses: list[TracedResponse]


class RejectTrace(RejectRow):
    """The trace of a prompt that the intake rejected."""

    kind: Literal["reject"]


class ModelTrace(TypedDict):
    """The trace of a trained model."""

    kind: Literal["model"]
    stage: str
    folder: str
    fingerprint: str
    versions: dict[str, str]
    selection_changed_since: bool
    num_rows: int
    rejects: list[RejectRow]
    """Rows that the training rejected."""
    starts_from: str
    rows: list[str]
    """Ids of the rows that it was trained on."""


Trace = RowTrace | ResponseTrace | PromptTrace | RejectTrace | ModelTrace
