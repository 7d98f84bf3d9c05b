"""Intervals and tests for what an evaluation claims: plain functions on numbers, all two-sided and at 95%.

Scores of 0 and 1 (verdicts) and graded ones (ratings, preferences, means over samples) are told apart by their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same items: the mean of first - second, its interval, and the test of no difference."""

    num_items: int
    difference: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "t"]


def interval(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean of scores in [0, 1], low, high: Wilson's interval for verdicts, Student's t for graded scores."""
    if _are_verdicts(scores):
        return accuracy_interval([bool(s) for s in scores])
    mean, low, high = mean_interval(scores)
    return (mean, max(low, 0.0), min(high, 1.0)) if len(scores) > 1 else (mean, 0.0, 1.0)


def accuracy_interval(correct: Sequence[bool]) -> tuple[float, float, float]:
    """Accuracy with its Wilson interval, which holds near 0 and 1 too (Brown, Cai and DasGupta 2001)."""
    from scipy.stats import binomtest

    found = binomtest(sum(correct), len(correct)).proportion_ci(LEVEL, method="wilson")
    return sum(correct) / len(correct), float(found.low), float(found.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its t interval (items are a sample of what could be asked: Miller 2024, arXiv 2411.00640, section 2).

    One value says nothing about the spread, and is its own interval.
    """
    from scipy.stats import t

    array = np.asarray(values, dtype=float)
    half = 0.0
    if len(array) > 1:
        half = float(t.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    mean = float(array.mean())
    return mean, mean - half, mean + half


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compares two models on the same items, in the same order.

    Where all items that differ do so by as much (verdicts, or preferences against a baseline's 0.5): McNemar's exact
    test, a binomial test on the items where they differ (McNemar 1947; exact, since few items differ in small suites),
    and Bonett and Price's adjusted Wald interval (2012), which keeps its coverage there. Test and interval are two
    methods, so a p near 0.05 may stand beside an interval that just holds 0 or just doesn't.
    Else the paired t test on the differences and its interval, as Miller 2024 (arXiv 2411.00640, section 4) has it:
    both models' scores hang on the item, and the differences take that out.

    Raises:
        ValueError: there is no item, or their numbers differ.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"as many scores of both models are needed, at least one; got {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    sizes = np.unique(np.abs(differences[differences != 0]))
    if len(sizes) <= 1:
        size = float(sizes[0]) if len(sizes) else 1.0
        won, lost = int((differences > 0).sum()), int((differences < 0).sum())
        low, high = _bonett_price(won, lost, len(differences))
        mean = float(differences.mean())
        return Paired(len(differences), mean, size * low, size * high, mcnemar(won, lost), "mcnemar")
    from scipy.stats import ttest_1samp

    mean, low, high = mean_interval(differences.tolist())
    return Paired(len(differences), mean, low, high, float(ttest_1samp(differences, 0.0).pvalue), "t")


def mcnemar(won: int, lost: int) -> float:
    """p of McNemar's exact test: items that only the first model got right, and only the second."""
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def _bonett_price(won: int, lost: int, num: int) -> tuple[float, float]:
    """Interval for a difference of paired proportions (J. Educ. Behav. Stat. 37(4), 2012): one item is added to each of
    the two cells, so that no difference seen is no certainty."""
    from scipy.stats import norm

    plus, minus = (won + 1) / (num + 2), (lost + 1) / (num + 2)
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((plus + minus - (plus - minus) ** 2) / (num + 2))
    return max(-1.0, plus - minus - half), min(1.0, plus - minus + half)


def holm(values: Sequence[float]) -> list[float]:
    """p values that hold for all of them together, in the same order (Holm 1979): the chance that any of the true
    nulls is rejected stays under the level, whatever hangs on what."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted


def _are_verdicts(scores: Sequence[float]) -> bool:
    return all(s in (0, 1) for s in scores)
