"""Prompt intake: converts rows of prompt files to records. Rows that can't be used stop the run or become rejects."""

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
from ..records import CARRIED, PROMPT, REJECT, CarriedRow, Domain, PromptRow, RejectRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from . import rows, text
from .contamination import EvaluationIndex
from .duplicates import NearDuplicateIndex
from .readers import PromptReader
from .rows import UnusableError
from .sink import FLUSH_ROWS, Sink
from .template_check import TemplateCheck


class Read(NamedTuple):
    """A usable row: its PROMPT row, and the CARRIED rows of its responses."""

    prompt: PromptRow
    carried: list[CarriedRow]


class Reject(NamedTuple):
    """A row that the intake leaves out. The domain is None if the row was rejected before its domain was known."""

    place: str
    reason: str
    detail: str
    domain: Domain | None = None


COMPARED_ROWS = 512
"""Rows whose signatures are computed together. Affects only the speed."""


class Intake:
    """Reads the recipe's prompt files into the run directory: usable prompts, their responses, and rejects.

    Args:
        base: folder that relative paths are relative to.
        imported: names of the sources whose responses rows may contain.
        trial: reads everything, but does not change the run directory.
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
        self._new_rejects: list[RejectRow] = []
        # Half of a prompt's identity -> file number and line where it was first read. A million entries take 150 MB.
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._files: list[str] = []
        self._near = NearDuplicateIndex(config.near_duplicates) if config.near_duplicates is not None else None
        # File number and line of each row of the index.
        self._near_files, self._near_lines = array("l"), array("q")
        self._evaluation = EvaluationIndex(config.contamination) if config.contamination is not None else None
        self._templates = TemplateCheck()

    @property
    def num_rejects(self) -> int:
        """Rows that were left out."""
        return self.rejected.total()

    def read(self) -> None:
        """Reads all files.

        Held-out files are read first, so that a prompt in both sets is removed from the training set only.

        Raises:
            InputError: a file is missing, or a row can't be used and `config.invalid` is `stop`.
        """
        if not self._trial:
            self._run.remove_tables("prompts")
        for entry in self._config.heldout:
            usable = self._read_rows(PromptReader(entry, self._base), "heldout_")
            for row, _ in self._collect_rejects(self._reject_near_duplicates(usable, keep_all=True)):
                self._templates.add_heldout(row)
                self.heldout.add(row)
                if self._evaluation is not None and self._evaluation.heldout:
                    self._evaluation.add(text.content(row["messages"]), f"{row['file']}:{row['line']}")
        self._read_evaluation_sets()
        for entry in self._config.train:
            usable = self._reject_contaminated(self._read_rows(PromptReader(entry, self._base), ""))
            for row, carried in self._collect_rejects(self._reject_near_duplicates(usable)):
                self._templates.add_train(row)
                self.train.add(row)
                for response in carried:
                    self.carried.add(response)
        if self._config.train and not self.train.num:
            names = [PromptReader(entry, self._base).file for entry in self._config.train]
            counts = ", ".join(f"{num} {reason}" for reason, num in self.rejected.items())
            raise InputError(", ".join(names), 0, "no usable prompt" + (f" ({counts})" if counts else ""))
        self._templates.check()
        self.train.flush()
        self.heldout.flush()
        self.carried.flush()
        self._flush_rejects()
        rejects = pa.concat_tables([REJECT.empty_table(), *self._rejects])
        if not self._trial:
            self._run.write_table(rejects, "prompts", "rejects.parquet")

    def digest(self) -> str:
        """Hash of everything that was read."""
        rejects = self._run.read_table("prompts", "rejects.parquet")
        return digest(self.train.digest(), self.heldout.digest(), self.carried.digest(), rejects.to_pylist())

    def _read_rows(self, reader: PromptReader, prefix: str) -> Iterator[Read | Reject]:
        """The reader's rows. Rows that can't be used and exact duplicates become rejects.

        Args:
            prefix: prefix of the rejects' reasons.
        """
        config, file = self._config, reader.file
        self._files.append(file)
        for line, raw in reader.rows():
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                row, responses = rows.prompt_row(raw, config.max_chars, config.normalise, reader.entry)
                if responses and prefix:
                    raise UnusableError("wrong_type", "a held-out row carries no responses")
                self._check_carried(responses)
            except UnusableError as unusable:
                if config.invalid == "stop" and not unusable.always_reject:
                    raise InputError(reader.place, line, unusable.problem) from None
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
            InputError: a row has no prompt. Without it, training prompts can't be checked against the whole set.
        """
        if self._evaluation is None or self._config.contamination is None:
            return
        for entry in self._config.contamination.sets:
            reader = PromptReader(entry, self._base)
            for line, raw in reader.rows():
                try:
                    if isinstance(raw, UnusableError):
                        raise raw
                    content = text.content(rows.conversation(raw, reader.entry))
                except UnusableError as unusable:
                    if unusable.reason == "empty":  # it has no words that a training prompt could contain
                        continue
                    raise InputError(reader.place, line, unusable.problem) from None
                self._evaluation.add(content, f"{reader.file}:{line}")
        self._evaluation.close()

    def _reject_contaminated(self, read: Iterable[Read | Reject]) -> Iterator[Read | Reject]:
        """Rejects rows that contain too much of an evaluation prompt."""
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

    def _reject_near_duplicates(
        self, read: Iterable[Read | Reject], *, keep_all: bool = False
    ) -> Iterator[Read | Reject]:
        """Rejects rows that nearly repeat an earlier one.

        Args:
            keep_all: only adds the rows to the index; held-out rows are all kept.
        """
        if self._near is None:
            yield from read
            return
        batch: list[Read | Reject] = []
        for item in read:
            batch.append(item)
            if len(batch) == COMPARED_ROWS:
                yield from self._compare_batch(batch, keep_all)
                batch = []
        yield from self._compare_batch(batch, keep_all)

    def _compare_batch(self, items: list[Read | Reject], keep_all: bool) -> Iterator[Read | Reject]:
        assert self._near is not None
        usable = [item.prompt for item in items if isinstance(item, Read)]
        contents = [text.content(prompt["messages"]) for prompt in usable]
        matches = iter(self._near.add(contents, [prompt["domain"] for prompt in usable], keep_all=keep_all))
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

    def _collect_rejects(self, read: Iterable[Read | Reject]) -> Iterator[Read]:
        """Yields the usable rows, and stores the rejects."""
        for item in read:
            if isinstance(item, Read):
                yield item
            else:
                self._store_reject(item)

    def _check_carried(self, responses: dict[str, list[str]]) -> None:
        for source in responses:
            if source not in self._imported:
                imported = ", ".join(sorted(self._imported)) or "none"
                raise UnusableError("unknown_source", f"responses of {source!r}; imported sources: {imported}")

    def _store_reject(self, reject: Reject) -> None:
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


def _reject(read: Read, reason: str, detail: str) -> Reject:
    return Reject(f"{read.prompt['file']}:{read.prompt['line']}", reason, detail, read.prompt["domain"])
