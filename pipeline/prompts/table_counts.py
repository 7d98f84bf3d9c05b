"""What each table of prompts gave and what was left out, for the log, the report and prompts/tables.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

Split = Literal["train", "heldout"]


class TableSummary(TypedDict):
    """An entry of prompts/tables.json."""

    table: str
    split: Split
    rows: int
    left_out: dict[str, int]
    """Key of the recipe -> rows that it leaves out."""
    rejected: dict[str, int]
    """Reason -> rows that can't be used."""
    merged: int
    prompts: int
    responses: int
    expected: int | None


@dataclass
class TableCounts:
    """The rows of one table, counted."""

    table: str
    split: Split
    expected: int | None = None
    """Number of prompts that the recipe expects."""
    rows: int = 0
    """Rows that were read."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that the recipe's filters leave out, by key. They are not rejects."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rejects by reason."""
    first_reject: str = ""
    """Place and detail of the first reject."""
    merged: int = 0
    """Rows whose responses went to a prompt that an earlier row had."""
    prompts: int = 0
    responses: int = 0

    def summary(self) -> TableSummary:
        """The counts as JSON."""
        return {
            "table": self.table,
            "split": self.split,
            "rows": self.rows,
            "left_out": dict(self.left_out),
            "rejected": dict(self.rejected),
            "merged": self.merged,
            "prompts": self.prompts,
            "responses": self.responses,
            "expected": self.expected,
        }

    def line(self) -> str:
        """One line: in, out, and why."""
        parts = [f"{self.rows:,} rows, {self.prompts:,} prompts"]
        if self.expected is not None:
            parts[0] += f" ({self.expected:,} expected)"
        if self.responses:
            parts.append(f"{self.responses:,} responses")
        if self.merged:
            parts.append(f"{self.merged:,} rows merged with an earlier row of their prompt")
        parts += [f"{num:,} left out by {key}" for key, num in self.left_out.items()]
        parts += [f"{num:,} rejected: {reason}" for reason, num in self.rejected.items()]
        return f"{self.table}: {', '.join(parts)}"

    def problem(self) -> str | None:
        """Why the run can't go on with this table: it gives nothing. Exact duplicates are in another table."""
        if self.prompts or self.merged or any(reason.endswith("duplicate") for reason in self.rejected):
            return None
        reasons = _listed(self.rejected, "rejected: ") + _listed(self.left_out, "left out by ")
        if not self.rows:
            return "no usable prompt: it has no rows"
        example = f"; {self.first_reject}" if self.first_reject else ""
        return f"no usable prompt in {self.rows:,} rows ({', '.join(reasons)}){example}"


def _listed(counts: Mapping[str, int], words: str) -> list[str]:
    return [f"{num:,} {words}{name}" for name, num in counts.items()]
