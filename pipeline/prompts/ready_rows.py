"""Streams the rows of ready data sets (`dataset` in the recipe), as their files or hub data sets contain them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ..recipe import DatasetTable, PromptTable
from ..selection.ready_dataset import RowAt
from . import hub
from .file_rows import BATCH_ROWS, ReadRow, csv_rows, json_rows, parquet_rows
from .input_files import FORMATS, ending, files_of
from .readers import PromptReader
from .unusable import UnusableError


def rows(table: DatasetTable, base: Path) -> Iterator[RowAt]:
    """Yields each row with its place; in place of a row that can't be read, the reason.

    Args:
        base: folder that relative paths are relative to.

    Raises:
        InputError: the file or data set can't be read.
    """
    for file, number, row in itertools.islice(_rows(table, base), table.limit):
        yield RowAt(file, number, row.problem if isinstance(row, UnusableError) else row)


def fingerprint(table: DatasetTable, base: Path) -> str:
    """Hash of the content; for a hub data set its name and revision, which is exact only if it is a commit."""
    return PromptReader(_location(table), base).fingerprint()


def _location(table: DatasetTable) -> PromptTable:
    if table.path is not None:
        return PromptTable(path=table.path)
    return PromptTable(hub=table.hub, revision=table.revision, config=table.config, split=table.split)


def _rows(table: DatasetTable, base: Path) -> Iterator[tuple[str, int, ReadRow]]:
    if table.hub is not None:
        for number, row in enumerate(_from_hub(table, base / table.hub), start=1):
            yield table.name, number, row
        return
    path = base / (table.path or "")
    for file in files_of(path):
        name = table.name if file == path else file.name
        kind = FORMATS.get(ending(file), "jsonl")
        found = parquet_rows(file, None) if kind == "parquet" else csv_rows(file) if kind == "csv" else json_rows(file)
        for number, row in found:
            yield name, number, row


def _from_hub(table: DatasetTable, folder: Path) -> Iterator[ReadRow]:
    with hub.loaded(_location(table), folder if folder.is_dir() else None) as data:
        for batch in data.with_format("arrow").iter(BATCH_ROWS):
            yield from batch.to_pylist()
