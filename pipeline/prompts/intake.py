"""Prompt intake: rows of files to prompt records; what is left out is named by file and line, or is a reject."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ..errors import InputError
from ..identities import digest
from ..recipe import Prompts
from ..records import CARRIED, PROMPT, REJECT, CarriedRow, PromptRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from . import rows, text
from .contamination import EvaluationIndex
from .duplicates import NearDuplicateIndex
from .readers import PromptReader
from .rows import UnusableError
from .sink import FLUSH_ROWS, Sink


class Read(NamedTuple):
    """A usable row: PROMPT, and the CARRIED rows of the responses that came with it."""

    prompt: PromptRow
    carried: list[CarriedRow]


class Reject(NamedTuple):
    """A row that the intake leaves out. The domain is none where the row could not be read so far."""

    place: str
    reason: str
    detail: str
    domain: str | None = None


COMPARED_ROWS = 512
"""Rows whose signatures are computed together; changes nothing but the time."""


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

        def parts(folder: str, schema: pa.Schema, key: str) -> Parts:
            return Parts(run, f"prompts/{folder}", schema, key)

        self.train = Sink[PromptRow](parts("train", PROMPT, "prompt_id"), num_buckets, trial)
        self.heldout = Sink[PromptRow](parts("heldout", PROMPT, "prompt_id"), num_buckets, trial)
        self.carried = Sink[CarriedRow](parts("responses", CARRIED, "carried_id"), num_buckets, trial)
        self.rejected: Counter[str] = Counter()
        """Rejects by reason."""
        self._rejects: list[pa.Table] = []
        self._new_rejects: list[dict[str, str | None]] = []
        # Half of a prompt's identity -> where it was read first; a million of them take 150 MB.
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._files: list[str] = []
        self._near = NearDuplicateIndex(config.near_duplicates) if config.near_duplicates is not None else None
        # File and line of each row of the index.
        self._near_files, self._near_lines = array("l"), array("q")
        self._evaluation = EvaluationIndex(config.contamination) if config.contamination is not None else None
        self._trained_on: set[str] = set()
        self._to_check: list[tuple[str, int, str, bool | None]] = []

    @property
    def num_rejects(self) -> int:
        """Rows that were left out."""
        return self.rejected.total()

    def read(self) -> None:
        """Reads all files.

        Held-out files are read first: a training prompt that also stands there is a reject, never the other way round.

        Raises:
            InputError: a file is missing, or a row can't be used and `config.invalid` is `stop`.
        """
        if not self._trial:
            self._run.remove_tables("prompts")
        for entry in self._config.heldout:
            for row, _ in self._kept(
                self._distinct(self._usable(PromptReader(entry, self._base), "heldout_"), keep=True)
            ):
                if row["template"] is not None:
                    self._to_check.append((row["file"], row["line"], row["template"], row["template_seen"]))
                self.heldout.add(row)
                if self._evaluation is not None and self._evaluation.heldout:
                    self._evaluation.add(text.content(row["messages"]), f"{row['file']}:{row['line']}")
        self._read_evaluation_sets()
        for entry in self._config.train:
            usable = self._usable(PromptReader(entry, self._base), "")
            for row, carried in self._kept(self._distinct(self._clean(usable))):
                if row["template"] is not None:
                    self._trained_on.add(row["template"])
                self.train.add(row)
                for response in carried:
                    self.carried.add(response)
        if not self.train.num:
            names = [PromptReader(entry, self._base).file for entry in self._config.train]
            why = f" ({', '.join(f'{num} {reason}' for reason, num in self.rejected.items())})" if self.rejected else ""
            raise InputError(", ".join(names), 0, f"no usable prompt{why}")
        self._check_templates()
        self.train.flush()
        self.heldout.flush()
        self.carried.flush()
        self._flush_rejects()
        rejects = pa.concat_tables([REJECT.empty_table(), *self._rejects])
        if not self._trial:
            self._run.write_table(rejects, "prompts", "rejects.parquet")

    def digest(self) -> str:
        """Hash of all that was read."""
        rejects = self._run.read_table("prompts", "rejects.parquet")
        return digest(self.train.digest(), self.heldout.digest(), self.carried.digest(), rejects.to_pylist())

    def _usable(self, source: PromptReader, prefix: str) -> Iterator[Read | Reject]:
        """The source's rows; those that can't be used and exact duplicates are rejects."""
        config, file = self._config, source.file
        self._files.append(file)
        for line, raw in source.rows():
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                row, responses = rows.prompt_row(raw, config.max_chars, config.normalise, source.entry)
                if responses and prefix:
                    raise UnusableError("wrong_type", "a held-out row carries no responses")
                self._check_carried(responses)
            except UnusableError as unusable:
                if config.invalid == "stop" and not unusable.counted:
                    raise InputError(source.place, line, unusable.problem) from None
                yield Reject(f"{file}:{line}", prefix + unusable.reason, unusable.problem)
                continue
            key = bytes.fromhex(row["prompt_id"][:32])
            if (first := self._seen.get(key)) is not None:
                detail = f"same prompt as {self._files[first[0]]}:{first[1]}"
                yield Reject(f"{file}:{line}", f"{prefix}duplicate", detail, row["domain"])
                continue
            self._seen[key] = (len(self._files) - 1, line)
            row["file"], row["line"] = file, line
            if config.tag_language:
                row["language"] = text.language(text.content(row["messages"]))
            yield Read(row, rows.carried_rows(row, responses))

    def _read_evaluation_sets(self) -> None:
        """Fills the index of evaluation prompts.

        Raises:
            InputError: a row has no prompt: a set that can't be read whole can't be vouched for.
        """
        if self._evaluation is None or self._config.contamination is None:
            return
        for entry in self._config.contamination.sets:
            source = PromptReader(entry, self._base)
            for line, raw in source.rows():
                try:
                    if isinstance(raw, UnusableError):
                        raise raw
                    content = text.content(rows.conversation(raw, source.entry))
                except UnusableError as unusable:
                    if unusable.reason == "empty":  # no word to be found anywhere
                        continue
                    raise InputError(source.place, line, unusable.problem) from None
                self._evaluation.add(content, f"{source.file}:{line}")
        self._evaluation.close()

    def _clean(self, read: Iterable[Read | Reject]) -> Iterator[Read | Reject]:
        """Rows that hold too much of an evaluation prompt are rejects."""
        if self._evaluation is None:
            yield from read
            return
        for item in read:
            if isinstance(item, Read):
                overlap = self._evaluation.overlap(text.content(item.prompt["messages"]))
                if overlap is not None:
                    yield _reject(item, "contaminated", f"holds {overlap}")
                    continue
            yield item

    def _distinct(self, read: Iterable[Read | Reject], *, keep: bool = False) -> Iterator[Read | Reject]:
        """Rows that nearly repeat an earlier one are rejects, unless all are to be kept; held-out rows are."""
        if self._near is None:
            yield from read
            return
        waiting: list[Read | Reject] = []
        for item in read:
            waiting.append(item)
            if len(waiting) == COMPARED_ROWS:
                yield from self._compared(waiting, keep)
                waiting = []
        yield from self._compared(waiting, keep)

    def _compared(self, items: list[Read | Reject], keep: bool) -> Iterator[Read | Reject]:
        assert self._near is not None
        usable = [item.prompt for item in items if isinstance(item, Read)]
        contents = [text.content(prompt["messages"]) for prompt in usable]
        matches = iter(self._near.take(contents, [prompt["domain"] for prompt in usable], keep=keep))
        for item in items:
            if isinstance(item, Read):
                match = next(matches)
                if match is not None:
                    first = f"{self._files[self._near_files[match.row]]}:{self._near_lines[match.row]}"
                    yield _reject(item, "near_duplicate", f"similarity {match.similarity:.2f} to {first}")
                    continue
                self._near_files.append(len(self._files) - 1)
                self._near_lines.append(item.prompt["line"])
            yield item

    def _kept(self, read: Iterable[Read | Reject]) -> Iterator[Read]:
        """The usable rows; the others go to the rejects."""
        for item in read:
            if isinstance(item, Read):
                yield item
            else:
                self._reject(item)

    def _check_carried(self, responses: dict[str, list[str]]) -> None:
        for source in responses:
            if source not in self._imported:
                there = ", ".join(sorted(self._imported)) or "none"
                raise UnusableError("unknown_source", f"responses of {source!r}; imported sources: {there}")

    def _reject(self, reject: Reject) -> None:
        self._new_rejects.append(
            {
                "stage": "prompts",
                "id": reject.place,
                "reason": reject.reason,
                "detail": reject.detail[:500],
                "domain": reject.domain,
            }
        )
        self.rejected[reject.reason] += 1
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


def _reject(read: Read, reason: str, detail: str) -> Reject:
    return Reject(f"{read.prompt['file']}:{read.prompt['line']}", reason, detail, read.prompt["domain"])
