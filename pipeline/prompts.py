"""Prompt intake: JSONL rows to prompt records; what can't be used is named by file and line, or written as a reject."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fusechat.pipeline.config import DOMAINS, Prompts
from fusechat.pipeline.errors import InputError
from fusechat.pipeline.records import CARRIED, PROMPT, REJECT, Message, digest, prompt_id
from fusechat.pipeline.shards import Parts, RunDir

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


FLUSH_ROWS = 20_000
"""Rows in memory before they are written: an intake of millions of prompts takes no more room than one of thousands."""


class Sink:
    """Rows on their way to a table in the run directory."""

    def __init__(self, parts: Parts, num_buckets: int, trial: bool) -> None:
        self.parts, self._num_buckets, self._trial = parts, num_buckets, trial
        self._rows: list[dict[str, Any]] = []
        self.num = 0

    def add(self, row: dict[str, Any]) -> None:
        """One row."""
        self._rows.append(row)
        self.num += 1
        if len(self._rows) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory, if this is no trial."""
        if not self._trial:
            self.parts.write_all(self._rows, self._num_buckets)
        self._rows = []

    def digest(self) -> str:
        """Hash of the table, whatever parts it lies in."""
        return digest([digest(self.parts.read(b).to_pylist()) for b in range(self._num_buckets)])


class Intake:
    """The recipe's prompt files on their way into the run directory: usable prompts, what they carry, rejects.

    Args:
        base: folder that relative paths start at.
        imported: names of the sources whose responses rows may carry.
        trial: reads all, and leaves the run directory as it is.
    """

    def __init__(
        self,
        config: Prompts,
        base: Path,
        run: RunDir,
        num_buckets: int,
        imported: Collection[str],
        *,
        trial: bool = False,
    ) -> None:
        self._config, self._base, self._run, self._imported, self._trial = config, base, run, imported, trial

        def sink(folder: str, schema: pa.Schema, key: str) -> Sink:
            return Sink(Parts(run, f"prompts/{folder}", schema, key), num_buckets, trial)

        self.train = sink("train", PROMPT, "prompt_id")
        self.heldout = sink("heldout", PROMPT, "prompt_id")
        self.carried = sink("responses", CARRIED, "carried_id")
        self.num_rejects = 0
        self._rejects: list[pa.Table] = []
        self._new_rejects: list[dict[str, str]] = []
        # Half of a prompt's identity -> where it was read first; a million of them take 150 MB.
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._files: list[str] = []
        self._trained_on: set[str] = set()
        self._to_check: list[tuple[str, int, str, bool | None]] = []

    def read(self) -> None:
        """Reads all files.

        Held-out files are read first: a training prompt that also stands there is a reject, never the other way round.

        Raises:
            InputError: a file is missing, or a row can't be used and `config.invalid` is `stop`.
        """
        if not self._trial:
            self._run.remove_tables("prompts")
        for name in self._config.heldout:
            for row, _ in self._rows(name, "heldout_"):
                if row["template"] is not None:
                    self._to_check.append((row["file"], row["line"], row["template"], row["template_seen"]))
                self.heldout.add(row)
        for name in self._config.train:
            for row, carried in self._rows(name, ""):
                if row["template"] is not None:
                    self._trained_on.add(row["template"])
                self.train.add(row)
                for response in carried:
                    self.carried.add(response)
        if not self.train.num:
            raise InputError(", ".join(self._config.train), 0, "no usable prompt")
        self._check_templates()
        for sink in (self.train, self.heldout, self.carried):
            sink.flush()
        self._flush_rejects()
        rejects = pa.concat_tables([REJECT.empty_table(), *self._rejects])
        if not self._trial:
            self._run.write_table(rejects, "prompts", "rejects.parquet")

    def digest(self) -> str:
        """Hash of all that was read."""
        rejects = self._run.read_table("prompts", "rejects.parquet")
        return digest(self.train.digest(), self.heldout.digest(), self.carried.digest(), rejects.to_pylist())

    def _rows(self, name: str, prefix: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        path = self._base / name
        self._files.append(path.name)
        for line, raw in _lines(path):
            try:
                row, responses = _row(raw, self._config.max_chars)
                if responses and prefix:
                    raise _UnusableError("wrong_type", "a held-out row carries no responses")
                self._check_carried(responses)
            except _UnusableError as unusable:
                if self._config.invalid == "stop" and not unusable.counted:
                    raise InputError(str(path), line, unusable.problem) from None
                self._reject(path, line, prefix + unusable.reason, unusable.problem)
                continue
            key = bytes.fromhex(row["prompt_id"][:32])
            if (first := self._seen.get(key)) is not None:
                self._reject(path, line, f"{prefix}duplicate", f"same prompt as {self._files[first[0]]}:{first[1]}")
                continue
            self._seen[key] = (len(self._files) - 1, line)
            yield {**row, "file": path.name, "line": line}, _carried(row, responses)

    def _check_carried(self, responses: dict[str, list[str]]) -> None:
        for source in responses:
            if source not in self._imported:
                there = ", ".join(sorted(self._imported)) or "none"
                raise _UnusableError("unknown_source", f"responses of {source!r}; imported sources: {there}")

    def _reject(self, path: Path, line: int, reason: str, detail: str) -> None:
        self._new_rejects.append(
            {"stage": "prompts", "id": f"{path.name}:{line}", "reason": reason, "detail": detail[:500]}
        )
        self.num_rejects += 1
        if len(self._new_rejects) >= FLUSH_ROWS:
            self._flush_rejects()

    def _flush_rejects(self) -> None:
        self._rejects.append(pa.Table.from_pylist(self._new_rejects, schema=REJECT))
        self._new_rejects = []

    def _check_templates(self) -> None:
        """A held-out prompt shares its template with the training set only where its row says so.

        Raises:
            InputError: `template_seen` is not what the training set says.
        """
        for file, line, template, said in self._to_check:
            seen = template in self._trained_on
            if seen and said is not True:
                problem = f"the training set uses template {template!r} too; say template_seen: true if that is meant"
                raise InputError(file, line, problem)
            if said is True and not seen:
                problem = f"template_seen is true, but the training set does not use template {template!r}"
                raise InputError(file, line, problem)


class _UnusableError(Exception):
    """A row that can't be used. `counted` rows are rejects always; the others stop the run unless told otherwise."""

    def __init__(self, reason: str, problem: str, *, counted: bool = False) -> None:
        self.reason, self.problem, self.counted = reason, problem, counted
        super().__init__(problem)


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


def _row(line: bytes, max_chars: int) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """A prompt, and the responses that it carries."""
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
    prompt = {
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
    return prompt, _responses(raw)


def _responses(raw: dict[str, Any]) -> dict[str, list[str]]:
    found = raw.get("responses") or {}
    if not isinstance(found, dict) or not all(
        isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in found.values()
    ):
        raise _UnusableError("wrong_type", "responses maps the name of a source to a list of texts")
    return found


def _carried(prompt: dict[str, Any], responses: dict[str, list[str]]) -> list[dict[str, Any]]:
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
