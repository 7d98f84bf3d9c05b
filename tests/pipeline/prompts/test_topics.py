"""Topics: which prompts are taken for code or mathematics, on sentences of our own and on real prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusechat.pipeline.prompts.topics import is_about
from fusechat.pipeline.recipe import Topic

REAL = Path(__file__).parents[4] / "shared" / "prompts"

NEITHER = [
    "Tell me about the island of Java and its volcanoes.",
    "How long does a python live, and what does it eat?",
    "Make a class schedule for my daughter's school.",
    "Create a program for a wedding with a dinner.",
    "Design an exercise program for seniors.",
    "How many calories does an apple have?",
    "I have $5 and my friend has $6, what gift can we buy?",
    "What is rust and how can I remove it from a bike?",
    "Summarize the plot of Macbeth in 3 sentences.",
    "Develop a marketing plan for 2024 with 5 steps.",
    "How old is the universe?",
    "推荐三本适合初学者的小说。",
    "上海有多少人口？",
]
CODE = [
    "Write a function in Python that sorts a list.",
    "Fix this Java class so that it compiles.",
    "How do I reverse a string in Rust?",
    "Create a function that returns the largest of three numbers.",
    "用Python写一个冒泡排序。",
    "Explain how a hash map works.",
    "What does this do?\n```\nx = 1\n```",
]
MATH = [
    "Solve x + 3 = 7 for x.",
    "A box holds 12 pens. Tom has 3 boxes and gives 5 pens away. How many pens are left?",
    "What is the probability that two dice show 7?",
    "Prove that $a^2 + b^2 = c^2$.",
    "妈妈今年42岁，小明今年16岁，30年后妈妈比小明大多少岁？",
]


@pytest.mark.parametrize("prompt", NEITHER)
def test_a_general_prompt_is_neither(prompt: str) -> None:
    assert not is_about(prompt, "code")
    assert not is_about(prompt, "math")


@pytest.mark.parametrize(("topic", "prompt"), [("code", p) for p in CODE] + [("math", p) for p in MATH])
def test_a_prompt_on_the_topic_is_recognized(topic: Topic, prompt: str) -> None:
    assert is_about(prompt, topic)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real prompts are not part of the product")
@pytest.mark.parametrize(
    ("file", "topic", "low", "high"),
    [("math_train", "math", 0.85, 1), ("math_train", "code", 0, 0.02), ("code_train", "code", 0.98, 1),
     ("instruction", "math", 0, 0.13), ("instruction", "code", 0, 0.18)],
)  # fmt: skip
def test_of_real_prompts_most_are_recognized(file: str, topic: Topic, low: float, high: float) -> None:
    """Of the instruction prompts, about 15 of 160 are mathematics and 25 are code."""
    rows = [json.loads(line) for line in (REAL / f"{file}.jsonl").read_text("utf-8").splitlines()]
    found = sum(is_about(row["prompt"], topic) for row in rows) / len(rows)
    assert low <= found <= high
