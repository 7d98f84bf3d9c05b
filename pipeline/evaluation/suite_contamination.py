"""Contamination of suites: which of their rows the run's own training prompts hold."""

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
    """Suite -> prompt id -> OVERLAP row of the training prompt that holds most of it; suites without one are left out.

    By n-grams of words, as the intake takes evaluation prompts out of the training set; here a training prompt counts
    for every row that it holds, not only for the one that it holds most of.
    """
    indexes = {s.config.name: _Index(s, config) for s in loaded}
    if not indexes:
        return {}
    for bucket in range(num_buckets):
        table = training.read(bucket, columns=["messages", "file", "line"])
        for prompt in table.to_pylist():
            content, place = text.content(prompt["messages"]), f"{prompt['file']}:{prompt['line']}"
            for index in indexes.values():
                index.hold(content, place)
    return {name: index.found for name, index in indexes.items() if index.found}


class _Index:
    """One suite's rows, and what was found of them."""

    def __init__(self, suite: LoadedSuite, config: SuiteContamination) -> None:
        self.found: dict[str, OverlapRow] = {}
        self._suite = suite.config.name
        self._evaluation = EvaluationIndex(Contamination(n=config.n, threshold=config.threshold))
        # Rows of the same words are one to the index.
        self._rows: dict[str, list[PromptRow]] = defaultdict(list)
        firsts: dict[tuple[str, ...], str] = {}
        for prompt in suite.prompts:
            content = suite.contents[prompt["prompt_id"]]
            first = firsts.setdefault(tuple(text.words(content)), prompt["prompt_id"])
            self._evaluation.add(content, first)
            self._rows[first].append(prompt)
        self._evaluation.close()

    def hold(self, content: str, training: str) -> None:
        """A training prompt."""
        for overlap in self._evaluation.overlaps(content):
            for row in self._rows[overlap.place]:
                known = self.found.get(row["prompt_id"])
                if known is None or overlap.num > known["num"]:
                    self.found[row["prompt_id"]] = {
                        "suite": self._suite,
                        "id": row["id"],
                        "prompt_id": row["prompt_id"],
                        "place": f"{row['file']}:{row['line']}",
                        "training": training,
                        "num": overlap.num,
                        "of": overlap.of,
                    }


def table(rows: Sequence[OverlapRow]) -> pa.Table:
    """The OVERLAP table."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=OVERLAP)
