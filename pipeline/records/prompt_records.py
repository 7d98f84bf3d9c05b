"""Prompts, responses that prompt rows contain, and rejected rows."""

from __future__ import annotations

from typing import Literal, TypedDict

import pyarrow as pa

Domain = Literal["instruction", "math", "code", "chinese"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

PROMPT = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),  # sha256 of the messages
        pa.field("id", pa.string(), nullable=False),  # the id in the user's file
        pa.field("domain", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("gold", pa.string()),
        pa.field("tests", pa.string()),
        pa.field("entry_point", pa.string()),
        pa.field("template", pa.string()),  # template that the prompt was made from
        pa.field("template_seen", pa.bool_()),  # held-out prompts only: whether the training set uses the template
        pa.field("language", pa.string()),  # ISO 639-1, if the recipe tags languages
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # line of the file; in other formats, number of the row
    ]
)


class PromptRow(TypedDict):
    """A row of PROMPT."""

    prompt_id: str
    id: str
    domain: Domain
    messages: list[Message]
    gold: str | None
    tests: str | None
    entry_point: str | None
    template: str | None
    template_seen: bool | None
    language: str | None
    file: str
    line: int


CARRIED = pa.schema(
    [
        pa.field("carried_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


class CarriedRow(TypedDict):
    """A row of CARRIED: a response that a prompt row contained."""

    carried_id: str
    prompt_id: str
    domain: Domain
    source: str
    sample_index: int
    text: str


IMPORTED_SCORE = pa.schema(
    [
        pa.field("score_id", pa.string(), nullable=False),
        pa.field("carried_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("reward", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)


class ImportedScoreRow(TypedDict):
    """A row of IMPORTED_SCORE: the score of a response that a prompt row contained."""

    score_id: str
    carried_id: str
    prompt_id: str
    reward: str
    value: float


def plain_prompt(prompt_id: str, id_: str, domain: Domain, messages: list[Message], file: str, line: int) -> PromptRow:
    """A PROMPT row without gold answer, tests, template and language."""
    return {
        "prompt_id": prompt_id,
        "id": id_,
        "domain": domain,
        "messages": messages,
        "gold": None,
        "tests": None,
        "entry_point": None,
        "template": None,
        "template_seen": None,
        "language": None,
        "file": file,
        "line": line,
    }


REJECT = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),  # id of the prompt or response, or file:line
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("domain", pa.string()),  # null if the row was rejected before its domain was known
    ]
)


class RejectRow(TypedDict):
    """A row of REJECT."""

    stage: str
    id: str
    reason: str
    detail: str
    domain: str | None
