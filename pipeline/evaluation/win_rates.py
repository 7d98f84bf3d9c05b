"""Win rates corrected for length and style, which bias a judge: logistic models of its preferences.

A preference is 1 if the model's answer won, 0 if the baseline's answer won, and 0.5 for a tie; the mean over both
orders of a pair is a preference too. The fit adds one tie at each covariate's unit (a log-F(1,1) prior, Greenland and
Mansournia 2015), so that the estimate is finite even if the judge always prefers the same side. The prior weighs as
much as one item. Standard errors are robust (a sandwich estimator) and clustered by item, because preferences may be
fractions and all models answered the same items.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import LEVEL

STYLE = ("length", "headers", "bold", "lists")
"""Covariates of style control: number of characters, and of each Markdown element."""
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_LIST = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Controlled:
    """The win rate that is expected if the answers do not differ in the covariates, with its interval."""

    win_rate: float
    low: float
    high: float
    effects: dict[str, float]
    """Covariate -> its coefficient, in logits. It is above 0 if the judge prefers more of the covariate."""


def length_controlled(
    preferences: Sequence[float],
    lengths: Sequence[int],
    baseline: Sequence[int],
    weights: Sequence[float] | None = None,
) -> Controlled:
    """AlpacaEval 2's length-controlled win rate of one model (Dubois et al. 2024, arXiv 2404.04475, section 3).

    logit P(win) = theta + phi * tanh((length - baseline length) / their standard deviation). The controlled win rate is
    that at equal length, sigmoid(theta). AlpacaEval's code (metrics/glm_winrate.py) differs in four points:

    - The paper's third term, psi * difficulty of the instruction, is left out: the difficulties are constants that the
      authors fitted on the many models of their leaderboard. With it, the rate is the mean over the instructions.
    - AlpacaEval adds its two verbosity-gamed baselines at a weight of 0.2, and a cross-validated L1 penalty;
      here, the prior at the top of this file keeps the estimate finite.
    - AlpacaEval's preference is the probability of the judge's one token, of one order; here it is the mean of the
      verdicts of both orders.
    - The standard deviation is that of all pairs (n, where AlpacaEval has n - 1).

    Args:
        lengths: characters of the model's answers, as in AlpacaEval.
        baseline: characters of the baseline's answers.
        weights: of the preferences (`pairwise.weight`); 1 each by default.
    """
    longer = np.asarray(lengths, dtype=float) - np.asarray(baseline, dtype=float)
    spread = longer.std() or 1.0
    design = np.column_stack([np.ones(len(longer)), np.tanh(longer / spread)])
    coefficients, covariance = _fit(design, np.asarray(preferences, dtype=float), np.arange(len(longer)), weights)
    return _controlled(coefficients, covariance, 0, {"length": float(coefficients[1])})


def style_controlled(
    models: Sequence[str],
    items: Sequence[str],
    preferences: Sequence[float],
    styles: Sequence[Sequence[int]],
    baselines: Sequence[Sequence[int]],
    weights: Sequence[float] | None = None,
) -> dict[str, Controlled]:
    """Arena-Hard's style control: a Bradley-Terry model of all models against one baseline, with style as covariates
    ("Does style matter?", LMSYS 2024; arXiv 2406.11939 for the benchmark).

    logit P(win) = beta_model + gamma * z, where the baseline's beta is 0, and z is (a - b) / (a + b) for each element
    of STYLE, divided by its root mean square. Arena-Hard's own code (show_result.py at v2) differs: it counts tokens of
    gpt-4o's tokenizer, takes Markdown elements per token and (a - b) / (a + b + 1) of these, and centers z, so that its
    win rate is that at the mean difference in style; here it is that at equal style. Its intervals are bootstrapped.

    Args:
        models: for each preference, the model that answered.
        items: for each preference, the item that was answered.
        styles: `style_of` each answer.
        baselines: `style_of` each baseline answer.
        weights: of the preferences (`pairwise.weight`); 1 each by default.
    """
    names = list(dict.fromkeys(models))
    clusters = {item: i for i, item in enumerate(dict.fromkeys(items))}
    ours, theirs = np.asarray(styles, dtype=float), np.asarray(baselines, dtype=float)
    total = ours + theirs
    z = np.divide(ours - theirs, total, out=np.zeros_like(total), where=total > 0)
    rms = np.sqrt((z**2).mean(axis=0))
    z = z / np.where(rms > 0, rms, 1.0)
    indicators = np.asarray([[float(m == n) for n in names] for m in models])
    coefficients, covariance = _fit(
        np.column_stack([indicators, z]),
        np.asarray(preferences, dtype=float),
        np.asarray([clusters[item] for item in items]),
        weights,
    )
    effects = dict(zip(STYLE, coefficients[len(names) :].tolist(), strict=True))
    return {name: _controlled(coefficients, covariance, i, effects) for i, name in enumerate(names)}


def style_of(text: str) -> tuple[int, int, int, int]:
    """STYLE of an answer. Markdown inside code blocks is not counted."""
    prose = _FENCE.sub("", text)
    return len(text), *(len(element.findall(prose)) for element in (_HEADER, _BOLD, _LIST))  # type: ignore[return-value]


def _controlled(coefficients: np.ndarray, covariance: np.ndarray, i: int, effects: dict[str, float]) -> Controlled:
    from scipy.special import expit
    from scipy.stats import norm

    center = float(coefficients[i])
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(max(float(covariance[i, i]), 0.0))
    return Controlled(float(expit(center)), float(expit(center - half)), float(expit(center + half)), effects)


def _fit(
    design: np.ndarray, wins: np.ndarray, clusters: np.ndarray, weights: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a logistic model of preferences in [0, 1], and their covariance.

    Args:
        design: one row per preference, one column per covariate.
        wins: the preferences.
        clusters: for each preference, the index of its item, from 0.
        weights: the weight of each preference; 1 each by default.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    num = design.shape[1]
    x, y = np.vstack([design, np.eye(num)]), np.concatenate([wins, np.full(num, 0.5)])
    own = np.ones(len(wins)) if weights is None else np.asarray(weights, dtype=float)
    w = np.concatenate([own, np.ones(num)])

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ b
        return float((w * (np.logaddexp(0, logits) - y * logits)).sum()), x.T @ (w * (expit(logits) - y))

    def curvature(b: np.ndarray) -> np.ndarray:
        p = expit(x @ b)
        hessian: np.ndarray = (x * (w * p * (1 - p))[:, None]).T @ x
        return hessian

    fitted = minimize(loss, np.zeros(num), jac=True, hess=curvature, method="trust-exact").x
    bread = np.linalg.pinv(curvature(fitted))
    scores = np.zeros((int(clusters.max()) + 1, num))
    np.add.at(scores, clusters, design * (own * (wins - expit(design @ fitted)))[:, None])
    correction = len(scores) / max(len(scores) - num, 1)
    robust = correction * bread @ (scores.T @ scores) @ bread
    # Without residuals the sandwich is zero. The variance is at least half that of independent preferences, because the
    # two judgements of a pair contain at most twice the information of one.
    return fitted, robust + np.diag(np.maximum(np.diag(bread) / 2 - np.diag(robust), 0.0))
