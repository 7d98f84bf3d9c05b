"""Win rates with what sways a judge taken out: logistic models of its preferences, on plain numbers.

A preference is 1 where the model's answer won, 0 where the baseline's did, 0.5 for a tie; the mean over both orders of
a pair is one, too. The models are fitted with one tie at each covariate's unit (a log-F(1,1) prior, Greenland and
Mansournia 2015), so that a judge who always agrees gives a finite answer; that weighs as much as one item. Errors are
robust (a sandwich), clustered by item: preferences may be fractions, and models answered the same items.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import LEVEL

STYLE = ("length", "headers", "bold", "lists")
"""What style control looks at: characters and Markdown's elements."""
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_LIST = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Controlled:
    """A win rate as it would be with no difference in the covariates, with its interval."""

    win_rate: float
    low: float
    high: float
    effects: dict[str, float]
    """Covariate -> its coefficient, in logits; above 0 where the judge likes more of it."""


def length_controlled(preferences: Sequence[float], lengths: Sequence[int], baseline: Sequence[int]) -> Controlled:
    """AlpacaEval 2's length-controlled win rate of one model (Dubois et al. 2024, arXiv 2404.04475, section 3).

    logit P(win) = theta + phi * tanh((length - baseline length) / their standard deviation); the win rate is what is
    left at equal length, sigmoid(theta). The paper's third term, an instruction's difficulty, is a constant that it
    fits on its leaderboard's many models; there is none here.

    Args:
        lengths: characters of the model's answers; tokens of different tokenizers can't be compared.
        baseline: of the baseline's answers.
    """
    longer = np.asarray(lengths, dtype=float) - np.asarray(baseline, dtype=float)
    spread = longer.std() or 1.0
    design = np.column_stack([np.ones(len(longer)), np.tanh(longer / spread)])
    coefficients, covariance = _fit(design, np.asarray(preferences, dtype=float), np.arange(len(longer)))
    return _controlled(coefficients, covariance, 0, {"length": float(coefficients[1])})


def style_controlled(
    models: Sequence[str],
    items: Sequence[str],
    preferences: Sequence[float],
    styles: Sequence[Sequence[int]],
    baselines: Sequence[Sequence[int]],
) -> dict[str, Controlled]:
    """Arena-Hard's style control: a Bradley-Terry model of all models against one baseline, with style as covariates
    ("Does style matter?", LMSYS 2024; arXiv 2406.11939 for the benchmark).

    logit P(win) = beta_model + gamma * z, the baseline's beta being 0; z is (a - b) / (a + b) for each element of
    STYLE, over its root mean square. They also centre it; then no difference in style would not be z = 0.

    Args:
        models, items: whose answer, to what: one of each for every preference.
        styles, baselines: `style_of` the answer, and of the baseline's.
    """
    names = list(dict.fromkeys(models))
    numbers = {item: i for i, item in enumerate(dict.fromkeys(items))}
    ours, theirs = np.asarray(styles, dtype=float), np.asarray(baselines, dtype=float)
    total = ours + theirs
    z = np.divide(ours - theirs, total, out=np.zeros_like(total), where=total > 0)
    size = np.sqrt((z**2).mean(axis=0))
    z = z / np.where(size > 0, size, 1.0)
    indicators = np.asarray([[float(m == n) for n in names] for m in models])
    coefficients, covariance = _fit(
        np.column_stack([indicators, z]),
        np.asarray(preferences, dtype=float),
        np.asarray([numbers[item] for item in items]),
    )
    effects = dict(zip(STYLE, coefficients[len(names) :].tolist(), strict=True))
    return {name: _controlled(coefficients, covariance, i, effects) for i, name in enumerate(names)}


def style_of(text: str) -> tuple[int, int, int, int]:
    """STYLE of an answer; what looks like Markdown inside a block of code is none."""
    prose = _FENCE.sub("", text)
    return len(text), *(len(element.findall(prose)) for element in (_HEADER, _BOLD, _LIST))  # type: ignore[return-value]


def _controlled(coefficients: np.ndarray, covariance: np.ndarray, place: int, effects: dict[str, float]) -> Controlled:
    from scipy.special import expit
    from scipy.stats import norm

    centre = float(coefficients[place])
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(max(float(covariance[place, place]), 0.0))
    return Controlled(float(expit(centre)), float(expit(centre - half)), float(expit(centre + half)), effects)


def _fit(design: np.ndarray, wins: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a logistic model of preferences in [0, 1], and their covariance.

    Args:
        design: (preferences, covariates).
        clusters: number of each preference's item, from 0.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    num = design.shape[1]
    x, y = np.vstack([design, np.eye(num)]), np.concatenate([wins, np.full(num, 0.5)])

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ b
        return float((np.logaddexp(0, logits) - y * logits).sum()), x.T @ (expit(logits) - y)

    def curvature(b: np.ndarray) -> np.ndarray:
        p = expit(x @ b)
        found: np.ndarray = (x * (p * (1 - p))[:, None]).T @ x
        return found

    found = minimize(loss, np.zeros(num), jac=True, hess=curvature, method="trust-exact").x
    bread = np.linalg.pinv(curvature(found))
    scores = np.zeros((int(clusters.max()) + 1, num))
    np.add.at(scores, clusters, design * (wins - expit(design @ found))[:, None])
    correction = len(scores) / max(len(scores) - num, 1)
    robust = correction * bread @ (scores.T @ scores) @ bread
    # Two judgements of a pair tell at most twice as much as one: without residuals a sandwich is empty.
    return found, robust + np.diag(np.maximum(np.diag(bread) / 2 - np.diag(robust), 0.0))
