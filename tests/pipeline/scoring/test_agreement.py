"""Agreement of rewards with verdicts, with response length, and with each other."""

from __future__ import annotations

from typing import Any

import pytest
from example_rows import response_row, verdict_row
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.scoring import agreement


def response(identity: str = "r", **changes: Any) -> dict[str, Any]:
    return response_row({"prompt_id": "p", "domain": "math"}, identity, **changes)


# --- which reward model to trust


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "num", "expected"),
    [(50, 50, 10, (5, 5)), (2, 50, 10, (2, 8)), (50, 3, 10, (7, 3)), (2, 3, 10, (2, 3)), (0, 4, 10, (0, 4))],
)
def test_reward_models_are_compared_on_half_right_and_half_wrong_where_there_are_so_many(
    num_right: int, num_wrong: int, num: int, expected: tuple[int, int]
) -> None:
    rows = [response(f"{'abc'[i % 3]}{i}") for i in range(num_right + num_wrong)]
    verdicts = {r["response_id"]: verdict_row(i < num_right) for i, r in enumerate(rows)}
    found = agreement.sample(rows, verdicts, num)
    right = sum(verdicts[r["response_id"]]["correct"] for r in found)
    assert (right, len(found) - right) == expected
    assert found == agreement.sample(rows[::-1], verdicts, num)


def test_unfinished_empty_and_unverified_responses_are_not_compared() -> None:
    rows = [
        response("cut", finish_reason="length"),
        response("empty", text=" "),
        response("unverifiable"),
        response("chat", domain="instruction"),
        response("good"),
    ]
    verdicts = {i: verdict_row(True) for i in ("cut", "empty", "good")} | {"unverifiable": verdict_row(None)}
    assert [r["response_id"] for r in agreement.sample(rows, verdicts, 10)] == ["good"]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order() -> None:
    assert agreement.auc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert agreement.auc([1, 2, 3, 4], [True, True, False, False]) == 0
    assert agreement.auc([1, 1], [True, False]) == 0.5
    assert agreement.auc([3, 1, 2], [True, True, False]) == 0.5


@pytest.mark.parametrize("correct", [[], [True, True], [False]])
def test_with_one_class_missing_there_is_no_area(correct: list[bool]) -> None:
    assert agreement.auc([0.5] * len(correct), correct) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12))
def test_the_area_equals_a_count_over_all_pairs(scored: list[tuple[int, bool]]) -> None:
    pairs = [(r > w) + 0.5 * (r == w) for r, right in scored if right for w, wrong in scored if not wrong]
    found = agreement.auc([s for s, _ in scored], [c for _, c in scored])
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_agreement_counts_what_was_scored_in_all_and_in_groups() -> None:
    rows = [response("a1"), response("a2"), response("b1", source="b"), response("b2", source="b"), response("b3")]
    verdicts = {r["response_id"]: verdict_row(r["response_id"] in ("a1", "b2")) for r in rows}
    scores = {"a1": 2.0, "a2": 1.0, "b1": 3.0, "b2": 0.0, "b3": None}
    found = agreement.with_verdicts(rows, verdicts, {i: s for i, s in scores.items() if s is not None})
    assert (found["num"], found["num_correct"], found["auc"]) == (4, 2, 0.25)
    assert found["by_source_domain"] == {"a/math": 1.0, "b/math": 0.0}


def test_the_reward_model_that_agrees_best_is_taken() -> None:
    found: dict[str, dict[str, float | None]] = {
        "judge": {"auc": 0.63},
        "likelihood": {"auc": 0.83},
        "none": {"auc": None},
    }
    assert agreement.choose(found) == "likelihood"
    assert agreement.choose({"b": {"auc": 0.7}, "a": {"auc": 0.7}}) == "a"


def test_without_an_area_there_is_a_choice_only_if_there_is_one_reward_model() -> None:
    assert agreement.choose({"b": {"auc": None}, "a": {"auc": None}}) is None
    assert agreement.choose({"a": {"auc": None}}) == "a"


# --- length, and one another


def test_reward_against_length_is_a_rank_correlation_with_points_for_the_picture() -> None:
    rows = [response(f"{i:03}", text="x" * i, domain="code" if i % 2 else "math") for i in range(400)]
    found = agreement.with_length(rows, {f"{i:03}": -float(i * i) for i in range(400)})
    assert (found["spearman"], found["num"]) == (pytest.approx(-1.0), 400)
    assert found["points"][:2] == [[0, -0.0, "math"], [1, -1.0, "code"]]
    assert len(found["points"]) == agreement.NUM_POINTS
    assert agreement.with_length(rows, {"000": 1.0, "001": 1.0})["spearman"] is None
    assert agreement.with_length(rows, {}) == {"spearman": None, "num": 0, "points": []}


def test_reward_models_are_compared_on_what_both_scored() -> None:
    scores = {"a": {"1": 1.0, "2": 2.0, "3": 3.0, "x": 9.0}, "b": {"3": 5.0, "2": 7.0, "1": 6.0}, "c": {"1": 0.0}}
    ab, ac, bc = agreement.between(scores)
    assert (ab["a"], ab["b"], ab["num"]) == ("a", "b", 3)
    assert (ab["spearman"], ab["kendall"]) == (pytest.approx(-0.5), pytest.approx(-1 / 3))
    assert ac == {"a": "a", "b": "c", "num": 1, "spearman": None, "kendall": None}
    assert bc["num"] == 1
