"""Prompt intake: converts rows of prompt files to records. Rows that can't be used stop the run or become rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from ..errors import InputError
from ..identities import digest
from ..recipe import Prompts
from ..records import CARRIED, IMPORTED_SCORE, PROMPT, REJECT, CarriedRow, ImportedScoreRow, PromptRow, RejectRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from . import rows, text
from .compared_rows import ComparedRows
from .readers import PromptReader
from .sink import FLUSH_ROWS, Sink
from .table_counts import Split, TableCounts
from .taken_rows import Item, Read, Reject, Repeated, TakenRows, key, labels, reject
from .template_check import TemplateCheck


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
        self.scores = Sink[ImportedScoreRow](parts("scores", IMPORTED_SCORE, "score_id"), num_buckets, trial)
        self.rejected: Counter[str] = Counter()
        """Rejects by reason."""
        self.tables: list[TableCounts] = []
        """Counts of each table that was read."""
        self._rejects: list[pa.Table] = []
        self._new_rejects: list[RejectRow] = []
        # Key of each training prompt in the table -> source -> number of its responses.
        self._num_carried: dict[bytes, dict[str, int]] = {}
        self._taken, self._compared = TakenRows(config, imported), ComparedRows(config)
        self._templates = TemplateCheck()

    @property
    def num_rejects(self) -> int:
        """Rows that were left out because they can't be used."""
        return self.rejected.total()

    def read(self) -> None:
        """Reads all files.

        Held-out files are read first, so that a prompt in both sets is removed from the training set only.

        Raises:
            InputError: a file is missing or gives no prompt, or a row can't be used and `config.invalid` is `stop`.
        """
        if not self._trial:
            self._run.remove_tables("prompts")
        names = labels([*self._config.heldout, *self._config.train])
        num_heldout = len(self._config.heldout)
        for entry, name in zip(self._config.heldout, names[:num_heldout], strict=True):
            self._read_heldout(PromptReader(entry, self._base, name))
        self._compared.read_evaluation_sets(self._base)
        for entry, name in zip(self._config.train, names[num_heldout:], strict=True):
            self._read_train(PromptReader(entry, self._base, name))
        if self._config.train and not self.train.num:
            problem = f"no usable prompt ({', '.join(f'{num} {reason}' for reason, num in self.rejected.items())})"
            raise InputError(", ".join(names[num_heldout:]), 0, problem)
        self._templates.check()
        for sink in (self.train, self.heldout, self.carried, self.scores):
            sink.flush()
        self._flush_rejects()
        rejects = pa.concat_tables([REJECT.empty_table(), *self._rejects])
        if not self._trial:
            self._run.write_table(rejects, "prompts", "rejects.parquet")
            self._run.write_json([table.summary() for table in self.tables], "prompts", "tables.json")

    def _read_heldout(self, reader: PromptReader) -> None:
        counts = self._open_table(reader, "heldout")
        taken = self._taken.read(reader, counts, "heldout_")
        for row in self._collect(self._compared.without_near_duplicates(taken, keep_all=True)):
            self._templates.add_heldout(row)
            self.heldout.add(row)
            self._compared.add_heldout(text.content(row["messages"]), f"{row['file']}:{row['line']}")
        self._close_table(reader)

    def _read_train(self, reader: PromptReader) -> None:
        counts = self._open_table(reader, "train")
        taken = self._compared.without_contaminated(self._taken.read(reader, counts, ""))
        for row in self._collect(self._compared.without_near_duplicates(taken)):
            self._templates.add_train(row)
            self.train.add(row)
        self._close_table(reader)

    def _open_table(self, reader: PromptReader, split: Split) -> TableCounts:
        self.tables.append(TableCounts(reader.file, split, reader.entry.expected_rows))
        return self.tables[-1]

    def _close_table(self, reader: PromptReader) -> None:
        """Completes the counts of the table that was just read.

        Raises:
            InputError: it gave nothing.
        """
        counts = self.tables[-1]
        counts.rows = reader.num_rows
        counts.left_out.update(reader.left_out)
        if (problem := counts.problem()) is not None:
            raise InputError(reader.place, 0, problem)

    def digest(self) -> str:
        """Hash of everything that was read."""
        scores = self.scores.digest() if self.scores.num else None
        return prompts_digest(self._run, self.train.digest(), self.heldout.digest(), self.carried.digest(), scores)

    def _collect(self, read: Iterable[Item]) -> Iterator[PromptRow]:
        """Yields the prompts. Stores their responses, those of rows that repeat a prompt, and the rejects."""
        for item in read:
            if isinstance(item, Reject):
                self._store_reject(item)
                continue
            counts = self.tables[-1]
            if isinstance(item, Read):
                counts.prompts += 1
                if self._imported and counts.split == "train":
                    self._num_carried[key(item.prompt)] = {}
                self._store_responses(item)
                yield item.prompt
            elif key(item.prompt) in self._num_carried:
                counts.merged += 1
                self._store_responses(item)
            else:
                self._store_reject(
                    reject(item, "duplicate", f"same prompt as {item.first}, which is no training prompt")
                )

    def _store_responses(self, item: Read | Repeated) -> None:
        if not item.carried.responses:
            return
        found = rows.carried_rows(item.prompt, item.carried.responses, self._num_carried[key(item.prompt)])
        self.tables[-1].responses += len(found)
        for response in found:
            self.carried.add(response)
        for score in rows.score_rows(found, item.carried.scores):
            self.scores.add(score)

    def _store_reject(self, item: Reject) -> None:
        self._new_rejects.append(
            {
                "stage": "prompts",
                "id": item.place,
                "reason": item.reason,
                "detail": item.detail[:500],
                "domain": item.domain,
            }
        )
        self.rejected[item.reason] += 1
        counts = self.tables[-1]
        counts.rejected[item.reason] += 1
        counts.first_reject = counts.first_reject or f"{item.place}: {item.detail}"
        if len(self._new_rejects) >= FLUSH_ROWS:
            self._flush_rejects()

    def _flush_rejects(self) -> None:
        self._rejects.append(pa.Table.from_pylist(self._new_rejects, schema=REJECT))
        self._new_rejects = []


def prompts_digest(run: RunDir, train: str, heldout: str, responses: str, scores: str | None) -> str:
    """Hash of the stage's output, from the hashes of its tables.

    Args:
        scores: None if no response has a score.
    """
    rejects = run.read_table("prompts", "rejects.parquet").to_pylist()
    return digest(train, heldout, responses, rejects, *([] if scores is None else [scores]))
