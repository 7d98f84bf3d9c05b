"""Reward models as deployments: a judge's orders, what a combination makes of several, and a replica on Ray Serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_reward import write_armorm, write_classifier

from fusechat.pipeline.recipe import JudgeReward, level_orders
from fusechat.pipeline.records import OBJECTIVES, Message
from fusechat.pipeline.sampling.messages import Rated, ScoreItem
from fusechat.services.reward_models import combine_ratings, mean_rating, rate_request

RUBRIC = "{prompt}|{response}|{levels}"
ITEM = ScoreItem(id="r", messages=[Message(role="user", content="{levels}?")], response="{prompt}!")


def judge(**changes: Any) -> JudgeReward:
    return JudgeReward(**{"kind": "judge", "name": "j", "source": "s", "rubric": RUBRIC, **changes})


def rating(score: float | None, mass: float = 0.9, reject: str = "") -> Rated:
    return Rated(id="x", score=score, mass=mass, reject=reject, tokens=10)


# --- judges


def test_the_rubric_shows_the_levels_in_each_order_and_placeholders_in_texts_stay_text() -> None:
    asked = judge(levels=(1, 2, 3), orders=3)
    orders = level_orders(asked.levels)
    assert orders[:3] == [(1, 2, 3), (3, 2, 1), (2, 3, 1)]
    requests = [rate_request(ITEM, asked, order) for order in orders[:3]]
    assert [r["text"] for r in requests] == [f"{{levels}}?|{{prompt}}!|{x}" for x in ("1, 2, 3", "3, 2, 1", "2, 3, 1")]
    assert all(r["levels"] == [1, 2, 3] for r in requests)
    named = judge(levels=(1, 2), meanings=("bad", "good"), orders=2)
    assert rate_request(ITEM, named, (2, 1))["text"].endswith("|2: good\n1: bad")


@pytest.mark.parametrize("levels", [(0, 1), (1, 2, 3), (1, 2, 3, 4, 5)])
def test_over_each_pair_of_orders_every_level_stands_in_the_middle(levels: tuple[int, ...]) -> None:
    orders = level_orders(levels)
    assert len(set(orders)) == len(orders) and all(sorted(o) == sorted(levels) for o in orders)
    for a, b in zip(orders[::2], orders[1::2], strict=True):
        assert {a.index(n) + b.index(n) for n in levels} == {len(levels) - 1}


def test_a_taste_for_the_first_level_cancels_out() -> None:
    """A judge that gives the first level shown half of the probability whatever the response, the rest to 4."""

    def expected(order: tuple[int, ...]) -> float:
        return 0.5 * order[0] + 0.5 * 4

    orders = level_orders((1, 2, 3, 4, 5))
    assert expected(orders[0]) == 2.5
    assert mean_rating("r", [rating(expected(o)) for o in orders[:2]])["score"] == pytest.approx(3.5)
    assert mean_rating("r", [rating(expected(o)) for o in orders])["score"] == pytest.approx(3.5)


def test_one_order_without_a_rating_is_no_score() -> None:
    found = mean_rating("r", [rating(4.0), rating(None, 0.1, "no_rating: the levels hold 0.1")])
    assert found == Rated(id="r", score=None, mass=0.1, reject="no_rating: the levels hold 0.1", tokens=20)
    assert mean_rating("r", [rating(4.0), rating(2.0, 0.7)]) == Rated(id="r", score=3.0, mass=0.7, reject="", tokens=20)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rubric": "{prompt} {response}", "orders": 2}, "must contain {levels}"),
        ({"rubric": "{prompt} {response}", "meanings": ("a",) * 5}, "must contain {levels}"),
        ({"levels": (1, 2), "orders": 3}, "2 levels have 2 orders, not 3"),
        ({"levels": (1, 1)}, "levels must differ"),
        ({"levels": (1, 10)}, "less than or equal to 9"),
        ({"meanings": ("a",)}, "one item per level: 5, not 1"),
    ],
)
def test_a_judge_that_could_not_be_trusted_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        judge(**changes)


# --- several


def test_a_combination_needs_all_of_its_parts() -> None:
    ratings = {"a": rating(2.0), "b": rating(1.0, 0.5)}
    assert combine_ratings(ratings, {"a": 1.0, "b": -1.0}, "r") == Rated(
        id="r", score=1.0, mass=0.5, reject="", tokens=20
    )
    missing = combine_ratings({**ratings, "b": rating(None, 0.2, "too_long")}, {"a": 1.0, "b": 1.0}, "r")
    assert (missing["score"], missing["reject"]) == (None, "missing_component: b: too_long")
    assert combine_ratings({}, {}, "r")["reject"].startswith("no_reward")


# --- replicas


@pytest.mark.slow
def test_replicas_with_weights_of_their_own_answer_many_callers(tmp_path: Path) -> None:
    """Both kinds on Ray Serve: as the network alone, ArmoRM with objectives and gate, hostile rows as rejects."""
    import ray
    from ray import serve

    from fusechat.pipeline.recipe import ArmoRMReward, ClassifierReward, Model, OwnReward
    from fusechat.services import armorm, classifier
    from fusechat.services.reward_inputs import conversation, score_all
    from fusechat.services.reward_models import build_reward

    items = [
        ScoreItem(id=str(i), messages=[Message(role="user", content="alpha beta")], response="gamma " * (1 + i % 17))
        for i in range(40)
    ]
    items[7]["response"] = "<|eot_id|>"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    try:
        for kind, write, load in (
            (ArmoRMReward, write_armorm, armorm.load),
            (ClassifierReward, write_classifier, classifier.load),
        ):
            folder = tmp_path / kind.__name__
            folder.mkdir()
            write(folder)
            name = {ArmoRMReward: "armorm", ClassifierReward: "classifier"}[kind]
            config: OwnReward = kind(
                kind=name, name=name, model=Model(path=str(folder)), dtype="float32", placement={"num_cpus": 0.5}
            )
            handle = serve.run(build_reward(config, folder), name=name, route_prefix=None)  # type: ignore[arg-type]
            calls = [handle.score.remote(items[start : start + 4]) for start in range(0, 40, 4)]
            found: list[Rated] = [r for call in calls for r in call.result(timeout_s=60)]
            alone = score_all(load(folder, dtype="float32"), [conversation(i) for i in items])
            assert [r["id"] for r in found] == [i["id"] for i in items]
            assert [r["score"] for r in found if not r["reject"]] == pytest.approx(
                [s.reward for s in alone if not s.reject], abs=1e-5
            )
            assert [r["id"] for r in found if r["reject"].startswith("special_token")] == ["7"]
            held, computed = handle.padding.remote().result(timeout_s=60)
            assert 0.9 * computed <= held <= computed
            if name == "armorm":
                assert list(found[0]["objectives"]) == list(found[0]["gate"]) == list(OBJECTIVES)
                assert list(found[0]["gate"].values()) == pytest.approx(list(alone[0].gate), abs=1e-5)
            else:
                assert "gate" not in found[0]
    finally:
        serve.shutdown()
        ray.shutdown()
