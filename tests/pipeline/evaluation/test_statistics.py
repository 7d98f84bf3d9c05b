"""Intervals against known values, and metrics.json as its readers expect it."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from fusechat.pipeline.evaluation.heldout import summarise
from fusechat.pipeline.evaluation.statistics import accuracy_interval, holm, interval, mean_interval, paired
from fusechat.pipeline.records import ANSWER


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert accuracy_interval([True] * 81 + [False] * 182) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert accuracy_interval([False] * 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)


def test_paired_differences_of_verdicts_against_known_values() -> None:
    # By hand: 44 / 102 - 9 / 102 = 0.3431, and 1.96 * sqrt((53 / 102 - 0.3431 ** 2) / 102) = 0.1230 around it.
    found = paired([1] * 43 + [0] * 8 + [1] * 49, [0] * 43 + [1] * 8 + [1] * 49)
    assert (found.test, found.num_items) == ("mcnemar", 100)
    assert (found.difference, found.low, found.high) == pytest.approx((0.35, 0.2201, 0.4662), abs=1e-4)
    assert found.p == pytest.approx(2 * sum(math.comb(51, k) for k in range(9)) / 2**51)
    same = paired([1, 0, 1], [1, 0, 1])
    assert (same.difference, same.p) == (0, 1)
    assert same.low < 0 < same.high  # three items that agree prove nothing


def test_paired_differences_of_graded_scores_are_a_t_test() -> None:
    found = paired([3.0, 4, 5, 4], [2.0, 4, 3, 3])
    # Differences 1, 0, 2, 1: mean 1, standard error 0.4082, t(3) = 2.449.
    assert (found.test, found.difference) == ("t", 1)
    assert (found.low, found.high) == pytest.approx((1 - 3.1824 * 0.40825, 1 + 3.1824 * 0.40825), abs=1e-3)
    assert found.p == pytest.approx(0.0917, abs=1e-4)
    # A judge's preferences against the baseline's 0.5: ties and wins of one size are counts again.
    judged = paired([1.0] * 9 + [0.5] * 3, [0.5] * 12)
    assert (judged.test, judged.difference, judged.p) == ("mcnemar", 9 / 24, 2**-8)
    assert 0 < judged.low < 9 / 24 < judged.high <= 0.5
    with pytest.raises(ValueError, match="3 and 2"):
        paired([1, 2, 3], [1, 2])


@pytest.mark.parametrize("kind", ["score", "difference", "graded"])
def test_intervals_hold_what_is_true_in_93_to_97_of_100_tables(kind: str) -> None:
    generator = np.random.default_rng(9)
    held = 0
    for _ in range(1000):
        num = int(generator.integers(80, 300))
        ease = generator.random(num)  # items differ, and both models feel it
        if kind == "score":
            _, low, high = interval((ease < 0.3).tolist())
            true = 0.3
        elif kind == "difference":
            before = ease < 0.3
            after = np.where(before, generator.random(num) < 0.9, generator.random(num) < 0.2)
            found = paired(after.tolist(), before.tolist())
            low, high, true = found.low, found.high, 0.3 * 0.9 + 0.7 * 0.2 - 0.3
        else:
            first, second = generator.normal(3.4 + ease, 0.7), generator.normal(3 + ease, 0.5)
            found = paired(first.tolist(), second.tolist())
            low, high, true = found.low, found.high, 0.4
        held += low <= true <= high
    assert 930 <= held <= 970


def test_a_true_null_is_rejected_no_more_often_than_the_level_says() -> None:
    generator = np.random.default_rng(4)
    rejected = 0
    for _ in range(1000):
        first, second = generator.random((2, 120)) < 0.5
        rejected += paired(first.tolist(), second.tolist()).p <= 0.05
    assert rejected <= 65  # the exact test is on the safe side


def test_holm() -> None:
    # Holm (1979) by hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, then no less than that.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_holm_holds_the_level_over_many_suites() -> None:
    generator = np.random.default_rng(2)
    wrong = sum(min(holm(generator.random(14).tolist())) <= 0.05 for _ in range(2000))
    assert wrong / 2000 == pytest.approx(0.05, abs=0.015)
    alone = sum(min(generator.random(14)) <= 0.05 for _ in range(2000))
    assert alone / 2000 > 0.4


def answer(
    model: str, prompt: str, domain: str, correct: bool | None, rating: float | None, seen: bool
) -> dict[str, object]:
    return {
        "answer_id": f"{model}{prompt}",
        "model": model,
        "prompt_id": prompt,
        "id": prompt,
        "domain": domain,
        "template_seen": seen,
        "prompt": "?",
        "text": "!",
        "finish_reason": "stop",
        "completion_tokens": 7,
        "correct": correct,
        "verdict": "",
        "rating": rating,
    }


def test_metrics() -> None:
    rows = []
    for i in range(10):
        for model, right in (("target", i < 1), ("sft", i < 5), ("dpo", i < 6)):
            rows.append(answer(model, f"m{i}", "math" if i % 2 else "code", right, None, i < 8))
            rows.append(answer(model, f"i{i}", "instruction", None, 3.0 if model == "target" else 4.0, False))
    found = summarise(pa.Table.from_pylist(rows, schema=ANSWER))
    assert list(found["models"]) == ["target", "sft", "dpo"]
    assert found["models"]["dpo"]["verified"]["accuracy"] == pytest.approx(0.6)
    assert found["models"]["dpo"]["verified"]["num_items"] == 10
    assert found["models"]["target"]["verified_seen"]["num_items"] == 8
    assert found["models"]["sft"]["verified_unseen"]["accuracy"] == 0
    whole = next(
        c for c in found["comparisons"] if (c["model"], c["baseline"], c["domain"]) == ("dpo", "target", "verified")
    )
    assert whole["difference"] == pytest.approx(0.5)
    assert 0 < whole["low"] < 0.5 < whole["high"] <= 1
    assert found["ratings"]["sft"]["instruction"]["mean"] == 4
    rated = next(c for c in found["rating_comparisons"] if (c["model"], c["baseline"]) == ("dpo", "target"))
    assert (rated["difference"], rated["high"], rated["p"]) == (1, 1, 2**-9)
    assert 0.5 < rated["low"] < 1
    assert found["lengths"]["dpo"]["math"] == {"num_items": 5, "truncated": 0, "mean_tokens": 7}


def test_other_models_are_compared_with_the_first() -> None:
    rows = [
        answer(m, f"m{i}", "math", i < 2 + 4 * (m == "other"), None, True) for m in ("mine", "other") for i in range(9)
    ]
    (whole,) = [c for c in summarise(pa.Table.from_pylist(rows, schema=ANSWER))["comparisons"] if c["domain"] == "math"]
    assert (whole["model"], whole["baseline"], whole["difference"]) == ("other", "mine", pytest.approx(4 / 9))


def test_an_answer_without_a_verdict_is_wrong() -> None:
    rows = [answer("target", "p", "math", None, None, True)]
    assert summarise(pa.Table.from_pylist(rows, schema=ANSWER))["models"]["target"]["math"]["accuracy"] == 0


def test_weights_that_are_equal_change_nothing() -> None:
    first, second = [0.1, 0.5, 0.75, 0.2], [0.0, 0.25, 0.25, 0.5]
    ones = [2.0] * 4
    assert mean_interval(first, ones) == pytest.approx(mean_interval(first))
    plain, weighted = paired(first, second), paired(first, second, (ones, ones))
    assert weighted.figures() == pytest.approx(plain.figures())


def test_weighted_intervals_hold_the_weighted_mean() -> None:
    held = held_difference = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        weights = generator.choice([1.0, 3.0], 60)
        noise = generator.normal(size=60)
        ours = 0.5 * (weights == 3) + noise + generator.normal(size=60)  # what weighs more is higher
        theirs = noise + generator.normal(size=60)
        true = 0.5 * 3 * 0.5 / (0.5 * 3 + 0.5)
        _, low, high = mean_interval(ours.tolist(), weights.tolist())
        held += low <= true <= high
        compared = paired(ours.tolist(), theirs.tolist(), (weights.tolist(), [1.0] * 60))
        held_difference += compared.low <= true <= compared.high
    assert 0.92 * 300 <= held <= 0.98 * 300
    assert 0.92 * 300 <= held_difference <= 0.98 * 300


def test_one_weighted_item_says_nothing_of_a_difference() -> None:
    found = paired([0.9], [0.5], ([3.0], [1.0]))
    assert (found.difference, found.p) == (pytest.approx(0.4), 1.0)
