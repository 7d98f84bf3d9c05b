"""Easy programs and sums of our own, for the rows of the stand-in data sets: small models solve some of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Program:
    """A task that one Python function of one expression solves."""

    words: tuple[str, ...]
    """Words of the function's name."""
    params: tuple[str, ...]
    does: str
    """The rest of 'Write a function that ...'."""
    code: str
    """The expression that is returned."""
    run: Callable[..., Any]
    """What the expression computes."""
    inputs: tuple[tuple[Any, ...], ...]
    """Arguments of the examples and tests."""

    @property
    def snake(self) -> str:
        return "_".join(self.words)

    @property
    def camel(self) -> str:
        return self.words[0] + "".join(word.title() for word in self.words[1:])

    def source(self, name: str, *, method: bool = False) -> str:
        """The function's definition, or that of a `class Solution` with it as a method."""
        params = ", ".join(("self", *self.params) if method else self.params)
        lines = [f"def {name}({params}):", f"    return {self.code}"]
        return "\n".join(["class Solution:", *(f"    {line}" for line in lines)] if method else lines)

    def asserts(self, name: str, num: int) -> str:
        """The first `num` tests, a line each."""
        calls = [(", ".join(map(repr, args)), self.run(*args)) for args in self.inputs[:num]]
        return "\n".join(f"assert {name}({args}) == {result!r}" for args, result in calls)


def programs(k: int) -> list[Program]:
    """Ten tasks that differ from those of another `k`, which is 2 or more."""
    numbers, words = ("nums",), ("text",)
    lists = (([1, 2, 3],), ([7, k],), ([0, -4, 2 * k],))
    texts = (("abcdefgh",), ("hello world",), ("xy",))
    singles = ((1,), (3 * k,), (-2,))
    pairs = ((1, 2), (10, -3), (0, k))

    def task(name: str, params: Sequence[str], does: str, code: str, run: Callable[..., Any], inputs: Any) -> Program:
        return Program(tuple(name.split()), tuple(params), does, code, run, inputs)

    return [
        task(f"add {k}", ["x"], f"returns the number x plus {k}", f"x + {k}", lambda x: x + k, singles),
        task(f"times {k}", ["x"], f"returns the number x multiplied by {k}", f"x * {k}", lambda x: x * k, singles),
        task(
            f"total plus {k}",
            numbers,
            f"returns the sum of the list nums plus {k}",
            f"sum(nums) + {k}",
            lambda nums: sum(nums) + k,
            lists,
        ),
        task(
            f"largest minus {k}",
            numbers,
            f"returns the largest number of the list nums minus {k}",
            f"max(nums) - {k}",
            lambda nums: max(nums) - k,
            lists,
        ),
        task(
            f"repeat {k} times",
            words,
            f"returns the string text repeated {k} times",
            f"text * {k}",
            lambda text: text * k,
            texts,
        ),
        task(
            f"first {k} letters",
            words,
            f"returns the first {k} characters of the string text",
            f"text[:{k}]",
            lambda text: text[:k],
            texts,
        ),
        task(
            f"is multiple of {k}",
            ["x"],
            f"tells whether the number x is a multiple of {k}",
            f"x % {k} == 0",
            lambda x: x % k == 0,
            singles,
        ),
        task(
            f"keep above {k}",
            numbers,
            f"returns the numbers of the list nums that are greater than {k}, in order",
            f"[n for n in nums if n > {k}]",
            lambda nums: [n for n in nums if n > k],
            lists,
        ),
        task(
            f"sum of two and {k}",
            ["a", "b"],
            f"returns the sum of the numbers a and b, plus {k}",
            f"a + b + {k}",
            lambda a, b: a + b + k,
            pairs,
        ),
        task(
            f"count of {k} letter words",
            words,
            f"returns how many words of the string text have exactly {k} letters",
            f"sum(len(word) == {k} for word in text.split())",
            lambda text: sum(len(word) == k for word in text.split()),
            texts,
        ),
    ]


def program(index: int) -> Program:
    """The task of an index; no two are equal."""
    return programs(2 + index // 10)[index % 10]


def example_text(task: Program) -> str:
    r"""The examples as LeetCode's pages have them, once turned into Markdown: brackets and underscores are escaped."""
    parts = []
    for number, args in enumerate(task.inputs[:2], 1):
        given = ", ".join(f"{name} = {_value(value)}" for name, value in zip(task.params, args, strict=True))
        result = _value(task.run(*args))
        parts.append(f"**Example {number}:**\n\n**Input:** {_escaped(given)}\n**Output:** {_escaped(result)}")
    return "\n\n".join(parts)


def _value(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _escaped(text: str) -> str:
    for char in "[]_":
        text = text.replace(char, f"\\{char}")
    return text


@dataclass(frozen=True)
class Problem:
    """A word problem with a whole number as its answer."""

    text: str
    step: str
    """The arithmetic."""
    answer: int


_NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Farid", "Grace"]
_THINGS = ["apples", "pens", "books", "coins", "cards"]


def problem(index: int) -> Problem:
    """The word problem of an index; no two are equal."""
    name, thing = _NAMES[index % 7], _THINGS[index % 5]
    a, b = 3 + index, 2 + index % 9
    match index % 4:
        case 0:
            text = f"{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?"
            return Problem(text, f"{a} + {b}", a + b)
        case 1:
            text = f"{name} had {a + b} {thing} and gave {b} of them away. How many {thing} are left?"
            return Problem(text, f"{a + b} - {b}", a)
        case 2:
            text = f"A box holds {a} {thing}. How many {thing} are in {b} boxes?"
            return Problem(text, rf"{a} \times {b}", a * b)
        case _:
            return Problem(f"What is ${a} + {b}$?", f"{a} + {b}", a + b)


def solution(task: Problem, style: int, *, wrong: bool = False) -> str:
    r"""A worked solution that ends with \boxed{}. Solutions of different styles differ."""
    answer = task.answer + 1 if wrong else task.answer
    starts = ["We calculate", "Let's compute", "The numbers give", "First write down the arithmetic"]
    start = starts[style % 4] if style < 4 else f"Once more ({style}), we get"
    return f"{start}:\n\\[ {task.step} = {answer} \\]\nThe answer is $\\boxed{{{answer}}}$."
