"""Types of what the report shows, in the order in which the templates read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from ..evaluation.result_types import HeldoutMetrics
from ..prompts.table_counts import TableSummary
from ..records import AnswerRow
from ..scoring.agreement import AgreementReport, RewardRelations
from ..selection.funnel import Funnel
from .benchmarks import Benchmarks
from .paper_table import PaperTable


class FunnelRow(TypedDict):
    """A reason of the selection, with its prompts."""

    reason: str
    num: int
    share: float


class ResponseCounts(TypedDict):
    """The responses of one source in one domain."""

    source: str
    domain: str
    num: int
    finished: int
    rejected: int
    correct: int | None
    verified: int
    tokens: float
    """Mean completion tokens."""
    counted: bool
    """Whether the tokens were counted; those of imported responses are only if a rule of selection limits them."""


class Yields(TypedDict):
    """Arguments of `plots.yield_curves`."""

    edges: Sequence[float]
    curves: Mapping[str, Sequence[int]]
    low: float
    tops: dict[str, float | None]


class Example(TypedDict):
    """A held-out prompt with the answers of the models."""

    id: str
    domain: str
    prompt: str
    answers: dict[str, AnswerRow]
    """Model -> row of evaluate/answers.parquet."""
    kind: NotRequired[str]


class StageSummary(TypedDict):
    """A stage's manifest. Only `stage` and `run` are set if the stage was not run."""

    stage: str
    run: bool
    seconds: NotRequired[float]
    tokens: NotRequired[int]
    counts: NotRequired[str]
    fingerprint: NotRequired[str]
    versions: NotRequired[str]


class ReportContent(TypedDict):
    """The context of the report's templates."""

    recipe: str
    seed: int
    prompt_tables: list[TableSummary]
    funnel: Funnel | None
    funnel_rows: list[FunnelRow]
    counted: str
    """What the funnel counts."""
    imported: bool
    """Whether the rows were imported ready to train on, so that there are no responses and rewards to show."""
    agreement: AgreementReport | None
    responses: list[ResponseCounts]
    relations: RewardRelations
    rewards: dict[str, list[float]]
    unit: str
    margins: dict[str, list[float]]
    yields: Yields | None
    windows: dict[str, tuple[float, float | None]]
    curves: dict[str, list[tuple[int, float]]]
    metrics: HeldoutMetrics | None
    benchmarks: Benchmarks | None
    paper: PaperTable | None
    headline: str
    examples: list[Example]
    stages: list[StageSummary]
