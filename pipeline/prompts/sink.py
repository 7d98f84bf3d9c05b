"""Writes rows of the intake to a table in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from ..storage.parts import Parts

Row = TypeVar("Row", bound=Mapping[str, object])

FLUSH_ROWS = 20_000
"""Rows in memory before they are written. This bounds the memory of an intake of millions of prompts."""


class Sink(Generic[Row]):
    """Collects rows and writes them to a table in the run directory.

    Args:
        trial: writes nothing.
    """

    def __init__(self, parts: Parts, num_buckets: int, trial: bool) -> None:
        self.parts, self._num_buckets, self._trial = parts, num_buckets, trial
        self._rows: list[Row] = []
        self.num = 0

    def add(self, row: Row) -> None:
        """Adds one row."""
        self._rows.append(row)
        self.num += 1
        if len(self._rows) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes the rows in memory, unless this is a trial."""
        if not self._trial:
            self.parts.write_all(self._rows, self._num_buckets)
        self._rows = []

    def digest(self) -> str:
        """Hash of the table; does not depend on its division into parts."""
        return self.parts.digest(self._num_buckets)
