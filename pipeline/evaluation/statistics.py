"""Confidence intervals and tests for the evaluation: functions on plain numbers, all two-sided and at 95%.

The functions tell verdicts (scores of 0 and 1) from graded scores (ratings, preferences, means over samples) by their
values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .result_types import PairedFigures

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

    def figures(self) -> PairedFigures:
        """The same as JSON."""
        return {
            "num_items": self.num_items,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "test": self.test,
        }


def interval(scores: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Mean of scores in [0, 1], low, high: Wilson's interval for verdicts, Student's t for others or with weights."""
    if _are_verdicts(scores) and weights is None:
        return accuracy_interval([bool(s) for s in scores])
    return bounded_interval(scores, 0.0, 1.0, weights)


def bounded_interval(
    values: Sequence[float], lowest: float, highest: float, weights: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Mean of values in [lowest, highest] with its t interval, cut to that range. A single value says nothing of it."""
    mean, low, high = mean_interval(values, weights)
    return (mean, max(low, lowest), min(high, highest)) if len(values) > 1 else (mean, lowest, highest)


def accuracy_interval(correct: Sequence[bool]) -> tuple[float, float, float]:
    """Accuracy with its Wilson interval, which is also valid near 0 and 1 (Brown, Cai and DasGupta 2001)."""
    from scipy.stats import binomtest

    wilson = binomtest(sum(correct), len(correct)).proportion_ci(LEVEL, method="wilson")
    return sum(correct) / len(correct), float(wilson.low), float(wilson.high)


def mean_interval(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Mean with its t interval. The items are a sample of all possible questions (Miller 2024, arXiv 2411.00640,
    section 2).

    A single value gives no estimate of the variance; its interval is the value itself.

    Args:
        weights: of the values; the variance is that of a ratio of means (Cochran 1977, section 6.3).
    """
    mean, influences = _mean(values, weights)
    half = _half(influences)
    return mean, mean - half, mean + half


def _mean(values: Sequence[float], weights: Sequence[float] | None) -> tuple[float, np.ndarray]:
    """Weighted mean, and each value's influence on it: what it adds to the mean's error, times the number of values."""
    array = np.asarray(values, dtype=float)
    if weights is None:
        mean = float(array.mean())
        return mean, array - mean
    mean = float(np.average(array, weights=weights))
    return mean, np.asarray(weights, dtype=float) / np.mean(weights) * (array - mean)


def _half(influences: np.ndarray) -> float:
    """Half the width of the t interval; 0 for a single value."""
    from scipy.stats import t

    num = len(influences)
    return float(t.ppf((1 + LEVEL) / 2, num - 1) * influences.std(ddof=1) / math.sqrt(num)) if num > 1 else 0.0


def paired(
    first: Sequence[float],
    second: Sequence[float],
    weights: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Paired:
    """Compares two models on the same items, in the same order.

    If all nonzero differences have the same size (verdicts, or preferences against a baseline's 0.5), the test is
    McNemar's exact test: a binomial test on the items where the models differ (McNemar 1947; exact, because few items
    differ in small suites). The interval is Bonett and Price's adjusted Wald interval (2012), which keeps its coverage
    for few items. Test and interval are different methods, so a p near 0.05 and its interval may disagree about 0.

    Otherwise it is the paired t test on the differences with its interval, as in Miller 2024 (arXiv 2411.00640,
    section 4): both models' scores depend on the item, and taking differences removes that dependence.

    Args:
        weights: of each model's scores, if its mean is weighted; the test is then the t test.

    Raises:
        ValueError: there are no items, or the two models have different numbers of scores.
    """
    if not first or len(first) != len(second):
        raise ValueError(
            f"both models need the same number of scores, at least one; got {len(first)} and {len(second)}"
        )
    if weights is not None:
        return _weighted_pair(first, second, *weights)
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


def _weighted_pair(
    first: Sequence[float], second: Sequence[float], first_weights: Sequence[float], second_weights: Sequence[float]
) -> Paired:
    """The difference of two weighted means of the same items, from the differences of the items' influences."""
    from scipy.stats import t

    (ours, influences), (theirs, others) = _mean(first, first_weights), _mean(second, second_weights)
    difference, num = ours - theirs, len(influences)
    half = _half(influences - others)
    error = (influences - others).std(ddof=1) / math.sqrt(num) if num > 1 else math.inf
    p = float(2 * t.sf(abs(difference) / error, num - 1)) if num > 1 and error else float(num == 1 or not difference)
    return Paired(num, difference, difference - half, difference + half, p, "t")


def mcnemar(won: int, lost: int) -> float:
    """p of McNemar's exact test.

    Args:
        won: number of items that only the first model got right.
        lost: number of items that only the second model got right.
    """
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def _bonett_price(won: int, lost: int, num: int) -> tuple[float, float]:
    """Interval for a difference of paired proportions (J. Educ. Behav. Stat. 37(4), 2012).

    One item is added to each of the two cells, so that the interval keeps a width even if no difference was observed.
    """
    from scipy.stats import norm

    plus, minus = (won + 1) / (num + 2), (lost + 1) / (num + 2)
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((plus + minus - (plus - minus) ** 2) / (num + 2))
    return max(-1.0, plus - minus - half), min(1.0, plus - minus + half)


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for multiple tests, in the same order (Holm 1979).

    The probability of rejecting any true null hypothesis stays below the level, however the tests depend on each other.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, running_max = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        running_max = max(running_max, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = running_max
    return adjusted


def _are_verdicts(scores: Sequence[float]) -> bool:
    return all(s in (0, 1) for s in scores)
