"""Compares rows with evaluation sets and with earlier rows: contamination and near duplicates."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from ..recipe import Prompts
from . import rows, text
from .contamination import EvaluationIndex
from .duplicates import NearDuplicateIndex
from .readers import PromptReader
from .taken_rows import Item, Read, reject
from .unusable import UnusableError

BATCH_ROWS = 512
"""Rows whose signatures are computed together. Affects only the speed."""


class ComparedRows:
    """Replaces rows that contain an evaluation prompt, or nearly repeat an earlier row, by rejects."""

    def __init__(self, config: Prompts) -> None:
        self._config = config
        self._near = NearDuplicateIndex(config.near_duplicates) if config.near_duplicates is not None else None
        # File number and line of each row of the index.
        self._files: list[str] = []
        self._near_files, self._near_lines = array("l"), array("q")
        self._evaluation = EvaluationIndex(config.contamination) if config.contamination is not None else None

    def add_heldout(self, content: str, place: str) -> None:
        """Adds a held-out prompt to the evaluation prompts, if the recipe says so."""
        if self._evaluation is not None and self._evaluation.heldout:
            self._evaluation.add(content, place)

    def read_evaluation_sets(self, base: Path) -> None:
        """Fills the index of evaluation prompts.

        Raises:
            InputError: a row has no prompt. Without it, training prompts can't be checked against the whole set.
        """
        if self._evaluation is None or self._config.contamination is None:
            return
        for entry in self._config.contamination.sets:
            reader = PromptReader(entry, base)
            for line in reader.lines():
                try:
                    if isinstance(line.row, UnusableError):
                        raise line.row
                    content = text.content(rows.conversation(line.row, reader.entry))
                except UnusableError as unusable:
                    if unusable.reason == "empty":  # it has no words that a training prompt could contain
                        continue
                    raise InputError(line.place, line.number, unusable.problem) from None
                self._evaluation.add(content, f"{line.file}:{line.number}")
        self._evaluation.close()

    def without_contaminated(self, read: Iterable[Item]) -> Iterator[Item]:
        """Rejects rows that contain too much of an evaluation prompt."""
        if self._evaluation is None:
            yield from read
            return
        for item in read:
            if isinstance(item, Read):
                overlap = self._evaluation.overlap(text.content(item.prompt["messages"]))
                if overlap is not None:
                    yield reject(item, "contaminated", f"holds {overlap}")
                    continue
            yield item

    def without_near_duplicates(self, read: Iterable[Item], *, keep_all: bool = False) -> Iterator[Item]:
        """Rejects rows that nearly repeat an earlier one.

        Args:
            keep_all: only adds the rows to the index; held-out rows are all kept.
        """
        if self._near is None:
            yield from read
            return
        batch: list[Item] = []
        for item in read:
            batch.append(item)
            if len(batch) == BATCH_ROWS:
                yield from self._compare_batch(batch, keep_all)
                batch = []
        yield from self._compare_batch(batch, keep_all)

    def _compare_batch(self, items: list[Item], keep_all: bool) -> Iterator[Item]:
        assert self._near is not None
        usable = [item.prompt for item in items if isinstance(item, Read)]
        contents = [text.content(prompt["messages"]) for prompt in usable]
        matches = iter(self._near.add(contents, [prompt["domain"] for prompt in usable], keep_all=keep_all))
        for item in items:
            if isinstance(item, Read):
                match = next(matches)
                if match is not None:
                    first = f"{self._files[self._near_files[match.row]]}:{self._near_lines[match.row]}"
                    yield reject(item, "near_duplicate", f"similarity {match.similarity:.2f} to {first}")
                    continue
                if not self._files or self._files[-1] != item.prompt["file"]:
                    self._files.append(item.prompt["file"])
                self._near_files.append(len(self._files) - 1)
                self._near_lines.append(item.prompt["line"])
            yield item
