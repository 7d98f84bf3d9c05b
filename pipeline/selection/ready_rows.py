"""Streams the rows of ready data sets: JSONL, JSON, Parquet and CSV files, and hub data sets."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from ..identities import digest, file_hash
from ..recipe import DatasetTable
from .ready_dataset import ReadRow

BATCH_ROWS = 1000


def rows(table: DatasetTable, base: Path) -> Iterator[tuple[int, ReadRow]]:
    """Yields each row with its line (JSONL) or its number, from 1; in place of a row that can't be read, the reason.

    Args:
        base: folder that relative paths are relative to.

    Raises:
        InputError: the file or data set can't be read.
    """
    return itertools.islice(_rows(table, base), table.limit)


def fingerprint(table: DatasetTable, base: Path) -> str:
    """Hash of the content; for a hub data set its name and revision, which is exact only if it is a commit.

    Raises:
        InputError: the file can't be read.
    """
    path = base / (table.path or table.hub or "")
    if table.path is None and not path.is_dir():
        return f"{table.name}@{table.revision}"
    try:
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        return digest([[str(f.relative_to(base)) if f != path else "", file_hash(f)] for f in files])
    except OSError as error:
        raise _unreadable(path, error) from error


def _rows(table: DatasetTable, base: Path) -> Iterator[tuple[int, ReadRow]]:
    path = base / (table.path or table.hub or "")
    if table.path is None:
        yield from _from_hub(table, path)
        return
    try:
        if path.suffix == ".parquet":
            yield from _from_parquet(path)
        elif path.suffix in (".csv", ".tsv"):
            yield from _from_csv(path)
        elif _is_array(path):
            yield from _from_array(path)
        else:
            yield from _from_lines(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_array(path: Path) -> bool:
    """Whether the file's first character is that of a JSON array."""
    with path.open("rb") as file:
        return file.read(1000).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _from_lines(path: Path) -> Iterator[tuple[int, ReadRow]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if line.strip():
                yield number, _row(line)


def _row(line: bytes) -> ReadRow:
    try:
        raw = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason}"
    except (ValueError, RecursionError) as error:  # ValueError includes numbers with more digits than Python reads
        return one_line(f"not JSON: {error}")
    return raw if isinstance(raw, dict) else "a row is a JSON object"


def _from_array(path: Path) -> Iterator[tuple[int, ReadRow]]:
    try:
        array = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), 0, one_line(f"not JSON: {error}")) from error
    for number, raw in enumerate(array, start=1):
        yield number, raw if isinstance(raw, dict) else "a row is a JSON object"


def _from_csv(path: Path) -> Iterator[tuple[int, ReadRow]]:
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            for row in reader:
                complete = None not in row and None not in row.values()
                yield reader.line_num, row if complete else "the row has other cells than the header"
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(str(path), 0, one_line(f"not CSV in UTF-8: {error}")) from error


def _from_parquet(path: Path) -> Iterator[tuple[int, ReadRow]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise InputError(str(path), 0, f"can't be read as Parquet: {one_line(error)}") from error


def _from_hub(table: DatasetTable, path: Path) -> Iterator[tuple[int, ReadRow]]:
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client

    disable_progress_bars()
    name, revision = (str(path), None) if path.is_dir() else (table.hub, table.revision)  # a folder has no revisions
    try:
        data = load_dataset(name, table.config, split=table.split, revision=revision)
    except (DatasetsError, HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        problem = f"the data set can't be loaded: {one_line(cause)} ({type(cause).__name__})"
        raise InputError(f"{table.hub}@{table.revision}", 0, problem) from error
    number = 0
    for batch in data.with_format("arrow").iter(BATCH_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        str(path), 0, "not found" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
    )
