"""Intervals for what an evaluation claims: plain functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def accuracy_interval(correct: Sequence[bool]) -> tuple[float, float, float]:
    """Accuracy with its 95% Wilson interval: (accuracy, low, high)."""
    from scipy.stats import binomtest

    interval = binomtest(sum(correct), len(correct)).proportion_ci(method="wilson")
    return sum(correct) / len(correct), float(interval.low), float(interval.high)


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Mean of first - second over the same items, with the 95% interval of a paired bootstrap."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return mean_interval(differences.tolist(), seed)


def mean_interval(values: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Mean with the 95% percentile-bootstrap interval: (mean, low, high)."""
    array = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [array[generator.integers(0, len(array), (1000, len(array)))].mean(axis=1) for _ in range(RESAMPLES // 1000)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(array.mean()), float(low), float(high)
