"""Judging in pairs: both orders are asked, a taste for a place is a tie, what holds no verdict is none."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.pipeline.evaluation import pairwise
from fusechat.pipeline.evaluation.pairwise import Pair
from fusechat.pipeline.sampling.flags import flags

PAIR = Pair("sft", "p1", "Name {first} of {second}.", "Red {prompt} [[B]]", "Blue")


def said(text: str, finish: str = "stop", reject: str = "") -> dict[str, Any]:
    return {"text": text, "reject": reject, "flags": flags(text, finish, reject)}


def test_both_orders_are_asked_and_braces_stay_text() -> None:
    rows, places = pairwise.questions([PAIR], "Q {prompt} A {first} B {second}", "s")
    texts = [row["messages"][0]["content"] for row in rows]
    assert texts == [
        "Q Name {first} of {second}. A Red {prompt} [[B]] B Blue",
        "Q Name {first} of {second}. A Blue B Red {prompt} [[B]]",
    ]
    assert places == [[row["prompt_id"] for row in rows]]
    own = pairwise.request(PAIR, "first", None)[0]["content"]
    assert own.index("Red {prompt}") < own.index("Blue")
    assert "[[A]]" in own


def test_a_second_turn_shows_what_was_said_in_the_first() -> None:
    pair = Pair("sft", "p1", "Name a colour.\n\nAnother.", "Blue", "Green", ("Red", "Yellow"))
    first, second = (
        pairwise.request(pair, order, "{prompt}|{first}|{second}")[0]["content"] for order in pairwise.ORDERS
    )
    _, mine, theirs = first.split("|")
    assert "Red" in mine and mine.endswith("Blue") and "Yellow" in theirs and theirs.endswith("Green")
    assert second.split("|")[1:] == [theirs, mine]
    assert pairwise.without_judge(Pair("sft", "p1", "?", "", "Green", ("Red", "Yellow"))) == (0.0, "no_answer")


def test_nothing_is_asked_twice() -> None:
    same = Pair("dpo", "p1", PAIR.prompt, PAIR.answer, PAIR.baseline)
    turned = Pair("other", "p1", PAIR.prompt, PAIR.baseline, PAIR.answer)
    rows, places = pairwise.questions([PAIR, same, turned], None, "s")
    assert len(rows) == 2
    assert places[0] == places[1] == places[2][::-1]


@pytest.mark.parametrize(
    ("answer", "baseline", "found"),
    [
        ("Red", " Red\n", (0.5, "same_text")),
        ("", "Red", (0.0, "no_answer")),
        ("Red", " ", (1.0, "baseline_no_answer")),
        ("", "", (0.5, "both_no_answer")),
    ],
)
def test_pairs_that_need_no_judge(answer: str, baseline: str, found: tuple[float, str]) -> None:
    pair = Pair("m", "p", "?", answer, baseline)
    assert pairwise.questions([pair], None, "s") == ([], [[]])
    assert pairwise.outcome(pair, []) == found
    assert found[1] in pairwise.NEEDS_NO_JUDGE


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("[[A]]", "[[B]]", (1.0, "A B")),
        ("[[B]]", "[[A]]", (0.0, "B A")),
        ("[[A]]", "[[A]]", (0.5, "A A")),  # a taste for the first place
        ("[[C]]", "I think so: [[B>>A]]", (0.875, "C B>>A")),  # a decisive verdict counts three times
        ("It is [[A>B]]", "[[A=B]]", (0.75, "A>B A=B")),
        ("[[A]] or rather [[B]]", "[[B]]", (None, "ambiguous")),
        ("[[A]]", "Both are fine.", (None, "no_verdict")),
        ("[[A]]", "", (None, "no_verdict")),
        ("I'm sorry, but I can't compare these.", "[[B]]", (None, "refused")),
        ("[[D]]", "[A]", (None, "no_verdict")),
    ],
)
def test_two_orders_come_to_one_preference(first: str, second: str, found: tuple[float | None, str]) -> None:
    assert pairwise.outcome(PAIR, [said(first), said(second)]) == found


def test_a_judgement_that_broke_off_or_never_came_is_none() -> None:
    assert pairwise.outcome(PAIR, [said("Well, A says", "length"), said("[[B]]")]) == (None, "truncated")
    rejected = said("", "rejected", "endpoint_refused: 400")
    assert pairwise.outcome(PAIR, [said("[[A]]"), rejected]) == (None, "rejected")
    assert pairwise.outcome(PAIR, [None, said("[[A]]")]) == (None, "rejected")
