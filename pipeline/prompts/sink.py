"""Rows on their way from the intake to a table in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from ..identities import digest
from ..storage.parts import Parts

Row = TypeVar("Row", bound=Mapping[str, object])

FLUSH_ROWS = 20_000
"""Rows in memory before they are written: an intake of millions of prompts takes no more room than one of thousands."""


class Sink(Generic[Row]):
    """Rows on their way to a table in the run directory."""

    def __init__(self, parts: Parts, num_buckets: int, trial: bool) -> None:
        self.parts, self._num_buckets, self._trial = parts, num_buckets, trial
        self._rows: list[Row] = []
        self.num = 0

    def add(self, row: Row) -> None:
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
