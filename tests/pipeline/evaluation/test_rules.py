"""Rules that score answers by their text: parts of an answer, and what models write around it."""

from __future__ import annotations

import time

import pytest
from published_suites import TABLES

from fusechat.pipeline.evaluation.forms import rules

PLOT = "He wakes. He eats well. He goes to bed. He dreams."


@pytest.mark.parametrize(
    ("rule", "gold", "answer", "score"),
    [
        ("contest_choice", "C", "<think>BBBBB</think>So (C): CCCCC.", 1),
        ("contest_choice", "C", "<solution>C</solution>", 1),
        ("contest_choice", "C", "$\\boxed{\\textbf{(C)}\\ }$", 1),
        ("contest_choice", "C", "The answer is\n**(C)**", 1),
        ("contest_choice", "A", "Therefore, as a cab:\nABCDE", 0),
        ("contest_choice", "C", "", 0),
        ("contest_number", "073", "The final answer is \\boxed{073}.", 1),
        ("contest_number", "073", f"It is 073, since {'x' * 60}", 0),
        ("number_list", "3,1,2,4", "Answer: 3,1,4,2", 0.5),
        ("number_list", "3,1,2,4", "**Answer:**\n3, 1, 2, 4", 1),
        ("number_list", "3,1", "none", 0),
        ("three_words", "yes, no, yes", "<solution>yes, no, yes</solution>", 1),
        ("three_words", "yes, no, yes", "**Yes**, **no**, and **yes**.", 1),
        ("three_words", "yes, no, yes", "In short: yes, no, yes", 1),
        ("three_words", "yes, no, yes", "**no, no, yes**", 0),
        ("names_in_order", "ann bob", "**Ann, Bob**", 1),
        ("names_in_order", "ann bob", "**Ann** and **Bob**", 1),
        ("names_in_order", "ann bob", "**Bob, Ann**", 0),
        ("names_in_order", "ann bob", "Ann, Bob", 0),
        ("bold_answer", "tetrahedra", "They are **two tetrahedra**.", 1),
        ("bold_answer", "triangle", "**circle square triangle**", 0),
        ("bold_answer", "5", "\\boxed{5}", 1),
        ("last_word", "action", "***action movies***", 0),
        ("last_word", "action movies", "***action***", 1),
        ("last_word", "two", "It is ***2***", 1),
        ("last_word", "two", "so the answer is two.", 1),
        ("word_groups", "a,b,c,d,e,f,g,h", "**a, b, c, d, e, f, h, x**", 0.5),
        ("sentence_order", PLOT, "<PLOT_SUMMARY>He eats well. He wakes. He goes to bed. He dreams.", 0.5),
        ("contains", "Two\nlines.", "<solution>Two lines.</solution>", 1),
        ("label", "postal code", "The type is Postal-Code", 1),
        ("join_map", "{'a': 'x', 'b': 'y'}", '{"a": "x", "b": null}', 0.67),
        ("join_map", "{'a': 'x'}", "__import__('os').abort()", 0),
        ("join_map", "{'a': 'b'}", '{"a":"b"}\n\nkeys: {["x"]}', 1),
        ("join_map", "{'a': 'b'}", f'{{"a":"b"}} {{"a": 0x{"f" * 9000}}}', 1),
    ],
)  # fmt: skip
def test_a_rule_finds_the_answer_as_its_authors_do(rule: str, gold: str, answer: str, score: float) -> None:
    assert rules.score(rule, gold, answer) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The answer is (B).", "B"),
        ("**The answer is (C)**", "C"),
        ("The answer is: C", "C"),
        ("Thus, the answer is **(D)**.", "D"),
        ("The answer is (D) It cannot be determined.", "D"),
        ("The answer is (A) At least 5 meters", "A"),
        ("The answer is (D) A or B", "D"),
        ("The answer is (C), both are wrong", "C"),
        ("The answer is A because a cat is one.", "A"),
        ("the correct answer is option J", "J"),
        ("Correct answer: B. The cat", "B"),
        ("The correct option is (C)", "C"),
        ("(C) is correct, since (A) fails.", "C"),
        ("\\boxed{\\text{B}}", "B"),
        ("The answer is $\\boxed{(B)}$.", "B"),
        ("\\boxed{D. cannot be determined}", "D"),
        ("The final answer is $\\textbf{(A)}$", "A"),
        ("First I took the answer to be (A). The answer is (C).", "C"),
        ("<think>The answer is (A).</think>The answer is (B).", "B"),
        ("It follows.\n\n(B)", "B"),
        ("B. The cat", "B"),
        ("The answer is (C). Option B is incorrect, as it has no tail.", "C"),
        ("The answer is C, since option D contradicts it.", "C"),
        ("The answer is (C), not option (D).", "C"),
        ("Option B is wrong.\n\nC", "C"),
        ("Choice: option : (C)", "C"),
        ("Option B is correct.", "B"),
        ("The answer is (B) or (C)", None),
        ("The answer is (B) and (C)", None),
        ("The answer is I think a mystery", None),
        ("The answer is A long story", None),
        ("The answer is 5", None),
        ("", None),
    ],
)
def test_the_letter_of_a_multiple_choice_answer(answer: str, letter: str | None) -> None:
    right = [gold for gold in "ABCDEFGHIJ" if rules.score("choice", gold, answer)]
    assert right == ([letter] if letter else [])


HUGE = TABLES["JSON"].format(3).replace('"Rank":1', f'"Rank":{"9" * 400}')
HOSTILE = [
    "<solution>" * 30_000, "**" * 50_000, "\\boxed{" * 20_000, "{" * 60_000, "a." * 50_000, "A" * 100_000,
    "answer:" * 20_000, "({" * 30_000, "yes, " * 20_000, "\\boxed{" + "9" * 100_000 + "}",
    "The answer is (" * 20_000, "answer " * 30_000, "( A " * 30_000, " " * 100_000, "answer" + " " * 100_000,
    '{"a":"b"}\n\nkeys: {["x"]}', f'{{"a": 0x{"f" * 9_000}}}', HUGE, f"[{HUGE}]",
    "answer is" + " " * 19_900, f"answer is{' ' * 9_900}option{' ' * 9_900}", "answer" + " " * 19_900 + "would",
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "num"), [("ifbench", 200_000), ("instructions_followed", 200_000), ("choice", 20_000)]
)
def test_how_much_of_an_answer_a_rule_reads(monkeypatch: pytest.MonkeyPatch, rule: str, num: int) -> None:
    """The checks of instructions concern the whole answer, e.g. its first word."""
    read: list[str] = []
    monkeypatch.setitem(rules.RULES, rule, lambda _gold, answer: float(bool(read.append(answer))))
    rules.score(rule, "{}", f"<think>no</think>{'start ' * 30_000}")
    rules.score(rule, "{}", "x" * 300_000)
    assert [len(text) for text in read] == [min(num, 180_000), num]


@pytest.mark.parametrize("rule", [name for name in rules.RULES if name not in ("ifbench", "instructions_followed")])
def test_hostile_answers_take_no_time_and_raise_nothing(rule: str) -> None:
    golds = {"sentence_order": PLOT, "join_map": "{'a': 'x'}", "number_list": "1,2"}
    golds |= {f"table_{name.lower()}": text.format(3) for name, text in TABLES.items()}
    start = time.process_time()
    for answer in HOSTILE:
        assert 0 <= rules.score(rule, golds.get(rule, "B"), answer) <= 1
    assert time.process_time() - start < 20
