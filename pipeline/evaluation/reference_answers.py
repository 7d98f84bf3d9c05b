"""Answers to a judged suite's prompts in a file of their own: a baseline's answers, or a judge's reference answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..prompts import named_files
from ..prompts.readers import PromptReader
from ..prompts.unusable import UnusableError
from ..recipe import REFERENCE, JudgedSuite
from . import suite_files

Answers = dict[str, tuple[str, ...]]
"""Id of a suite's row -> the answer to each of its turns."""


def readers(suite: JudgedSuite, base: Path) -> list[PromptReader]:
    """The readers of the suite's `answers`; empty if it has none.

    Raises:
        InputError: `evaluate.suite_files` has no file of them.
    """
    if suite.answers is None:
        return []
    found = named_files.tables(_name(suite), suite.answers, base)
    return [PromptReader(table, base, any_columns=True) for table in found]


def _name(suite: JudgedSuite) -> str:
    """The name of the file in `evaluate.suite_files`."""
    return f"{suite.name}_answers"


def load(suite: JudgedSuite, base: Path) -> Answers | None:
    """Reads the suite's `answers`.

    Raises:
        InputError: a line can't be read, contains no answer, or contradicts an earlier line.
    """
    if suite.answers is None:
        return None
    answers: Answers = {}
    for file in readers(suite, base):
        for place, _, line, raw in suite_files.lines(_name(suite), file):
            if isinstance(raw, UnusableError):
                raise InputError(place, line, raw.problem)
            try:
                identity, texts = _answer(raw)
            except (KeyError, IndexError, TypeError, AttributeError, ValueError):
                allowed = "uid, question_id or id; and choices with turns, messages with an answer, or reference"
                raise InputError(place, line, f"holds no answer; a line has {allowed}") from None
            if answers.setdefault(identity, texts) != texts:
                raise InputError(place, line, f"a second answer to {identity!r:.80}, other than the first")
    return answers


def _answer(raw: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """A line's id and its answers, in any of the published formats."""
    identity = next((raw[key] for key in ("uid", "question_id", "id") if raw.get(key) is not None), None)
    texts = tuple(_texts(raw))
    if identity is None or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError
    return str(identity), texts


def _texts(raw: dict[str, Any]) -> Iterator[Any]:
    if "choices" in raw:  # FastChat, Arena-Hard v0.1 as first published: {"choices": [{"turns": [...]}]}
        for turn in raw["choices"][0]["turns"]:
            yield turn["content"] if isinstance(turn, dict) else turn
    elif "messages" in raw:  # Arena-Hard since v2: {"messages": [{"role", "content": {"answer"}}]}
        for message in raw["messages"]:
            if message["role"] == "assistant":
                content = message["content"]
                yield content["answer"] if isinstance(content, dict) else content
    else:
        reference = raw[REFERENCE]
        yield from [reference] if isinstance(reference, str) else reference
