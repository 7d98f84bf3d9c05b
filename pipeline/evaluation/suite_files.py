"""The files of suites: named in the recipe, on the hub, or looked up in `evaluate.suite_files`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..prompts.download import is_address
from ..prompts.files import COMPRESSED_ENDINGS, FORMATS, files_of
from ..prompts.readers import Line, PromptReader
from ..recipe import PromptFile, PromptTable, Suite

ENDINGS = tuple(f"{ending}{packed}" for ending in FORMATS for packed in ("", *sorted(COMPRESSED_ENDINGS)))
"""Endings of the files in `evaluate.suite_files`."""


def readers(suite: Suite, base: Path) -> list[PromptReader]:
    """Readers of the suite's files.

    Args:
        base: folder that relative paths are relative to.

    Raises:
        InputError: `evaluate.suite_files` has no file of the suite.
    """
    found = [table for entry in suite.files for table in tables(suite.name, entry, base)]
    if suite.form == "rows":
        return [PromptReader(table, base) for table in found]
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


def tables(name: str, entry: PromptFile, base: Path) -> list[PromptTable]:
    """The tables of an entry: itself, or files in `evaluate.suite_files`, which are named without their ending.

    Args:
        name: the name by which files are looked up.

    Raises:
        InputError: there is no such file.
    """
    if not isinstance(entry, str):
        return [entry]
    path = base / entry
    if path.name != name or path.is_file():
        return [PromptTable(path=entry)]
    found = [f"{entry}{ending}" for ending in ENDINGS if path.with_name(f"{name}{ending}").is_file()][:1]
    if path.is_dir():
        found += [f"{entry}/{file.relative_to(path)}" for file in files_of(path)]
    if not found:
        names = ", ".join(f"{name}{ending}" for ending in FORMATS)
        problem = f"suite {name}: there is none of {names}, nor a folder {name} with such files (evaluate.suite_files)"
        raise InputError(str(path.parent), 0, problem)
    return [PromptTable(path=file) for file in found]
