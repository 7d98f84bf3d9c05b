"""Scripted judges of known bias: the win rates are what the arithmetic says, and control takes out what was planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from fusechat.pipeline.evaluation.statistics import interval
from fusechat.pipeline.evaluation.win_rates import STYLE, length_controlled, style_controlled, style_of

NUM = 400


def lengths(generator: np.random.Generator, longer: float) -> tuple[np.ndarray, np.ndarray]:
    """Characters of a model's answers and of the baseline's, the model's longer by so much at the mean."""
    return generator.gamma(6, 100 * longer, NUM).astype(int) + 1, generator.gamma(6, 100, NUM).astype(int) + 1


def both_orders(generator: np.random.Generator, chance: np.ndarray) -> list[float]:
    """Means of two judgements each, of a judge who takes the model with this chance."""
    return ((generator.random((2, NUM)) < chance).mean(axis=0)).tolist()


def test_a_judge_who_prefers_the_first_calls_every_pair_a_tie() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = lengths(generator, 1.5)
    ties = [0.5] * NUM
    assert interval(ties) == (0.5, 0.5, 0.5)
    found = length_controlled(ties, ours, theirs)
    assert found.win_rate == pytest.approx(0.5, abs=1e-6)
    assert found.effects["length"] == pytest.approx(0, abs=1e-6)


def test_a_judge_who_prefers_the_longer_is_controlled() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = lengths(generator, 1.6)
    longer = np.where(ours > theirs, 1.0, np.where(ours == theirs, 0.5, 0.0))
    raw, low, _ = interval(longer.tolist())
    assert raw == longer.mean()
    assert low > 0.7  # the bias shows
    found = length_controlled(longer.tolist(), ours, theirs)
    assert found.low < 0.5 < found.high
    assert found.win_rate == pytest.approx(0.5, abs=0.1)
    assert found.effects["length"] > 5
    styles, plain = [(n, 0, 0, 0) for n in ours], [(n, 0, 0, 0) for n in theirs]
    styled = style_controlled(["m"] * NUM, [str(i) for i in range(NUM)], longer.tolist(), styles, plain)["m"]
    assert styled.low < 0.5 < styled.high


def test_a_judge_of_a_fixed_side_gives_its_share() -> None:
    generator = np.random.default_rng(2)
    ours, theirs = lengths(generator, 1.6)
    seen = both_orders(generator, np.full(NUM, 0.6))
    _, low, high = interval(seen)
    assert low < 0.6 < high
    found = length_controlled(seen, ours, theirs)
    assert found.low < 0.6 < found.high
    assert abs(found.effects["length"]) < 0.6


@pytest.mark.parametrize("phi", [0.0, 1.5, 4.0])
def test_length_control_recovers_the_rate_at_equal_length(phi: float) -> None:
    true, held, raw_held = float(expit(0.4)), 0, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        ours, theirs = lengths(generator, 1.6)
        longer = (ours - theirs) / (ours - theirs).std()
        seen = both_orders(generator, expit(0.4 + phi * np.tanh(longer)))
        found = length_controlled(seen, ours, theirs)
        held += found.low <= true <= found.high
        _, low, high = interval(seen)
        raw_held += low <= true <= high
    assert held >= 0.9 * 200
    if phi:
        assert raw_held < 0.5 * 200  # without control the planted bias would have been believed


def test_style_control_recovers_models_that_share_a_judge() -> None:
    held = {"plain": 0, "ornate": 0}
    true = {"plain": float(expit(0.5)), "ornate": float(expit(-0.3))}
    for seed in range(100):
        generator = np.random.default_rng(seed)
        models, items, wins, styles, baselines = [], [], [], [], []
        for name, beta, bold in (("plain", 0.5, 1.0), ("ornate", -0.3, 6.0)):
            ours = np.column_stack([generator.poisson(m, NUM) for m in (300, 1, bold, 2)])
            theirs = np.column_stack([generator.poisson(m, NUM) for m in (300, 1, 1, 2)])
            total = np.maximum(ours + theirs, 1)
            chance = expit(beta + 1.2 * ((ours - theirs) / total)[:, 2])
            wins += both_orders(generator, chance)
            models += [name] * NUM
            items += [str(i) for i in range(NUM)]
            styles += ours.tolist()
            baselines += theirs.tolist()
        found = style_controlled(models, items, wins, styles, baselines)
        assert list(found["plain"].effects) == list(STYLE)
        assert found["ornate"].effects["bold"] > 0.3
        for name, rate in true.items():
            held[name] += found[name].low <= rate <= found[name].high
    assert min(held.values()) >= 88


def test_a_judge_who_always_agrees_gives_a_finite_rate() -> None:
    found = length_controlled([1.0] * 50, [100] * 50, [100] * 50)
    assert 0.98 < found.win_rate < 1
    assert found.low < 0.97  # fifty wins of fifty are no certainty
    assert found.high <= 1


def test_the_style_of_an_answer() -> None:
    text = "# Title\n\n1. **one**\n2) two\n - three __four__\n```python\n# no header\n- no item\n```\n#no header"
    assert style_of(text) == (len(text), 1, 2, 3)
    assert style_of("") == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["length", "style"])
def test_a_weight_of_three_is_three_judgements(kind: str) -> None:
    generator = np.random.default_rng(5)
    ours, theirs = lengths(generator, 1.3)
    seen = both_orders(generator, np.full(NUM, 0.7))
    thrice = generator.random(NUM) < 0.3

    def rate(index: np.ndarray, weights: list[float] | None) -> float:
        wins, mine, others = np.asarray(seen)[index].tolist(), ours[index], theirs[index]
        if kind == "length":
            return length_controlled(wins, mine, others, weights).win_rate
        styles, plain = [(n, 0, 0, 0) for n in mine], [(n, 0, 0, 0) for n in others]
        items = [str(i) for i in index]
        return style_controlled(["m"] * len(index), items, wins, styles, plain, weights)["m"].win_rate

    every = np.arange(NUM)
    weighted = rate(every, np.where(thrice, 3.0, 1.0).tolist())
    repeated = rate(np.repeat(every, np.where(thrice, 3, 1)), None)
    assert weighted == pytest.approx(repeated, abs=0.003)
    assert weighted != pytest.approx(rate(every, None), abs=1e-4)
    assert rate(every, [1.0] * NUM) == pytest.approx(rate(every, None), abs=1e-9)
