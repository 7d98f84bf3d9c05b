"""Reads tables of prompts through the intake, as a run does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.prompts.intake import Intake
from fusechat.pipeline.prompts.table_counts import TableCounts
from fusechat.pipeline.recipe import Prompts
from fusechat.pipeline.storage.run_dir import RunDir

OWN = {"domain": "instruction", "id": "generated"}
"""What an entry says of rows that have neither id nor domain."""


@dataclass
class Taken:
    """What the intake stored."""

    prompts: list[dict[str, Any]]
    responses: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    tables: list[TableCounts]
    digest: str

    @property
    def texts(self) -> list[str]:
        """The last turns of the prompts, sorted."""
        return sorted(prompt["messages"][-1]["content"] for prompt in self.prompts)

    @property
    def reasons(self) -> list[str]:
        return [reject["reason"] for reject in self.rejects]

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Source and text of each response, sorted."""
        return sorted((response["source"], response["text"]) for response in self.responses)

    @property
    def left_out(self) -> dict[str, int]:
        """What the first table's filters left out."""
        return dict(self.tables[0].left_out)


def take(folder: Path, *train: str | Mapping[str, Any], imported: Sequence[str] = (), **config: Any) -> Taken:
    """Reads the entries of `prompts.train`. `config` are the section's other keys."""
    with TemporaryDirectory() as name:
        run = RunDir(name)
        reading = Intake(Prompts.model_validate({"train": train, **config}), folder, run, 2, imported)
        reading.read()
        rows = (sink.parts.read().to_pylist() for sink in (reading.train, reading.carried, reading.scores))
        prompts, responses, scores = rows
        for table in reading.tables:
            assert "\n" not in table.line()
        assert run.read_json("prompts", "tables.json") == [table.summary() for table in reading.tables]
        rejects = run.read_table("prompts", "rejects.parquet").to_pylist()
        return Taken(prompts, responses, scores, rejects, reading.tables, reading.digest())


def refused(folder: Path, *train: str | Mapping[str, Any], **config: Any) -> str:
    """The one line with which the intake ends."""
    with pytest.raises(InputError) as caught:
        take(folder, *train, **config)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line.replace(f"{folder}/", "")


def jsonl(folder: Path, rows: Iterable[object], name: str = "p.jsonl") -> str:
    """Writes the rows as JSON lines. Returns the file's name."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return name
