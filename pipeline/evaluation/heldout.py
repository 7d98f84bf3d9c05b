"""The results on held-out prompts: accuracies, ratings and lengths, with intervals and comparisons."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from ..recipe import VERIFIED_DOMAINS
from ..records import AnswerRow
from .result_types import AccuracyFigures, AnswerLengths, HeldoutComparison, HeldoutMetrics, RatingFigures
from .statistics import accuracy_interval, mean_interval, paired
from .suite_scores import pairs

VERIFIED: dict[str, Callable[[AnswerRow], bool]] = {
    "math": lambda r: r["domain"] == "math",
    "code": lambda r: r["domain"] == "code",
    "verified": lambda r: True,
    "verified_seen": lambda r: r["template_seen"] is True,
    "verified_unseen": lambda r: r["template_seen"] is False,
}
RATED: dict[str, Callable[[AnswerRow], bool]] = {
    "instruction": lambda r: r["domain"] == "instruction",
    "chinese": lambda r: r["domain"] == "chinese",
    "rated": lambda r: True,
}


def summarise(answers: pa.Table) -> HeldoutMetrics:
    """The content of evaluate/metrics.json.

    Args:
        answers: ANSWER. An answer of a verified domain without a verdict counts as wrong.
    """
    rows: list[AnswerRow] = answers.to_pylist()
    names = list(dict.fromkeys(r["model"] for r in rows))
    domains = sorted({r["domain"] for r in rows})
    verified = [r for r in rows if r["domain"] in VERIFIED_DOMAINS]
    rated = [r for r in rows if r["rating"] is not None]
    return {
        "models": {name: _accuracies([r for r in verified if r["model"] == name]) for name in names},
        "comparisons": _compare(verified, VERIFIED, lambda r: float(bool(r["correct"]))),
        "ratings": {name: _ratings([r for r in rated if r["model"] == name]) for name in names},
        "rating_comparisons": _compare(rated, RATED, lambda r: r["rating"] or 0.0),
        "lengths": {
            name: {
                domain: _lengths([r for r in rows if (r["model"], r["domain"]) == (name, domain)]) for domain in domains
            }
            for name in names
        },
    }


def _accuracies(rows: list[AnswerRow]) -> dict[str, AccuracyFigures]:
    """Domain -> accuracy of one model."""
    accuracies: dict[str, AccuracyFigures] = {}
    for domain, belongs in VERIFIED.items():
        correct = [bool(r["correct"]) for r in rows if belongs(r)]
        if correct:
            accuracy, low, high = accuracy_interval(correct)
            accuracies[domain] = {"num_items": len(correct), "accuracy": accuracy, "low": low, "high": high}
    return accuracies


def _ratings(rows: list[AnswerRow]) -> dict[str, RatingFigures]:
    """Domain -> mean rating of one model."""
    ratings: dict[str, RatingFigures] = {}
    for domain, belongs in RATED.items():
        values = [r["rating"] for r in rows if r["rating"] is not None and belongs(r)]
        if values:
            mean, low, high = mean_interval(values)
            ratings[domain] = {"num_items": len(values), "mean": mean, "low": low, "high": high}
    return ratings


def _lengths(rows: list[AnswerRow]) -> AnswerLengths:
    return {
        "num_items": len(rows),
        "truncated": sum(r["finish_reason"] == "length" for r in rows),
        "mean_tokens": sum(r["completion_tokens"] for r in rows) / max(len(rows), 1),
    }


def _compare(
    rows: list[AnswerRow], domains: dict[str, Callable[[AnswerRow], bool]], value: Callable[[AnswerRow], float]
) -> list[HeldoutComparison]:
    """Paired differences on the prompts that both models answered."""
    comparisons: list[HeldoutComparison] = []
    for model, baseline in pairs(list(dict.fromkeys(r["model"] for r in rows))):
        for domain, belongs in domains.items():
            ours = {r["prompt_id"]: value(r) for r in rows if r["model"] == model and belongs(r)}
            theirs = {r["prompt_id"]: value(r) for r in rows if r["model"] == baseline and belongs(r)}
            common = sorted(ours.keys() & theirs.keys())
            if common:
                figures = paired([ours[p] for p in common], [theirs[p] for p in common]).figures()
                comparisons.append({"model": model, "baseline": baseline, "domain": domain, **figures})
    return comparisons
