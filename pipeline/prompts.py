"""Prompt intake: JSONL rows to prompt records; what can't be used is named by file and line, or written as a reject."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fusechat.pipeline.config import DOMAINS, Prompts
from fusechat.pipeline.errors import InputError
from fusechat.pipeline.records import PROMPT, REJECT, Message, prompt_id

KEYS = {"id", "domain", "prompt", "messages", "gold", "tests", "entry_point", "template", "template_seen"}
ROLES = {"system", "user", "assistant"}


@dataclass(slots=True)
class Intake:
    """Prompts that may be used, and the rows that may not."""

    train: pa.Table
    heldout: pa.Table
    rejects: pa.Table


@dataclass(slots=True)
class _Reading:
    config: Prompts
    seen: dict[str, str] = field(default_factory=dict)  # prompt id -> where it was read first
    rejects: list[dict[str, str]] = field(default_factory=list)

    def rows(self, path: Path) -> Iterator[dict[str, Any]]:
        for line, raw in _lines(path):
            try:
                row = _row(raw, self.config.max_chars)
            except _UnusableError as unusable:
                if self.config.invalid == "stop" and not unusable.counted:
                    raise InputError(str(path), line, unusable.problem) from None
                self._reject(path, line, unusable.reason, unusable.problem)
                continue
            if (first := self.seen.get(row["prompt_id"])) is not None:
                self._reject(path, line, "duplicate", f"same prompt as {first}")
                continue
            self.seen[row["prompt_id"]] = f"{path.name}:{line}"
            yield {**row, "file": path.name, "line": line}

    def _reject(self, path: Path, line: int, reason: str, detail: str) -> None:
        self.rejects.append({"stage": "prompts", "id": f"{path.name}:{line}", "reason": reason, "detail": detail[:500]})


class _UnusableError(Exception):
    """A row that can't be used. `counted` rows are rejects always; the others stop the run unless told otherwise."""

    def __init__(self, reason: str, problem: str, *, counted: bool = False) -> None:
        self.reason, self.problem, self.counted = reason, problem, counted
        super().__init__(problem)


def read(config: Prompts, base: Path) -> Intake:
    """Reads the recipe's prompt files.

    Held-out files are read first: a training prompt that also stands there is a reject, never the other way round.

    Args:
        base: folder that relative paths start at.

    Raises:
        InputError: a file is missing, or a row can't be used and `config.invalid` is `stop`.
    """
    reading = _Reading(config)
    heldout = [row for name in config.heldout for row in reading.rows(base / name)]
    rejected_heldout = len(reading.rejects)
    train = [row for name in config.train for row in reading.rows(base / name)]
    for reject in reading.rejects[:rejected_heldout]:
        reject["reason"] = f"heldout_{reject['reason']}"
    if not train:
        raise InputError(", ".join(config.train), 0, "no usable prompt")
    _check_templates(heldout, {row["template"] for row in train if row["template"] is not None})
    return Intake(
        train=pa.Table.from_pylist(train, schema=PROMPT).sort_by("prompt_id"),
        heldout=pa.Table.from_pylist(heldout, schema=PROMPT).sort_by("prompt_id"),
        rejects=pa.Table.from_pylist(reading.rejects, schema=REJECT),
    )


def _check_templates(heldout: list[dict[str, Any]], trained_on: set[str]) -> None:
    """A held-out prompt shares its template with the training set only where its row says so.

    Raises:
        InputError: `template_seen` is not what the training set says.
    """
    for row in heldout:
        if row["template"] is None:
            continue
        seen = row["template"] in trained_on
        if seen and row["template_seen"] is not True:
            problem = (
                f"the training set uses template {row['template']!r} too; say template_seen: true if that is meant"
            )
            raise InputError(row["file"], row["line"], problem)
        if row["template_seen"] is True and not seen:
            problem = f"template_seen is true, but the training set does not use template {row['template']!r}"
            raise InputError(row["file"], row["line"], problem)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Non-empty lines with their number; without the mark that some editors put at a file's start."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise InputError(str(path), 0, "prompt file not found") from None
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error


def _row(line: bytes, max_chars: int) -> dict[str, Any]:
    try:
        raw = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _UnusableError("malformed", f"not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
        raise _UnusableError("malformed", f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise _UnusableError("malformed", "a row is a JSON object")
    if unknown := sorted(set(raw) - KEYS):
        raise _UnusableError("unknown_key", f"unknown key {unknown[0]!r}; allowed: {', '.join(sorted(KEYS))}")
    for key in ("id", "domain", "prompt", "gold", "tests", "entry_point", "template"):
        if raw.get(key) is not None and not isinstance(raw[key], str):
            raise _UnusableError("wrong_type", f"{key} must be a string, got {type(raw[key]).__name__}")
    if not isinstance(raw.get("template_seen"), bool | None):
        raise _UnusableError("wrong_type", "template_seen must be true or false")
    if not raw.get("id"):
        raise _UnusableError("no_id", "id is missing")
    if raw.get("domain") not in DOMAINS:
        raise _UnusableError("unknown_domain", f"unknown domain {raw.get('domain')!r}; allowed: {', '.join(DOMAINS)}")
    messages = _messages(raw)
    try:
        json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _UnusableError("not_unicode", "the row holds a lone surrogate", counted=True) from error
    size = sum(len(m["content"]) for m in messages)
    if size > max_chars:
        raise _UnusableError("too_long", f"{size} characters, prompts.max_chars is {max_chars}", counted=True)
    if raw["domain"] == "math" and not (raw.get("gold") or "").strip():
        raise _UnusableError("no_gold", "a math row needs gold")
    if raw["domain"] == "code" and not (raw.get("tests") or "").strip():
        raise _UnusableError("no_tests", "a code row needs tests")
    return {
        "prompt_id": prompt_id(messages),
        "id": raw["id"],
        "domain": raw["domain"],
        "messages": messages,
        "gold": raw.get("gold"),
        "tests": raw.get("tests"),
        "entry_point": raw.get("entry_point"),
        "template": raw.get("template"),
        "template_seen": raw.get("template_seen"),
    }


def _messages(raw: dict[str, Any]) -> list[Message]:
    if (raw.get("prompt") is None) == (raw.get("messages") is None):
        raise _UnusableError("no_prompt", "give exactly one of prompt and messages")
    messages = raw.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": raw["prompt"]}]
    if (
        not isinstance(messages, list)
        or not all(
            isinstance(m, dict) and set(m) == {"role", "content"} and all(isinstance(v, str) for v in m.values())
            for m in messages
        )
        or any(m["role"] not in ROLES for m in messages)
    ):
        raise _UnusableError("wrong_type", f"messages is a list of role ({', '.join(sorted(ROLES))}) and content")
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise _UnusableError("empty", "the prompt is empty", counted=True)
    return [Message(role=m["role"], content=m["content"]) for m in messages]
