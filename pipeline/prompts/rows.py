"""A row of a prompt file: what it may contain, and its conversion to a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from math import isinf, isnan
from typing import Any, NamedTuple

from ..errors import one_line
from ..identities import digest, prompt_id
from ..recipe import DOMAINS, Normalise, PromptTable
from ..records import CarriedRow, Domain, ImportedScoreRow, Message, PromptRow
from . import text, turns
from .unusable import UnusableError

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
    "scores",
}


class Carried(NamedTuple):
    """The responses that a row contains, and their scores."""

    responses: dict[str, list[str]]
    """Source -> responses."""
    scores: dict[str, dict[str, list[float | None]]]
    """Reward -> source -> one score for each of its responses."""


def prompt_row(
    raw: RawRow, max_chars: int, normalise: Normalise | None = None, entry: PromptTable | None = None
) -> tuple[PromptRow, Carried]:
    """A PROMPT row (file, line and language not yet set), and the row's responses.

    Args:
        entry: the recipe's entry of the file, if it has more than a path.

    Raises:
        UnusableError: the row can't be used.
    """
    if unknown := sorted(set(raw) - KEYS, key=str):  # a function may return other keys than texts
        way_out = "columns maps others, e.g. columns: {messages: conversations}"
        raise UnusableError("unknown_key", f"unknown key {unknown[0]!r}; allowed: {', '.join(sorted(KEYS))}; {way_out}")
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
        json.dumps(raw, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise UnusableError("not_unicode", "the row holds a lone surrogate", always_reject=True) from error
    except (ValueError, RecursionError) as error:
        raise UnusableError("wrong_type", f"the row can't be written as JSON: {one_line(error)}") from error
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
    responses = _responses(raw)
    return row, Carried(responses, _scores(raw, responses))


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
    if not isinstance(responses, dict):
        raise UnusableError("wrong_type", "responses maps the name of a source to a list of texts")
    responses = {source: texts for source, texts in responses.items() if texts is not None}
    if not all(isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in responses.values()):
        raise UnusableError("wrong_type", "responses maps the name of a source to a list of texts")
    return responses


def _scores(raw: RawRow, responses: Mapping[str, list[str]]) -> dict[str, dict[str, list[float | None]]]:
    scores = raw.get("scores") or {}
    problem = "scores maps the name of a reward to sources, and each source to a list with one number per response"
    if not isinstance(scores, dict) or not all(isinstance(by_source, dict) for by_source in scores.values()):
        raise UnusableError("wrong_type", problem)
    found: dict[str, dict[str, list[float | None]]] = {}
    for reward, by_source in scores.items():
        for source, values in by_source.items():
            if not isinstance(values, list) or len(values) != len(responses.get(source, ())):
                raise UnusableError("wrong_type", problem)
            found.setdefault(reward, {})[source] = [score(v, f"scores.{reward}.{source}") for v in values]
    return found


def score(value: object, key: str) -> float | None:
    """A score as a number; None if it is missing.

    Raises:
        UnusableError: it is neither a finite number nor the text of one.
    """
    if value is None:
        return None
    problem = f"{key} must be a finite number, got {value!r:.40}"
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise UnusableError("wrong_type", problem)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise UnusableError("wrong_type", problem) from None
    if isinf(number):
        raise UnusableError("wrong_type", problem)
    return None if isnan(number) else number  # not a number: how pandas writes a missing one


def carried_rows(prompt: PromptRow, responses: Mapping[str, list[str]], counts: dict[str, int]) -> list[CarriedRow]:
    """The CARRIED rows of a prompt's responses.

    Args:
        counts: source -> number of responses that earlier rows of this prompt had; is updated.
    """
    found: list[CarriedRow] = []
    for source, texts in responses.items():
        for content in texts:
            index = counts.get(source, 0)
            counts[source] = index + 1
            found.append(
                {
                    "carried_id": digest(prompt["prompt_id"], source, index, content),
                    "prompt_id": prompt["prompt_id"],
                    "domain": prompt["domain"],
                    "source": source,
                    "sample_index": index,
                    "text": content,
                }
            )
    return found


def score_rows(
    carried: list[CarriedRow], scores: Mapping[str, Mapping[str, list[float | None]]]
) -> list[ImportedScoreRow]:
    """The IMPORTED_SCORE rows of a row's responses, given in the order of `carried_rows`."""
    by_source: dict[str, list[CarriedRow]] = {}
    for row in carried:
        by_source.setdefault(row["source"], []).append(row)
    return [
        {
            "score_id": digest(row["carried_id"], reward),
            "carried_id": row["carried_id"],
            "prompt_id": row["prompt_id"],
            "reward": reward,
            "value": value,
        }
        for reward, values_by_source in scores.items()
        for source, values in values_by_source.items()
        for row, value in zip(by_source.get(source, ()), values, strict=True)
        if value is not None
    ]


def conversation(raw: RawRow, entry: PromptTable | None = None) -> list[Message]:
    """The row's messages. A plain prompt becomes one message of the user.

    Raises:
        UnusableError: there are none, or they don't end with the user's turn.
    """
    if (raw.get("prompt") is None) == (raw.get("messages") is None):
        raise UnusableError("no_prompt", "give exactly one of prompt and messages")
    if raw.get("messages") is None:
        if not isinstance(raw["prompt"], str):
            raise UnusableError("wrong_type", f"prompt must be a string, got {type(raw['prompt']).__name__}")
        messages = [Message(role="user", content=raw["prompt"])]
    else:
        messages = turns.messages_of(raw["messages"], extra_keys=entry is not None and bool(entry.columns))
    if entry is not None and entry.last_answer == "drop":
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
    if messages and (role := messages[-1]["role"]) != "user":
        way_out = "; last_answer: drop removes it" if role == "assistant" else ""
        problem = f"the conversation must end with the user's turn, it ends with the {role}'s{way_out}"
        raise UnusableError("ends_with_answer" if role == "assistant" else "no_user_turn", problem, always_reject=True)
    if not messages or not messages[-1]["content"].strip():
        raise UnusableError("empty", "the prompt is empty", always_reject=True)
    return messages


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
