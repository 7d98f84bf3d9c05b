"""Rows of the tables that can be used, and rejects in place of those that can't. Exact duplicates are found here."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..recipe import Prompts, PromptTable
from ..records import Domain, PromptRow
from . import rows, text
from .readers import Line, PromptReader
from .rows import Carried
from .table_counts import TableCounts
from .unusable import UnusableError


class Read(NamedTuple):
    """A usable row: its PROMPT row, and its responses."""

    prompt: PromptRow
    carried: Carried


class Repeated(NamedTuple):
    """A row with responses to a prompt that an earlier training row has."""

    prompt: PromptRow
    carried: Carried
    first: str
    """Place of the earlier row."""


class Reject(NamedTuple):
    """A row that the intake leaves out. The domain is None if the row was rejected before its domain was known."""

    place: str
    reason: str
    detail: str
    domain: Domain | None = None


Item = Read | Repeated | Reject


def reject(read: Read | Repeated, reason: str, detail: str) -> Reject:
    return Reject(f"{read.prompt['file']}:{read.prompt['line']}", reason, detail, read.prompt["domain"])


def key(row: PromptRow) -> bytes:
    """Half of a prompt's identity."""
    return bytes.fromhex(row["prompt_id"][:32])


def _answer(row: PromptRow) -> int:
    return hash((row["domain"], row["gold"], row["tests"], row["entry_point"]))


class _First(NamedTuple):
    """Where a prompt was first read."""

    file: int
    """Number of the file."""
    line: int
    answer: int
    """Hash of what its responses are checked against; differs from process to process."""


class TakenRows:
    """Reads the tables one after the other.

    Args:
        imported: names of the sources whose responses rows may contain.
    """

    def __init__(self, config: Prompts, imported: Collection[str]) -> None:
        self._config, self._imported = config, imported
        # Key of a prompt -> where it was first read. A million entries take 200 MB.
        self._seen: dict[bytes, _First] = {}
        self._files: list[str] = []

    def read(self, reader: PromptReader, counts: TableCounts, prefix: str) -> Iterator[Item]:
        """The reader's rows. Rows that can't be used and exact duplicates become rejects.

        Args:
            counts: gets the number of rows that are left out.
            prefix: prefix of the rejects' reasons; the held-out set's have one.

        Raises:
            InputError: a row can't be used, and `prompts.invalid` is `stop`.
        """
        last = self._last_of_sample(reader)
        for line in reader.lines():
            try:
                row, carried = self._usable_row(line, reader.entry)
                if carried.responses and prefix:
                    raise UnusableError("wrong_type", "a held-out row carries no responses")
                carried = self._known_sources(carried, reader.entry, counts)
            except UnusableError as unusable:
                if self._config.invalid == "stop" and not unusable.always_reject:
                    raise InputError(line.place, line.number, unusable.problem) from None
                yield Reject(f"{line.file}:{line.number}", prefix + unusable.reason, unusable.problem)
                continue
            if last is not None and row["prompt_id"] > last:
                counts.left_out["sample"] += 1
                continue
            row["file"], row["line"] = line.file, line.number
            first = self._seen.setdefault(
                key(row), this := _First(self._file_number(line.file), line.number, _answer(row))
            )
            if first is not this:
                yield self._repeated(row, carried, first, prefix)
                continue
            if self._config.tag_language:
                row["language"] = text.language(text.content(row["messages"]))
            yield Read(row, carried)

    def _usable_row(self, line: Line, entry: PromptTable) -> tuple[PromptRow, Carried]:
        if isinstance(line.row, UnusableError):
            raise line.row
        return rows.prompt_row(line.row, self._config.max_chars, self._config.normalise, entry)

    def _last_of_sample(self, reader: PromptReader) -> str | None:
        """The largest identity of the prompts that `sample` takes; None if it takes all."""
        if reader.entry.sample is None:
            return None
        identities: set[str] = set()
        for line in reader.lines():
            try:
                identities.add(self._usable_row(line, reader.entry)[0]["prompt_id"])
            except UnusableError:
                continue  # the second reading reports it
        taken = heapq.nsmallest(reader.entry.sample, identities)
        return taken[-1] if len(identities) > len(taken) else None

    def _repeated(self, row: PromptRow, carried: Carried, first: _First, prefix: str) -> Repeated | Reject:
        place = f"{self._files[first.file]}:{first.line}"
        reason, detail = "duplicate", f"same prompt as {place}"
        if carried.responses and not prefix:
            if first.answer == _answer(row):
                return Repeated(row, carried, place)
            reason, detail = "contradiction", f"{detail}, but another gold, tests, entry point or domain"
        return Reject(f"{row['file']}:{row['line']}", f"{prefix}{reason}", detail, row["domain"])

    def _file_number(self, file: str) -> int:
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        return len(self._files) - 1

    def _known_sources(self, carried: Carried, entry: PromptTable, counts: TableCounts) -> Carried:
        """The responses of imported sources. Where rows name their source, those of others are counted.

        Raises:
            UnusableError: a source is unknown.
        """
        unknown = [source for source in carried.responses if source not in self._imported]
        if not unknown:
            return carried
        if entry.response_rows is None:
            imported = ", ".join(sorted(self._imported)) or "none"
            raise UnusableError("unknown_source", f"responses of {unknown[0]!r}; imported sources: {imported}")
        for source in unknown:
            counts.left_out[f"response_rows ({source})"] += len(carried.responses[source])
        return Carried(
            {s: texts for s, texts in carried.responses.items() if s in self._imported},
            {r: {s: v for s, v in by.items() if s in self._imported} for r, by in carried.scores.items()},
        )


def labels(entries: Sequence[str | PromptTable]) -> list[str]:
    """Names of the tables in records: the file's name, with its folders where two files have one name.

    A table that is named twice gets a number.
    """
    names = [entry if isinstance(entry, str) else entry.name for entry in entries]
    short = [
        Path(name).name if isinstance(entry, str) or entry.path else name
        for name, entry in zip(names, entries, strict=True)
    ]
    found: list[str] = []
    for name, label in zip(names, short, strict=True):
        chosen = label if short.count(label) == 1 else name
        found.append(f"{chosen}#{found.count(chosen) + 1}" if chosen in found else chosen)
    return found
