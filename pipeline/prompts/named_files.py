"""Files that are looked up by the name of a suite in `evaluate.suite_files`."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..recipe import PromptFile, PromptTable
from .input_files import COMPRESSED_ENDINGS, FORMATS, files_of

ENDINGS = tuple(f"{ending}{packed}" for ending in FORMATS for packed in ("", *sorted(COMPRESSED_ENDINGS)))
"""Endings of the files."""


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
