"""Rules on text: normalisation, words, language, domain."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.pipeline.prompts import text
from fusechat.pipeline.recipe import Normalise
from fusechat.pipeline.records import Message

DEMO = Path(__file__).parents[3] / "pipeline" / "recipes" / "demo"
RULES = [
    Normalise(),
    Normalise(form="NFKC", control="remove"),
    Normalise(form="keep", zero_width="keep", trailing_space=False, line_ends=False),
    Normalise(line_ends=False, control="remove", form="keep"),
]


@settings(deadline=None)
@given(
    st.text() | st.text(st.sampled_from(" \t\r\n\x85\u2028\u200b\ufeff\x00\x1be\u0301\u00e9Å")), st.sampled_from(RULES)
)
def test_normalising_twice_changes_nothing(given: str, config: Normalise) -> None:
    once = text.normalise(given, config)
    assert once is not None
    assert text.normalise(once, config) == once


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \t\r\n\u200b\ufeff\u00e9e\u0301")))
def test_the_normal_form_holds_none_of_what_it_is_to_be_rid_of(given: str) -> None:
    found = text.normalise(given, Normalise()) or ""
    assert unicodedata.is_normalized("NFC", found)
    assert not set("\r\u200b\ufeff") & set(found)
    assert all(line == line.rstrip(" \t") for line in found.split("\n"))
    assert found == found.rstrip("\n")


@pytest.mark.parametrize(
    ("given", "config", "found"),
    [
        ("cafe\u0301 \r\nb\t\n\n", Normalise(), "café\nb"),
        ("  indented", Normalise(), "  indented"),
        ("a\u200bb\ufeff\u00adc", Normalise(), "abc"),
        ("a\u200bb", Normalise(zero_width="keep"), "a\u200bb"),
        ("می\u200cخواهم 👩\u200d💻", Normalise(), "می\u200cخواهم 👩\u200d💻"),  # joiners carry meaning
        ("a\x00b\x1b[2J", Normalise(), "a\x00b\x1b[2J"),
        ("a\x00b\x1b[2J\t\n", Normalise(control="remove"), "ab[2J"),
        ("a\x00b", Normalise(control="reject"), None),
        ("ﬁ ２", Normalise(form="NFKC"), "fi 2"),
        ("a \r\n", Normalise(trailing_space=False, line_ends=False), "a \r\n"),
    ],
)
def test_rules_of_normalisation(given: str, config: Normalise, found: str | None) -> None:
    assert text.normalise(given, config) == found


def test_normalising_takes_time_by_length_alone() -> None:
    hostile = ("x" + " " * 200_000 + "y\n") * 5 + "\u0301" * 100_000
    began = time.process_time()
    text.normalise(hostile, Normalise())
    text.words(hostile)
    text.quantities("1,2." * 100_000)
    assert time.process_time() - began < 20  # a fraction of a second; one that goes back at each blank takes minutes


def test_the_shipped_prompts_are_normal_already() -> None:
    prompts = [json.loads(r)["prompt"] for f in DEMO.glob("*.jsonl") for r in f.read_text("utf-8").splitlines()]
    assert len(prompts) > 500
    assert all(text.normalise(p, Normalise()) == p for p in prompts)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("Don't STOP, it's 3.5!", ["don", "t", "stop", "it", "s", "3", "5"]),
        ("写一首诗 about 春天", ["写", "一", "首", "诗", "about", "春", "天"]),
        ("ＡＢＣ１２３", ["abc123"]),
        ("日本のカナ 한국", ["日", "本", "の", "カ", "ナ", "한", "국"]),
        ("+ = ?", ["+", "=", "?"]),
        ("Straße", ["strasse"]),
    ],
)
def test_words(given: str, words: list[str]) -> None:
    assert text.words(given) == words


def test_quantities_are_numbers_and_operators_and_no_hyphens() -> None:
    assert text.quantities("a well-known 3 - 4 = -1, 1,000.5 x 2") == ["3", "-", "4", "=", "-", "1", "1,000.5", "2"]


@pytest.mark.parametrize(
    ("given", "language"),
    [
        ("How many minutes does the train take to the next town?", "en"),
        ("Wie viele Minuten braucht der Zug bis zur nächsten Stadt?", "de"),
        ("Combien de temps faut-il pour aller à la gare ?", "fr"),
        ("Сколько времени идёт поезд до следующего города?", "ru"),
        ("请写一首关于春天的诗。", "zh"),
        ("请用 Python 写一个排序函数", "zh"),
        ("春についての詩を書いてください。", "ja"),
        ("봄에 관한 시를 써 주세요", "ko"),
        ("1 + 1 = ?", "und"),
        ("Translate 你好 into English, please, and explain the word.", "en"),
    ],
)
def test_languages(given: str, language: str) -> None:
    assert text.language(given) == language


@pytest.mark.parametrize(
    ("content", "gold", "tests", "domain"),
    [
        ("Write f.", "2", "assert f(1)", "code"),
        ("1 + 1?", "2", " ", "math"),
        ("请写一首诗", None, None, "chinese"),
        ("詩を書いてください", None, None, "instruction"),
        ("Name a colour.", "", None, "instruction"),
        ("?", None, None, "instruction"),
    ],
)
def test_a_domain_follows_from_what_the_row_holds(
    content: str, gold: str | None, tests: str | None, domain: str
) -> None:
    assert text.domain([Message(role="user", content=content)], gold, tests) == domain
