"""The files of suites: named in the recipe, on the hub, or looked up in `evaluate.suite_files`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..prompts import named_files
from ..prompts.download import is_address
from ..prompts.readers import Line, PromptReader
from ..recipe import JudgedSuite, Suite


def readers(suite: Suite, base: Path) -> list[PromptReader]:
    """Readers of the suite's files.

    Args:
        base: folder that relative paths are relative to.

    Raises:
        InputError: `evaluate.suite_files` has no file of the suite.
    """
    found = [table for entry in suite.files for table in named_files.tables(suite.name, entry, base)]
    if suite.form == "rows":
        # A judged suite's rows have keys that no prompt row has. Its rows are checked one by one.
        return [PromptReader(table, base, any_columns=isinstance(suite, JudgedSuite)) for table in found]
    return [PromptReader(table.model_copy(update={"id": "generated"}), base, any_columns=True) for table in found]


def lines(name: str, file: PromptReader) -> Iterator[Line]:
    """The file's rows.

    Args:
        name: the name by which `evaluate.suite_files` would have the file.

    Raises:
        InputError: it can't be read. For a hub data set the message says what to do.
    """
    try:
        yield from file.lines()
    except InputError as error:
        if file.path.exists() or not (file.entry.hub or is_address(file.entry.path or "")):
            raise
        remedy = f"or put {name}.jsonl, .parquet or .csv into a folder and set evaluate.suite_files to it"
        raise InputError(error.file, error.line, f"suite {name}: {error.problem}; {remedy}") from error
