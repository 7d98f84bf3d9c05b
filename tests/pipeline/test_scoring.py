"""Scoring: nonsense is never a score; the reward model that agrees best with the verdicts is taken."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline import scoring
from fusechat.pipeline.config import DomainRule, Select
from fusechat.pipeline.records import SCORE
from fusechat.pipeline.wire import Rated


def rated(score: Any, reject: str = "") -> Rated:
    return Rated(id="r", score=score, mass=1.0, reject=reject, tokens=1)


def response(identity: str = "r", **changes: Any) -> dict[str, Any]:
    row = {"response_id": identity, "prompt_id": "p", "domain": "math", "source": "a", "text": "2", "reject": ""}
    return {**row, "finish_reason": "stop", **changes}


def verdict(correct: bool | None) -> dict[str, Any]:
    return {"correct": correct, "verdict": "correct" if correct else "wrong", "detail": "d"}


# --- what a reward model answers


@pytest.mark.parametrize("score", [-3.5, 0, 0.0, 4, 1e300])
def test_a_finite_number_is_a_score(score: float) -> None:
    row = scoring.reward_row("r", rated(score))
    assert row == {"response_id": "r", "score": float(score), "reject": ""}
    assert isinstance(row["score"], float)


NONSENSE = [math.nan, math.inf, -math.inf, True, False, "0.9", None, [1], {"score": 1}, b"1", 1j, 10**400]


@pytest.mark.parametrize("score", NONSENSE)
def test_an_answer_that_is_no_finite_number_is_a_reject(score: Any) -> None:
    row = scoring.reward_row("r", rated(score))
    assert row["score"] is None
    assert row["reject"].startswith("not_finite: ")
    assert len(row["reject"]) <= 100


def test_a_response_that_the_reward_model_left_out_is_a_reject() -> None:
    row = scoring.reward_row("r", None)
    assert (row["score"], row["reject"]) == (None, "no_answer: the reward model left it out")


@pytest.mark.parametrize("answer", [{}, {"id": "r"}, {"id": "r", "rating": 5}])
def test_an_answer_without_a_score_is_a_reject(answer: dict[str, Any]) -> None:
    row = scoring.reward_row("r", cast(Rated, answer))
    assert row["score"] is None
    assert row["reject"]


def test_the_reward_models_own_reject_counts_whatever_the_score() -> None:
    assert scoring.reward_row("r", rated(0.5, "too_long")) == {"response_id": "r", "score": None, "reject": "too_long"}


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none(), st.lists(st.floats())))
def test_a_row_holds_a_finite_score_or_a_reject_and_never_both(score: Any) -> None:
    row = scoring.reward_row("r", rated(score))
    assert (row["score"] is None) == bool(row["reject"])
    assert row["score"] is None or math.isfinite(row["score"])


# --- what needs no score


RULES = Select(
    instruction=DomainRule(sft_fraction=0, keep_truncated=True),
    math=DomainRule(sft_fraction=0),
    chinese=DomainRule(sft_fraction=1),
)


@pytest.mark.parametrize(
    ("changes", "correct", "reason"),
    [
        ({}, True, None),
        ({"reject": "too_long"}, True, "rejected"),
        ({"text": " \n"}, True, "empty"),
        ({"finish_reason": "length"}, True, "truncated"),
        ({"finish_reason": "length", "domain": "instruction"}, None, None),
        ({"finish_reason": "length", "domain": "chinese"}, None, "truncated"),
        ({}, False, "all_wrong"),
        ({}, None, "all_wrong"),
        ({"domain": "code"}, False, "all_wrong"),
        ({"domain": "instruction"}, None, None),
    ],
)
def test_responses_that_no_rule_selects_need_no_score(
    changes: dict[str, Any], correct: bool | None, reason: str | None
) -> None:
    found = scoring.not_scored([response(**changes)], {"r": verdict(correct)}, RULES)
    assert found == ({} if reason is None else {"r": reason})


def test_a_wrong_response_beside_a_right_one_is_scored_as_the_pairs_other_half() -> None:
    rows = [response("right"), response("wrong"), response("other", prompt_id="q")]
    verdicts = {"right": verdict(True), "wrong": verdict(False), "other": verdict(False)}
    assert scoring.not_scored(rows, verdicts, RULES) == {"other": "all_wrong"}


# --- which reward model to trust


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "num", "expected"),
    [(50, 50, 10, (5, 5)), (2, 50, 10, (2, 8)), (50, 3, 10, (7, 3)), (2, 3, 10, (2, 3)), (0, 4, 10, (0, 4))],
)
def test_reward_models_are_compared_on_half_right_and_half_wrong_where_there_are_so_many(
    num_right: int, num_wrong: int, num: int, expected: tuple[int, int]
) -> None:
    rows = [response(f"{'abc'[i % 3]}{i}") for i in range(num_right + num_wrong)]
    verdicts = {r["response_id"]: verdict(i < num_right) for i, r in enumerate(rows)}
    found = scoring.agreement_sample(rows, verdicts, num)
    right = sum(verdicts[r["response_id"]]["correct"] for r in found)
    assert (right, len(found) - right) == expected
    assert found == scoring.agreement_sample(rows[::-1], verdicts, num)


def test_unfinished_empty_and_unverified_responses_are_not_compared() -> None:
    rows = [
        response("cut", finish_reason="length"),
        response("empty", text=" "),
        response("unverifiable"),
        response("chat", domain="instruction"),
        response("good"),
    ]
    verdicts = {i: verdict(True) for i in ("cut", "empty", "good")} | {"unverifiable": verdict(None)}
    assert [r["response_id"] for r in scoring.agreement_sample(rows, verdicts, 10)] == ["good"]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order() -> None:
    assert scoring.auc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert scoring.auc([1, 2, 3, 4], [True, True, False, False]) == 0
    assert scoring.auc([1, 1], [True, False]) == 0.5
    assert scoring.auc([3, 1, 2], [True, True, False]) == 0.5


@pytest.mark.parametrize("correct", [[], [True, True], [False]])
def test_with_one_class_missing_there_is_no_area(correct: list[bool]) -> None:
    assert scoring.auc([0.5] * len(correct), correct) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12))
def test_the_area_equals_a_count_over_all_pairs(scored: list[tuple[int, bool]]) -> None:
    pairs = [(r > w) + 0.5 * (r == w) for r, right in scored if right for w, wrong in scored if not wrong]
    found = scoring.auc([s for s, _ in scored], [c for _, c in scored])
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_agreement_counts_what_was_scored_in_all_and_in_groups() -> None:
    rows = [response("a1"), response("a2"), response("b1", source="b"), response("b2", source="b"), response("b3")]
    verdicts = {r["response_id"]: verdict(r["response_id"] in ("a1", "b2")) for r in rows}
    scores = {"a1": 2.0, "a2": 1.0, "b1": 3.0, "b2": 0.0, "b3": None}
    found = scoring.agreement(rows, verdicts, {i: {"score": s} for i, s in scores.items()})
    assert (found["num"], found["num_correct"], found["auc"]) == (4, 2, 0.25)
    assert found["by_source_domain"] == {"a/math": 1.0, "b/math": 0.0}


def test_the_reward_model_that_agrees_best_is_taken_unless_the_recipe_names_one() -> None:
    found: dict[str, dict[str, float | None]] = {
        "judge": {"auc": 0.63},
        "likelihood": {"auc": 0.83},
        "none": {"auc": None},
    }
    assert scoring.choose(found, "auto") == "likelihood"
    assert scoring.choose(found, "judge") == "judge"
    assert scoring.choose({"b": {"auc": 0.7}, "a": {"auc": 0.7}}, "auto") == "a"
    assert scoring.choose({"b": {"auc": None}, "a": {"auc": None}}, "auto") == "a"


# --- the table


def test_every_response_has_a_row_whatever_became_of_it() -> None:
    rows = [response("scored"), response("refused"), response("skipped", domain="instruction"), response("unasked")]
    rewards = {
        "judge": {
            "scored": scoring.reward_row("scored", rated(4.0)),
            "refused": scoring.reward_row("refused", rated(math.nan)),
        },
        "likelihood": {"scored": scoring.reward_row("scored", rated(-0.5))},
    }
    table = scoring.merge(rows, {"scored": verdict(True)}, rewards, {"skipped": "truncated"})
    assert table.schema == SCORE
    found = {r["response_id"]: r for r in table.to_pylist()}
    assert found.keys() == {r["response_id"] for r in rows}
    assert dict(found["scored"]["rewards"]) == {"judge": 4.0, "likelihood": -0.5}
    assert (found["scored"]["correct"], found["scored"]["verdict"], found["scored"]["detail"]) == (True, "correct", "d")
    assert found["refused"]["rewards"] == []
    assert dict(found["refused"]["reward_rejects"]) == {"judge": "not_finite: nan"}
    assert dict(found["skipped"]["reward_rejects"]) == {"all": "not_scored: truncated"}
    assert (found["unasked"]["correct"], found["unasked"]["verdict"]) == (None, "unverified")


def test_batches_hold_all_items_in_order() -> None:
    found = [json.loads(u) for u in scoring.units(list(range(7)), 3)]
    assert found == [[0, 1, 2], [3, 4, 5], [6]]
    assert scoring.units([], 3) == []
