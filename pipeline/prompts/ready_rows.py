"""The files and hub data sets of ready SFT rows and pairs (`dataset` in the recipe)."""

from __future__ import annotations

from pathlib import Path

from ..recipe import DatasetTable, PromptTable
from .readers import PromptReader


def reader(table: DatasetTable, base: Path) -> PromptReader:
    """Reads the rows of a table as its files or its data set contain them.

    Args:
        base: folder that relative paths are relative to.
    """
    if table.path is not None:
        place = PromptTable(path=table.path, limit=table.limit)
    else:
        place = PromptTable(
            hub=table.hub, revision=table.revision, config=table.config, split=table.split, limit=table.limit
        )
    return PromptReader(place, base, table.name, any_columns=True, empty_cells=True)
