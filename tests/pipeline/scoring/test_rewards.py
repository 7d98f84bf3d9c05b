"""Scoring: an invalid value never becomes a score, alone or combined."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any, cast

import pytest
from example_rows import response_row, verdict_row
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.recipe import Combination, DomainRule, Select
from fusechat.pipeline.records import OBJECTIVES, SCORE
from fusechat.pipeline.sampling.messages import Rated
from fusechat.pipeline.scoring import merge
from fusechat.pipeline.scoring import rewards as scoring
from fusechat.pipeline.selection.rule import CandidateResponse, Decision, decide


def rated(score: Any, reject: str = "") -> Rated:
    return Rated(id="r", score=score, mass=1.0, reject=reject, tokens=1)


def response(identity: str = "r", **changes: Any) -> dict[str, Any]:
    return response_row({"prompt_id": "p", "domain": "math"}, identity, **changes)


# --- what a reward model returns


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
    found = merge.not_scored([response(**changes)], {"r": verdict_row(correct)}, RULES)
    assert found == ({} if reason is None else {"r": reason})


def test_a_wrong_response_beside_a_right_one_is_scored_as_the_pairs_other_half() -> None:
    rows = [response("right"), response("wrong"), response("other", prompt_id="q")]
    verdicts = {"right": verdict_row(True), "wrong": verdict_row(False), "other": verdict_row(False)}
    assert merge.not_scored(rows, verdicts, RULES) == {"other": "all_wrong"}


@pytest.mark.parametrize("domain", ["math", "code"])
@pytest.mark.parametrize("correct", [False, None])
def test_a_wrong_response_is_not_scored_where_its_own_source_has_no_right_one(
    domain: str, correct: bool | None
) -> None:
    rows = [response("right", source="a", domain=domain), response("wrong", source="b", domain=domain)]
    verdicts = {"right": verdict_row(True), "wrong": verdict_row(correct)}
    assert merge.not_scored(rows, verdicts, RULES) == {"wrong": "unpaired"}
    rows.append(response("again", source="b", domain=domain))
    assert merge.not_scored(rows, verdicts | {"again": verdict_row(True)}, RULES) == {}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([True, False, None]), st.integers(0, 3)), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_what_is_not_scored_changes_nothing_that_selection_decides(
    drawn: list[tuple[str, bool | None, int]], sft_share: bool, fallback: bool
) -> None:
    rows = [response(str(i), source=source, text=f"{i % 4}") for i, (source, _, _) in enumerate(drawn)]
    verdicts = {str(i): verdict_row(correct) for i, (_, correct, _) in enumerate(drawn)}
    left_out = merge.not_scored(rows, verdicts, RULES)
    rule = DomainRule(sft_fraction=0, fallback_to_sft=fallback)

    def decided(unscored: Collection[str]) -> Decision:
        candidates = [
            CandidateResponse(
                response_id=row["response_id"],
                source=row["source"],
                text=row["text"],
                tokens=1,
                correct=correct,
                reward=None if row["response_id"] in unscored else reward / 10,
            )
            for row, (_, correct, reward) in zip(rows, drawn, strict=True)
        ]
        return decide(candidates, verified=True, rule=rule, sft_share=sft_share)

    assert decided(left_out) == decided(())


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
    table = merge.merge(rows, {"scored": verdict_row(True)}, rewards, {"skipped": "truncated"})
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


# --- several reward models


def test_objectives_and_gate_are_kept_beside_the_score() -> None:
    values = {name: float(i) for i, name in enumerate(OBJECTIVES)}
    answer = Rated(id="r", score=0.1, mass=1.0, reject="", tokens=9, objectives=values, gate=values)
    row = scoring.reward_row("r", answer)
    assert row["objectives"] == row["gate"] == [float(i) for i in range(19)]
    table = merge.merge([response()], {}, {"armorm": {"r": row}}, {})
    (kept,) = table.to_pylist()
    assert dict(kept["objectives"]) == dict(kept["gate"]) == {"armorm": row["gate"]}
    assert merge.merge([response()], {}, {"judge": {"r": scoring.reward_row("r", rated(1.0))}}, {})["gate"].null_count


@pytest.mark.parametrize(
    ("rule", "domain", "score", "reject"),
    [
        ({"weights": {"a": 2.0, "b": -0.5}}, "math", 1.5, None),
        ({"weights": {"a": 1.7e308, "b": 1.7e308}}, "math", None, "not_finite: inf"),
        ({"weights": {"a": 1.0, "c": 1.0}}, "math", None, "missing_component: c: too_long: 9 tokens"),
        ({"weights": {"a": 1.0, "d": 1.0}}, "math", None, "missing_component: d: not scored"),
        ({"domains": {"math": "b", "code": "a"}}, "math", 1.0, None),
        ({"domains": {"math": "b", "code": "a"}}, "code", 1.0, None),
        ({"domains": {"code": "a"}}, "math", None, "no_reward: the recipe names no reward model for this domain"),
    ],
)
def test_several_reward_models_make_one_number_or_none_with_its_reason(
    rule: dict[str, Any], domain: str, score: float | None, reject: str | None
) -> None:
    rewards = {
        "a": {"r": scoring.reward_row("r", rated(1.0))},
        "b": {"r": scoring.reward_row("r", rated(1.0))},
        "c": {"r": scoring.reward_row("r", rated(None, "too_long: 9 tokens"))},
    }
    table = merge.merge([response(domain=domain)], {}, rewards, {}, Combination.model_validate(rule))
    (row,) = table.to_pylist()
    assert dict(row["rewards"]).get("combined") == score
    assert dict(row["reward_rejects"]).get("combined") == reject


def test_what_needs_no_score_gets_no_combined_one() -> None:
    rewards = {"a": {"r": scoring.reward_row("r", rated(1.0))}}
    table = merge.merge([response()], {}, rewards, {"r": "truncated"}, Combination(weights={"a": 1.0}))
    (row,) = table.to_pylist()
    assert dict(row["rewards"]) == {"a": 1.0}
    assert dict(row["reward_rejects"]) == {"all": "not_scored: truncated"}
