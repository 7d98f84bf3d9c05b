"""Intervals against known values, and metrics.json as its readers expect it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fusechat.pipeline.records import ANSWER
from fusechat.training.metrics import summarise
from fusechat.training.statistics import accuracy_interval, paired_difference


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert accuracy_interval([True] * 81 + [False] * 182) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert accuracy_interval([False] * 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)


def test_paired_difference_is_seeded_and_paired() -> None:
    first, second = [1.0, 1, 0, 1] * 20, [0.0, 1, 0, 1] * 20
    mean, low, high = paired_difference(first, second, seed=3)
    assert mean == pytest.approx(0.25)
    assert 0.1 < low < 0.25 < high < 0.4
    assert paired_difference(first, second, seed=3) == (mean, low, high)
    assert paired_difference(first, first, seed=0) == (0, 0, 0)


def test_the_interval_covers() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for table in range(200):
        before = generator.random(60) < 0.3
        after = before | (generator.random(60) < 0.2)  # true difference: 0.7 * 0.2 = 0.14
        _, low, high = paired_difference(after, before, seed=table)
        held += low <= 0.14 <= high
    assert 0.89 <= held / 200 <= 0.99


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
    found = summarise(pa.Table.from_pylist(rows, schema=ANSWER), seed=0)
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
    assert (rated["difference"], rated["low"], rated["high"]) == (1, 1, 1)
    assert found["lengths"]["dpo"]["math"] == {"num_items": 5, "truncated": 0, "mean_tokens": 7}


def test_an_answer_without_a_verdict_is_wrong() -> None:
    rows = [answer("target", "p", "math", None, None, True)]
    assert summarise(pa.Table.from_pylist(rows, schema=ANSWER), seed=0)["models"]["target"]["math"]["accuracy"] == 0
