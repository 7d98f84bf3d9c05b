"""A row of a prompt file: what it may contain, and its conversion to a record."""

from __future__ import annotations

import json
from typing import Any

from ..identities import digest, prompt_id
from ..recipe import DOMAINS, Normalise, PromptTable
from ..records import CarriedRow, Domain, Message, PromptRow
from . import text

RawRow = dict[str, Any]
"""A row as the file contains it: JSON values by key."""

KEYS = {
    "id",
    "domain",
    "prompt",
    "messages",
    "gold",
    "tests",
    "entry_point",
    "template",
    "template_seen",
    "responses",
}
ROLES = {"system", "user", "assistant"}
SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
"""Speaker in ShareGPT's format (`from` and `value`) -> role."""


class UnusableError(Exception):
    """A row can't be used.

    Args:
        always_reject: makes the row a reject. Otherwise it stops the run, unless `prompts.invalid` is `reject`.
    """

    def __init__(self, reason: str, problem: str, *, always_reject: bool = False) -> None:
        self.reason, self.problem, self.always_reject = reason, problem, always_reject
        super().__init__(problem)


def prompt_row(
    raw: RawRow, max_chars: int, normalise: Normalise | None = None, entry: PromptTable | None = None
) -> tuple[PromptRow, dict[str, list[str]]]:
    """A PROMPT row (file, line and language not yet set), and the row's responses by source.

    Args:
        entry: the recipe's entry of the file, if it has more than a path.

    Raises:
        UnusableError: the row can't be used.
    """
    if unknown := sorted(set(raw) - KEYS):
        raise UnusableError("unknown_key", f"unknown key {unknown[0]!r}; allowed: {', '.join(sorted(KEYS))}")
    for key in ("id", "domain", "prompt", "gold", "tests", "entry_point", "template"):
        if raw.get(key) is not None and not isinstance(raw[key], str):
            raise UnusableError("wrong_type", f"{key} must be a string, got {type(raw[key]).__name__}")
    if not isinstance(raw.get("template_seen"), bool | None):
        raise UnusableError("wrong_type", "template_seen must be true or false")
    if not raw.get("id"):
        raise UnusableError("no_id", "id is missing")
    messages = _normalised(conversation(raw, entry), normalise)
    domain = _domain(raw, messages, entry)
    try:
        json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UnusableError("not_unicode", "the row holds a lone surrogate", always_reject=True) from error
    size = sum(len(m["content"]) for m in messages)
    if size > max_chars:
        raise UnusableError("too_long", f"{size} characters, prompts.max_chars is {max_chars}", always_reject=True)
    if domain == "math" and not (raw.get("gold") or "").strip():
        raise UnusableError("no_gold", "a math row needs gold")
    if domain == "code" and not (raw.get("tests") or "").strip():
        raise UnusableError("no_tests", "a code row needs tests")
    row: PromptRow = {
        "prompt_id": prompt_id(messages),
        "id": raw["id"],
        "domain": domain,
        "messages": messages,
        "gold": raw.get("gold"),
        "tests": raw.get("tests"),
        "entry_point": raw.get("entry_point"),
        "template": raw.get("template"),
        "template_seen": raw.get("template_seen"),
        "language": None,
        "file": "",
        "line": 0,
    }
    return row, _responses(raw)


def _domain(raw: RawRow, messages: list[Message], entry: PromptTable | None) -> Domain:
    """The row's domain, or the entry's domain if the row names none."""
    domain = raw.get("domain")
    if not domain and entry is not None and entry.domain is not None:
        domain = entry.domain
        if domain == "auto":
            domain = text.domain(messages, raw.get("gold"), raw.get("tests"))
    for known in DOMAINS:
        if domain == known:
            return known
    raise UnusableError("unknown_domain", f"unknown domain {domain!r}; allowed: {', '.join(DOMAINS)}")


def _responses(raw: RawRow) -> dict[str, list[str]]:
    responses = raw.get("responses") or {}
    if not isinstance(responses, dict) or not all(
        isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in responses.values()
    ):
        raise UnusableError("wrong_type", "responses maps the name of a source to a list of texts")
    return responses


def carried_rows(prompt: PromptRow, responses: dict[str, list[str]]) -> list[CarriedRow]:
    """The CARRIED rows of a prompt's responses."""
    return [
        {
            "carried_id": digest(prompt["prompt_id"], source, index, text),
            "prompt_id": prompt["prompt_id"],
            "domain": prompt["domain"],
            "source": source,
            "sample_index": index,
            "text": text,
        }
        for source, texts in responses.items()
        for index, text in enumerate(texts)
    ]


def conversation(raw: RawRow, entry: PromptTable | None = None) -> list[Message]:
    """The row's messages. A plain prompt becomes one message of the user.

    Raises:
        UnusableError: there are none, or they don't end with the user's turn.
    """
    if (raw.get("prompt") is None) == (raw.get("messages") is None):
        raise UnusableError("no_prompt", "give exactly one of prompt and messages")
    messages = raw.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": raw["prompt"]}]
    elif isinstance(messages, list):
        messages = [_from_sharegpt(m) for m in messages]
    if (
        not isinstance(messages, list)
        or not all(
            isinstance(m, dict) and set(m) == {"role", "content"} and all(isinstance(v, str) for v in m.values())
            for m in messages
        )
        or any(m["role"] not in ROLES for m in messages)
    ):
        raise UnusableError("wrong_type", f"messages is a list of role ({', '.join(sorted(ROLES))}) and content")
    if entry is not None and entry.last_answer == "drop":
        while messages and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise UnusableError("empty", "the prompt is empty", always_reject=True)
    return [Message(role=m["role"], content=m["content"]) for m in messages]


def _from_sharegpt(message: object) -> object:
    """Converts a turn in ShareGPT's format to role and content. Returns anything else unchanged."""
    if isinstance(message, dict) and set(message) == {"from", "value"}:
        speaker = message["from"]
        role = SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else speaker
        return {"role": role, "content": message["value"]}
    return message


def _normalised(messages: list[Message], config: Normalise | None) -> list[Message]:
    if config is None:
        return messages
    for message in messages:
        content = text.normalise(message["content"], config)
        if content is None:
            raise UnusableError("control_character", "the prompt holds a control character", always_reject=True)
        message["content"] = content
    if not messages[-1]["content"].strip():
        raise UnusableError("empty", "the prompt is empty", always_reject=True)
    return messages
