"""Answers to the numbers of a comparison: accuracies, ratings, lengths, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ..records import AnswerRow
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


def summarise(answers: pa.Table) -> dict[str, Any]:
    """The content of evaluate/metrics.json.

    Args:
        answers: ANSWER; an answer of a verified domain that got no verdict counts as wrong.

    Returns:
        `models`: name -> domain -> num_items, accuracy, low, high; `comparisons`: model, baseline, domain, num_items,
        difference, low, high, p, test; `ratings` and `rating_comparisons`: the same of a judge's ratings; `lengths`:
        name -> domain -> num_items, truncated, mean_tokens.
    """
    rows = answers.to_pylist()
    names = list(dict.fromkeys(r["model"] for r in rows))
    verified = [r for r in rows if r["domain"] in ("math", "code")]
    rated = [r for r in rows if r["rating"] is not None]
    models: dict[str, dict[str, Any]] = {}
    ratings: dict[str, dict[str, Any]] = {}
    lengths: dict[str, dict[str, Any]] = {}
    for name in names:
        models[name] = {}
        for domain, belongs in VERIFIED.items():
            correct = [bool(r["correct"]) for r in verified if r["model"] == name and belongs(r)]
            if correct:
                accuracy, low, high = accuracy_interval(correct)
                models[name][domain] = {"num_items": len(correct), "accuracy": accuracy, "low": low, "high": high}
        ratings[name] = {}
        for domain, belongs in RATED.items():
            values = [r["rating"] for r in rated if r["model"] == name and belongs(r)]
            if values:
                mean, low, high = mean_interval(values)
                ratings[name][domain] = {"num_items": len(values), "mean": mean, "low": low, "high": high}
        lengths[name] = {}
        for domain in sorted({r["domain"] for r in rows}):
            mine = [r for r in rows if r["model"] == name and r["domain"] == domain]
            lengths[name][domain] = {
                "num_items": len(mine),
                "truncated": sum(r["finish_reason"] == "length" for r in mine),
                "mean_tokens": sum(r["completion_tokens"] for r in mine) / max(len(mine), 1),
            }
    return {
        "models": models,
        "comparisons": _compare(verified, VERIFIED, lambda r: float(bool(r["correct"]))),
        "ratings": ratings,
        "rating_comparisons": _compare(rated, RATED, lambda r: r["rating"] or 0.0),
        "lengths": lengths,
    }


def _compare(
    rows: list[AnswerRow], domains: dict[str, Callable[[AnswerRow], bool]], value: Callable[[AnswerRow], float]
) -> list[dict[str, Any]]:
    """Paired differences on the prompts that both models answered."""
    found = []
    for model, baseline in pairs(list(dict.fromkeys(r["model"] for r in rows))):
        for domain, belongs in domains.items():
            mine = {r["prompt_id"]: value(r) for r in rows if r["model"] == model and belongs(r)}
            theirs = {r["prompt_id"]: value(r) for r in rows if r["model"] == baseline and belongs(r)}
            both = sorted(mine.keys() & theirs.keys())
            if not both:
                continue
            compared = paired([mine[p] for p in both], [theirs[p] for p in both])
            found.append({"model": model, "baseline": baseline, "domain": domain, **asdict(compared)})
    return found
