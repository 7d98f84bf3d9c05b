"""What the export formats share: the data set that is exported, and the files that a format writes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ..records import Message, PairRow, SftRow


class PromptReference(TypedDict):
    """What a prompt's answers are verified against."""

    gold: str | None
    tests: str | None
    entry_point: str | None


@dataclass(frozen=True, slots=True)
class SelectedData:
    """The selected data set, as it is exported."""

    sft: pa.Table
    """SFT_ROW."""
    pairs: pa.Table
    """PAIR."""
    references: Mapping[str, PromptReference]
    """Prompt id -> reference, of the prompts that have rows."""

    def rows(self) -> tuple[list[SftRow], list[PairRow]]:
        """The SFT rows and the pairs."""
        return self.sft.to_pylist(), self.pairs.to_pylist()


class LeftOutRow(TypedDict):
    """A row that the other trainer can't use."""

    table: str
    """sft or pairs."""
    row_id: str
    prompt_id: str
    reason: str


@dataclass(slots=True)
class ExportFiles:
    """The files of an export. There is no file without rows: the library `datasets` can't load one."""

    usage: str
    """How the trainer loads the files, in Markdown."""
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name of a configuration -> split -> file name."""
    files: dict[str, bytes] = field(default_factory=dict)
    """File name -> content."""
    num_rows: dict[str, int] = field(default_factory=dict)
    """Data file -> number of rows."""
    empty: list[str] = field(default_factory=list)
    """Data files that would have no rows."""
    left_out: list[LeftOutRow] = field(default_factory=list)

    def add(self, config: str, split: str, name: str, content: bytes, num: int) -> None:
        """Adds a data file, unless it has no rows."""
        if not num:
            self.empty.append(name)
            return
        self.configs.setdefault(config, {})[split] = name
        self.files[name] = content
        self.num_rows[name] = num


def origin(row: SftRow | PairRow) -> dict[str, str]:
    """The columns that lead from an exported row back to the run directory."""
    return {
        "row_id": row["row_id"],
        "prompt_id": row["prompt_id"],
        "domain": row["domain"],
        "source": row["source"],
        "revision": row["revision"],
    }


ORIGIN = [(name, pa.string()) for name in ("row_id", "prompt_id", "domain", "source", "revision")]
"""The columns of `origin`."""


def parquet(table: pa.Table) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def jsonl(rows: Iterable[Mapping[str, object]]) -> bytes:
    """A file with one JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")


def turn_problem(messages: Sequence[Message]) -> str | None:
    """Why a trainer that knows only turns of user and assistant in alternation can't use a prompt; None if it can."""
    roles = [m["role"] for m in messages]
    if "system" in roles[1:]:
        return "a system message is not the only one, or not the first message"
    turns = [role for role in roles if role != "system"]
    if turns != [("user", "assistant")[i % 2] for i in range(len(turns))] or len(turns) % 2 == 0:
        return f"the turns don't alternate, from user to user: {', '.join(turns)}"
    return None


def usable(sft: Sequence[SftRow], pairs: Sequence[PairRow]) -> tuple[list[SftRow], list[PairRow], list[LeftOutRow]]:
    """The rows with alternating turns, and those that are left out because of `turn_problem`."""
    left_out: list[LeftOutRow] = []

    def fits(table: str, row: SftRow | PairRow) -> bool:
        problem = turn_problem(row["prompt"])
        if problem is not None:
            left_out.append({"table": table, "row_id": row["row_id"], "prompt_id": row["prompt_id"], "reason": problem})
        return problem is None

    return [r for r in sft if fits("sft", r)], [r for r in pairs if fits("pairs", r)], left_out
