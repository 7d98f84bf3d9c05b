"""Content of evaluate/suites.json and evaluate/metrics.json: what the evaluation writes and the report reads."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class PairedFigures(TypedDict):
    """Two models on the same items; see `statistics.Paired`."""

    num_items: int
    difference: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "t"]


class ScoreFigures(TypedDict):
    """A mean score in [0, 1], or of ratings from 1 to 10, with its 95% interval."""

    num_items: int
    value: float
    low: float
    high: float


class ControlledFigures(TypedDict):
    """A win rate under length or style control; see `win_rates.Controlled`."""

    win_rate: float
    low: float
    high: float
    effects: dict[str, float]


class OptionalScores(TypedDict, total=False):
    """Scores that only some suites have."""

    score_without_contaminated: ScoreFigures | None
    """Only if rows of the suite are contaminated."""
    wins: int
    """Suites that are judged in pairs only, as are the next three."""
    ties: int
    losses: int
    controlled: ControlledFigures
    """Only under length or style control, and not for the baseline."""


class SuiteScore(OptionalScores):
    """One model's result on one suite."""

    num_items: int
    """Items with a score."""
    without_score: dict[str, int]
    """Reason -> items without a score."""
    answers: int
    rejected: int
    truncated: int
    mean_tokens: float
    mean_chars: float
    score: ScoreFigures | None
    figure: ScoreFigures | None
    """What the table shows: the score, or the win rate under control."""


class SuiteComparison(PairedFigures):
    """Two models on one suite."""

    model: str
    baseline: str
    p_holm: float
    """`p` after Holm's correction over all suites of this pair of models."""


class DomainOutcome(TypedDict):
    """Items of one suite and domain on which a model is better than, the same as, or worse than a baseline."""

    model: str
    baseline: str
    domain: str
    better: int
    same: int
    worse: int


class Judging(TypedDict):
    """How a suite was judged, and at what cost."""

    judge: str
    revision: str
    sampling: dict[str, object]
    instruction: str
    """Hash of the request to the judge."""
    judgements: int
    rejected: int
    prompt_tokens: int
    completion_tokens: int
    tokens: int


class SuiteDescription(TypedDict):
    """A suite: its files, how it is asked, and what is wrong with its rows."""

    name: str
    kind: Literal["verified", "judged", "harness"]
    group: str
    form: str
    num_items: int
    files: dict[str, str]
    """File -> hash of its content."""
    identity: str
    unusable: int
    contaminated: int
    sampling: dict[str, object]
    more_samplings: list[dict[str, object]]
    samples: int
    """Answers per prompt."""
    seed: int
    ask: str | None
    tasks: list[str] | None
    baseline: str | None
    control: Literal["none", "length", "style"] | None
    method: NotRequired[Literal["pairs", "rating"] | None]
    """Of a judged suite; versions that had no ratings did not write it."""
    judging: Judging | None


class SuiteResult(SuiteDescription):
    """A suite with the scores of all models."""

    scores: dict[str, SuiteScore]
    """Model -> score."""
    comparisons: list[SuiteComparison]
    outcomes: list[DomainOutcome]


class SuiteResults(TypedDict):
    """evaluate/suites.json."""

    models: dict[str, dict[str, str]]
    """Model -> revision and template."""
    suites: list[SuiteResult]
    groups: dict[str, dict[str, float | None]]
    """Group -> model -> mean of its suites: 1 for 100%, and a rating of 1 to 10 counts as that many percent."""
    mean: dict[str, float | None]
    """Model -> mean of all suites, in the same unit."""
    versions: dict[str, str]


class AccuracyFigures(TypedDict):
    """An accuracy with its 95% interval."""

    num_items: int
    accuracy: float
    low: float
    high: float


class RatingFigures(TypedDict):
    """A mean rating with its 95% interval."""

    num_items: int
    mean: float
    low: float
    high: float


class AnswerLengths(TypedDict):
    """Lengths of answers."""

    num_items: int
    truncated: int
    mean_tokens: float


class HeldoutComparison(PairedFigures):
    """Two models on the held-out prompts of one domain."""

    model: str
    baseline: str
    domain: str


class HeldoutMetrics(TypedDict):
    """evaluate/metrics.json. Domains are the keys of `heldout.VERIFIED` and `heldout.RATED`."""

    models: dict[str, dict[str, AccuracyFigures]]
    """Model -> domain -> accuracy."""
    comparisons: list[HeldoutComparison]
    ratings: dict[str, dict[str, RatingFigures]]
    """Model -> domain -> rating by the judge."""
    rating_comparisons: list[HeldoutComparison]
    lengths: dict[str, dict[str, AnswerLengths]]
    """Model -> domain -> lengths."""


def is_rating(suite: SuiteDescription) -> bool:
    """Whether the suite's scores are ratings from 1 to 10; all others lie in [0, 1]."""
    return suite.get("method") == "rating"
