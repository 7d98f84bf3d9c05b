"""Contamination of suites: the rows that the run's training prompts contain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from ..prompts import text
from ..prompts.contamination import EvaluationIndex
from ..recipe import Contamination, SuiteContamination
from ..records import OVERLAP, OverlapRow, PromptRow
from ..storage.parts import Parts
from .suites import LoadedSuite


def find(
    loaded: Sequence[LoadedSuite], training: Parts, num_buckets: int, config: SuiteContamination
) -> dict[str, dict[str, OverlapRow]]:
    """Suite -> prompt id -> OVERLAP row of the training prompt with the largest overlap. Omits clean suites.

    The overlap is measured in word n-grams, as when the intake removes evaluation prompts from the training set. Here a
    training prompt counts for every row that it contains, not only for the row with the largest overlap.
    """
    indexes = {s.config.name: _Index(s, config) for s in loaded}
    if not indexes:
        return {}
    for bucket in range(num_buckets):
        table = training.read(bucket, columns=["messages", "file", "line"])
        for prompt in table.to_pylist():
            content, location = text.content(prompt["messages"]), f"{prompt['file']}:{prompt['line']}"
            for index in indexes.values():
                index.add_training_prompt(content, location)
    return {name: index.overlaps for name, index in indexes.items() if index.overlaps}


class _Index:
    """One suite's rows, and their overlaps with training prompts."""

    def __init__(self, suite: LoadedSuite, config: SuiteContamination) -> None:
        self.overlaps: dict[str, OverlapRow] = {}
        self._suite = suite.config.name
        self._evaluation = EvaluationIndex(Contamination(n=config.n, threshold=config.threshold))
        # Rows with the same words share one entry of the index.
        self._rows: dict[str, list[PromptRow]] = defaultdict(list)
        first_with_words: dict[tuple[str, ...], str] = {}
        for prompt in suite.prompts:
            content = suite.contents[prompt["prompt_id"]]
            first = first_with_words.setdefault(tuple(text.words(content)), prompt["prompt_id"])
            self._evaluation.add(content, first)
            self._rows[first].append(prompt)
        self._evaluation.close()

    def add_training_prompt(self, content: str, location: str) -> None:
        """Records the rows that a training prompt contains.

        Args:
            location: file:line of the training prompt.
        """
        for overlap in self._evaluation.overlaps(content):
            for row in self._rows[overlap.place]:
                known = self.overlaps.get(row["prompt_id"])
                if known is None or overlap.num > known["num"]:
                    self.overlaps[row["prompt_id"]] = {
                        "suite": self._suite,
                        "id": row["id"],
                        "prompt_id": row["prompt_id"],
                        "place": f"{row['file']}:{row['line']}",
                        "training": location,
                        "num": overlap.num,
                        "of": overlap.of,
                    }


def table(rows: Sequence[OverlapRow]) -> pa.Table:
    """The OVERLAP table."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=OVERLAP)
