"""A row of a prompt file: what it may hold, and the record that it becomes."""

from __future__ import annotations

import json
from typing import Any

from ..identities import digest, prompt_id
from ..recipe import DOMAINS, Normalise, PromptTable
from ..records import CarriedRow, Domain, Message, PromptRow
from . import text

RawRow = dict[str, Any]
"""A row as a file holds it: JSON values by key."""

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
"""Roles under ShareGPT's names (`from` and `value`)."""


class UnusableError(Exception):
    """A row that can't be used. `counted` rows are rejects always; the others stop the run unless told otherwise."""

    def __init__(self, reason: str, problem: str, *, counted: bool = False) -> None:
        self.reason, self.problem, self.counted = reason, problem, counted
        super().__init__(problem)


def prompt_row(
    raw: RawRow, max_chars: int, normalise: Normalise | None = None, entry: PromptTable | None = None
) -> tuple[PromptRow, dict[str, list[str]]]:
    """A PROMPT row (file, line and language not yet set), and the responses that it carries, by source.

    Args:
        entry: what the recipe says of the file, where it says more than its name.

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
        raise UnusableError("not_unicode", "the row holds a lone surrogate", counted=True) from error
    size = sum(len(m["content"]) for m in messages)
    if size > max_chars:
        raise UnusableError("too_long", f"{size} characters, prompts.max_chars is {max_chars}", counted=True)
    if domain == "math" and not (raw.get("gold") or "").strip():
        raise UnusableError("no_gold", "a math row needs gold")
    if domain == "code" and not (raw.get("tests") or "").strip():
        raise UnusableError("no_tests", "a code row needs tests")
    found: PromptRow = {
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
    return found, _responses(raw)


def _domain(raw: RawRow, messages: list[Message], entry: PromptTable | None) -> Domain:
    """The row's own domain, or what the entry says for rows that give none."""
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
    found = raw.get("responses") or {}
    if not isinstance(found, dict) or not all(
        isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in found.values()
    ):
        raise UnusableError("wrong_type", "responses maps the name of a source to a list of texts")
    return found


def carried_rows(prompt: PromptRow, responses: dict[str, list[str]]) -> list[CarriedRow]:
    """CARRIED rows."""
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
    """The row's messages; a plain prompt is one of the user's.

    Raises:
        UnusableError: there is none, or it doesn't end with the user's turn.
    """
    if (raw.get("prompt") is None) == (raw.get("messages") is None):
        raise UnusableError("no_prompt", "give exactly one of prompt and messages")
    messages = raw.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": raw["prompt"]}]
    elif isinstance(messages, list):
        messages = [_spoken(m) for m in messages]
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
        raise UnusableError("empty", "the prompt is empty", counted=True)
    return [Message(role=m["role"], content=m["content"]) for m in messages]


def _spoken(message: Any) -> Any:
    """A turn in ShareGPT's form as one of role and content."""
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
            raise UnusableError("control_character", "the prompt holds a control character", counted=True)
        message["content"] = content
    if not messages[-1]["content"].strip():
        raise UnusableError("empty", "the prompt is empty", counted=True)
    return messages
