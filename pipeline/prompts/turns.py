"""Conversations in the forms that data sets have them, as messages with role and content. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..recipe.table_options import Role
from ..records import Message
from .unusable import UnusableError

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
"""Name of a speaker, in lower case -> role."""
TOOL_ROLES = {"tool", "function", "function_call", "observation", "ipython"}
TOOL_KEYS = {"tool_calls", "function_call", "tool_call_id"}


def messages_of(turns: object, *, extra_keys: bool, name: str = "messages") -> list[Message]:
    """The messages of a list of turns, each with `role` and `content`, or with ShareGPT's `from` and `value`.

    Args:
        extra_keys: ignores other keys of a turn.
        name: what the list is called in error messages.

    Raises:
        UnusableError: a turn can't be used.
    """
    if not isinstance(turns, list):
        raise UnusableError("wrong_type", f"{name} must be a list of role and content, got {_type(turns)}")
    return [_message(turn, f"{name}[{i}]", extra_keys) for i, turn in enumerate(turns)]


def _message(turn: object, place: str, extra_keys: bool) -> Message:
    if not isinstance(turn, Mapping):
        raise UnusableError("wrong_type", f"{place} must have role and content, got {_type(turn)}")
    turn = {key: value for key, value in turn.items() if value is not None or key in ("content", "value")}
    if called := sorted(TOOL_KEYS & set(turn)):
        raise UnusableError("tool_turn", f"{place} has {called[0]}; calls of tools are not supported")
    speaker_key, content_key = ("from", "value") if "from" in turn else ("role", "content")
    for key in (speaker_key, content_key):
        if key not in turn:
            raise UnusableError("wrong_type", f"{place} has no {key}; a turn has role and content, or from and value")
    if not extra_keys and (unknown := sorted(set(turn) - {speaker_key, content_key}, key=str)):
        raise UnusableError(
            "unknown_key",
            f"{place} has the unknown key {unknown[0]!r}; allowed: {speaker_key}, {content_key}; "
            "with columns.messages, other keys are ignored",
        )
    return Message(
        role=_role(turn[speaker_key], f"{place}.{speaker_key}"),
        content=_content(turn[content_key], f"{place}.{content_key}"),
    )


def _role(speaker: object, place: str) -> Role:
    name = speaker.strip().lower() if isinstance(speaker, str) else None
    if name in TOOL_ROLES:
        raise UnusableError("tool_turn", f"{place} is {speaker!r}; turns of tools are not supported")
    role = ROLES.get(name) if name is not None else None
    if role is None:
        raise UnusableError("unknown_role", f"{place} is {speaker!r}; allowed: {', '.join(sorted(ROLES))}")
    return role


def _content(content: object, place: str) -> str:
    """The text of a turn. Text in parts (`[{"type": "text", "text": ...}]`) is joined."""
    if isinstance(content, str):
        return content
    if content is None:
        raise UnusableError("no_content", f"{place} is null; a turn needs text")
    if not isinstance(content, list):
        raise UnusableError("wrong_type", f"{place} must be text, got {_type(content)}")
    parts: list[str] = []
    for i, part in enumerate(content):
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type", "text") == "text":
            parts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, Mapping) else _type(part)
            raise UnusableError("not_text", f"{place}[{i}] is {kind!r}; only parts of type text are supported")
    return "".join(parts)


def _type(value: object) -> str:
    return "null" if value is None else type(value).__name__


def split(text: str, marks: Mapping[Role, str]) -> list[Message]:
    """The messages of a conversation that is one text, with a mark before each turn.

    A mark that begins with a letter stands at the start of a line: `Human:` inside a sentence is none. One that ends
    with a letter ends a word. Text before the first mark is the user's. Empty turns are left out, and two turns of one
    role in a row become one.
    """
    pattern = _pattern(tuple(marks.items()))
    messages: list[Message] = []
    role: Role = "user"
    start = 0

    def add(end: int) -> None:
        content = text[start:end].strip()
        if not content:
            return
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append(Message(role=role, content=content))

    for match in pattern.finditer(text):
        add(match.start())
        role, start = next(r for r in marks if match[r] is not None), match.end()
    add(len(text))
    return messages


@lru_cache(maxsize=64)
def _pattern(marks: tuple[tuple[Role, str], ...]) -> re.Pattern[str]:
    """Matches any of the marks, the longest first, as a group with the name of its role."""
    longest_first = sorted(marks, key=lambda item: len(item[1]), reverse=True)
    return re.compile("|".join(f"(?P<{role}>{_mark(mark)})" for role, mark in longest_first))


def _mark(mark: str) -> str:
    """A mark as a regular expression. White space in it is any white space."""
    words = mark.split()
    start = r"(?:^|(?<=\n))[ \t]*" if words[0][0].isalnum() else ""
    end = r"(?!\w)" if words[-1][-1].isalnum() else ""
    return start + r"\s+".join(map(re.escape, words)) + end
