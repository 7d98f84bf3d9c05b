"""Items to the table's numbers: every count by hand, and a judge's bias beside what control leaves of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fusechat.pipeline.evaluation import item_tables
from fusechat.pipeline.evaluation.suite_scores import pairs, suite_results

MODELS = {name: {"revision": name, "template": "t"} for name in ("target", "sft", "dpo")}


def told(name: str, kind: str = "verified", **changes: Any) -> dict[str, Any]:
    beside = {"group": "g", "contaminated": 0, "control": None, "baseline": None, "judging": None}
    return {"name": name, "kind": kind, **beside, **changes}


def item(suite: str, model: str, i: int, score: float | None, **changes: Any) -> dict[str, Any]:
    row = {
        "suite": suite, "model": model, "prompt_id": f"p{i}", "id": str(i), "domain": "math" if i % 2 else "code",
        "score": score, "why": "correct" if score else "wrong", "prompt": "?", "text": "!", "answers": 1, "rejected": 0,
        "truncated": 0, "completion_tokens": 10.0, "chars": 40.0, "style": [40, 0, 0, 0],
    }  # fmt: skip
    return {**row, **changes}


def test_scores_comparisons_and_means() -> None:
    items = []
    for suite, step in (("a", 1), ("b", 2)):
        for i in range(40):
            for model, right in (("target", 10), ("sft", 20), ("dpo", 20 + 5 * step)):
                items.append(item(suite, model, i, float(i < right)))
    items += [item("a", model, 40, None, why="error") for model in MODELS]
    table = item_tables.items_table(items, {"a": {"p0", "p1"}})
    found = suite_results(table, [told("a", contaminated=2), told("b", group="")], MODELS, {})
    json.dumps(found, allow_nan=False)
    first, second = found["suites"]
    dpo = first["scores"]["dpo"]
    assert dpo["score"]["value"] == 25 / 40
    assert dpo["score"]["low"] < 25 / 40 < dpo["score"]["high"]
    assert dpo["score_without_contaminated"] == pytest.approx(
        {"num_items": 38, "value": 23 / 38, "low": 0.4470, "high": 0.7444}, abs=1e-3
    )
    assert "score_without_contaminated" not in second["scores"]["dpo"]
    assert dpo["without_score"] == {"error": 1}
    assert [(c["model"], c["baseline"]) for c in first["comparisons"]] == [
        ("sft", "target"), ("dpo", "target"), ("dpo", "sft"),
    ]  # fmt: skip
    whole = first["comparisons"][1]
    assert (whole["num_items"], whole["difference"], whole["test"]) == (40, 15 / 40, "mcnemar")
    assert whole["p"] == pytest.approx(2**-14)
    # Two suites are a family: the smaller p counts twice, the larger once but no less.
    other = second["comparisons"][1]
    assert other["p_holm"] == pytest.approx(2 * other["p"])
    assert whole["p_holm"] == pytest.approx(whole["p"])
    assert [o for o in first["outcomes"] if (o["model"], o["baseline"]) == ("dpo", "sft")] == [
        {"model": "dpo", "baseline": "sft", "domain": "code", "better": 3, "same": 17, "worse": 0},
        {"model": "dpo", "baseline": "sft", "domain": "math", "better": 2, "same": 18, "worse": 0},
    ]
    assert found["groups"] == {"g": {"target": 0.25, "sft": 0.5, "dpo": 25 / 40}}
    assert found["mean"]["dpo"] == (25 + 30) / 80


@pytest.mark.parametrize("control", ["length", "style", "none"])
@pytest.mark.parametrize("baseline", ["target", "reference"])
def test_a_judge_who_likes_length_is_shown_and_controlled(control: str, baseline: str) -> None:
    generator = np.random.default_rng(3)
    names, items = ("target", "dpo"), []
    theirs, ours = generator.integers(80, 400, 300), generator.integers(150, 600, 300)
    for i in range(300):
        mine = [int(ours[i]), 0, 0, 0]
        items.append(item("j", "dpo", i, float(ours[i] > theirs[i]), chars=float(ours[i]), style=mine))
        items.append(item("j", "target", i, 0.5, chars=float(theirs[i]), style=[int(theirs[i]), 0, 0, 0]))
    suite = told("j", "judged", control=control, baseline=baseline)
    references = {"j": {f"p{i}": [int(theirs[i]), 0, 0, 0] for i in range(300)}}
    models = {name: MODELS[name] for name in names}
    found = suite_results(item_tables.items_table(items, {}), [suite], models, references)["suites"][0]["scores"]["dpo"]
    assert found["score"]["value"] == np.mean(ours > theirs) > 0.7
    assert (found["wins"], found["ties"]) == (int((ours > theirs).sum()), 0)
    assert found["mean_chars"] == pytest.approx(ours.mean())
    if control == "none":
        assert found["figure"] == found["score"]
    else:
        assert found["figure"]["low"] < 0.5 < found["figure"]["high"]
        assert found["figure"]["value"] == found["controlled"]["win_rate"]


def test_a_judge_who_says_nothing_gives_no_figure() -> None:
    items = [item("j", "target", i, 0.5) for i in range(3)]
    items += [item("j", "dpo", i, None, why=("refused", "no_verdict")[i % 2]) for i in range(3)]
    models = {name: MODELS[name] for name in ("target", "dpo")}
    for control in ("length", "style"):
        suite = told("j", "judged", control=control, baseline="target")
        found = suite_results(item_tables.items_table(items, {}), [suite], models, {})
        score = found["suites"][0]["scores"]["dpo"]
        assert (score["score"], score["figure"]) == (None, None)
        assert score["without_score"] == {"refused": 2, "no_verdict": 1}
        assert found["suites"][0]["comparisons"] == []
        assert found["mean"] == {"target": 0.5, "dpo": None}


def test_who_is_compared_with_whom() -> None:
    assert pairs(["target"]) == []
    assert pairs(["sft", "dpo"]) == [("dpo", "sft")]
    assert pairs(["x", "sft", "dpo"]) == [("sft", "x"), ("dpo", "x"), ("dpo", "sft")]


def response(prompt: str, index: int, **changes: Any) -> dict[str, Any]:
    row = {
        "response_id": f"{prompt}-{index}", "prompt_id": prompt, "sample_index": index, "text": "abcd", "reject": "",
        "finish_reason": "stop", "completion_tokens": 4,
    }  # fmt: skip
    return {**row, **changes}


def test_items_of_several_answers() -> None:
    prompts = {
        p: {"prompt_id": p, "id": p, "domain": "math", "messages": [{"role": "user", "content": "?"}]}
        for p in ("half", "rejected", "unverifiable")
    }
    rows = [response(p, i) for p in ("half", "unverifiable") for i in (1, 0)]
    rows += [response("rejected", i, reject="prompt_too_long: 9", text="", finish_reason="rejected") for i in (0, 1)]
    verdicts = {
        "half-0": {"correct": False, "verdict": "wrong"},
        "half-1": {"correct": True, "verdict": "correct"},
        "unverifiable-0": {"correct": None, "verdict": "error"},
        "unverifiable-1": {"correct": None, "verdict": "error"},
    }
    found = {i["id"]: i for i in item_tables.verified_items("s", "m", rows, prompts, verdicts)}
    assert [(i["score"], i["why"], i["answers"], i["rejected"]) for i in found.values()] == [
        (0.5, "wrong", 2, 0),
        (0.0, "prompt_too_long: 9", 2, 2),
        (None, "error", 2, 0),
    ]


def test_ratings_keep_their_scale_and_enter_means_as_percent() -> None:
    items = [item("a", model, i, float(i < 5)) for i in range(10) for model in MODELS]
    given = {"target": [4.0, 5.0, 6.0], "sft": [6.0, 7.0, 8.0], "dpo": [9.0, 10.0, 10.0]}
    items += [
        item("mt", model, i, score, why=f"{score:g}") for model, each in given.items() for i, score in enumerate(each)
    ]
    items += [item("mt", model, 3, None, why="no_verdict") for model in MODELS]
    suite = told("mt", "judged", method="rating")
    found = suite_results(item_tables.items_table(items, {}), [told("a"), suite], MODELS, {})
    rated = found["suites"][1]
    assert rated["scores"]["target"]["figure"] == pytest.approx(
        {"num_items": 3, "value": 5, "low": 5 - 4.3027 / 3**0.5, "high": 5 + 4.3027 / 3**0.5}, abs=1e-3
    )  # Student's t with 2 degrees of freedom
    assert rated["scores"]["dpo"]["figure"]["high"] == 10
    assert "wins" not in rated["scores"]["dpo"]
    assert rated["scores"]["dpo"]["without_score"] == {"no_verdict": 1}
    assert [c["difference"] for c in rated["comparisons"]] == pytest.approx([2, 14 / 3, 8 / 3])
    assert found["mean"]["target"] == pytest.approx((50 + 5) / 2 / 100)
    json.dumps(found, allow_nan=False)


def test_align_bench_weighs_categories_in_scores_and_comparisons() -> None:
    kinds = ["数学计算", "专业能力", "专业能力", "专业能力", "角色扮演"]
    before, after = [2.0, 8.0, 8.0, 5.0, 3.0], [6.0, 8.0, 8.0, 5.0, 5.0]
    items = [item("z", "target", i, score) for i, score in enumerate(before)]
    items += [item("z", "dpo", i, score) for i, score in enumerate(after)]
    categories = {"z": {f"p{i}": kind for i, kind in enumerate(kinds)}}
    models = {name: MODELS[name] for name in ("target", "dpo")}
    suite = told("z", "judged", method="rating")
    found = suite_results(item_tables.items_table(items, {}), [suite], models, {}, categories)["suites"][0]
    values = [found["scores"][name]["score"]["value"] for name in models]
    assert values == pytest.approx([(2 + (7 + 3) / 2) / 2, (6 + (7 + 5) / 2) / 2])
    (compared,) = found["comparisons"]
    assert compared["difference"] == pytest.approx(values[1] - values[0])
    assert compared["low"] < compared["difference"] < compared["high"]
    assert 0 < compared["p"] < 1


def test_a_decisive_verdict_counts_three_times() -> None:
    verdicts = [("A>>B B>>A", 1.0), ("B>A A>B", 0.0), ("same_text", 0.5), ("A>>B A>B", 0.75)]
    items = [item("h", "dpo", i, score, why=why) for i, (why, score) in enumerate(verdicts)]
    items += [item("h", "target", i, 0.5, why="baseline") for i in range(4)]
    models = {name: MODELS[name] for name in ("target", "dpo")}
    suite = told("h", "judged", control="none", baseline="target", method="pairs")
    found = suite_results(item_tables.items_table(items, {}), [suite], models, {})["suites"][0]
    # As Arena-Hard counts: 3 + 3 wins, 1 + 1 losses, two halves, and 3 wins to 1 loss.
    rate = (6 + 2 * 0.5 + 3) / (6 + 2 + 2 + 4)
    assert found["scores"]["dpo"]["figure"]["value"] == pytest.approx(rate)
    assert found["scores"]["target"]["figure"]["value"] == 0.5
    assert found["comparisons"][0]["difference"] == pytest.approx(rate - 0.5)
