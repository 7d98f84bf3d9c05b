"""Rows of JSON, CSV and Parquet files, as the files contain them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from .input_files import ENCODINGS, ending, is_utf8, open_text, open_unpacked, unreadable
from .rows import RawRow
from .unusable import UnusableError

BATCH_ROWS = 1000

ReadRow = RawRow | UnusableError
"""A row, or the reason why its line contains none."""


# --- JSON


def json_rows(path: Path) -> Iterator[tuple[int, ReadRow]]:
    """The objects of a JSON array with their positions, or of a file with one per line with their lines, from 1.

    Raises:
        InputError: the file can't be read.
    """
    try:
        with open_unpacked(path) as file:
            start = file.read(64)
            if start.startswith(tuple(mark for mark, name in ENCODINGS.items() if name == "utf-16")):
                yield from _utf16_json(path)
                return
            if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
                data = (start + file.read()).removeprefix(b"\xef\xbb\xbf")
                array = _json(data)
                if isinstance(array, list):
                    yield from _objects(array)
                    return
                if isinstance(array, UnusableError) and data.lstrip()[:2].strip() == b"[":  # no row begins so
                    yield 1, array
                    return
        with open_unpacked(path) as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, _object(_json(line))
    except OSError as error:
        raise unreadable(path, error) from error


def _utf16_json(path: Path) -> Iterator[tuple[int, ReadRow]]:
    try:
        with open_text(path) as file:
            text = file.read()
    except UnicodeError as error:
        raise InputError(str(path), 0, f"not UTF-16, though it has its byte order mark: {error}") from error
    array = _json(text.encode()) if text.lstrip()[:1] == "[" else None
    if isinstance(array, list):
        yield from _objects(array)
        return
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            yield number, _object(_json(line.encode("utf-8", "surrogatepass")))


def _objects(array: list[object]) -> Iterator[tuple[int, ReadRow]]:
    for number, value in enumerate(array, start=1):
        yield number, _object(value)


def _object(value: object) -> ReadRow:
    if isinstance(value, UnusableError):
        return value
    return value if isinstance(value, dict) else UnusableError("malformed", "a row is a JSON object")


def _json(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return UnusableError("malformed", f"not UTF-8: {error.reason}")
    except (ValueError, RecursionError) as error:  # ValueError includes numbers with more digits than Python reads
        return UnusableError("malformed", f"not JSON: {error}")


# --- CSV


def csv_delimiter(path: Path) -> str:
    """What stands between the cells of a file of this name."""
    return "\t" if ending(path) == ".tsv" else ","


def csv_header(path: Path, delimiter: str) -> list[str]:
    """The names of a CSV file's columns.

    Args:
        delimiter: what stands between cells (`csv_delimiter`).

    Raises:
        InputError: the file can't be read, is empty, or has two columns of one name.
    """
    try:
        with open_text(path) as file:
            header = next(csv.reader(file, delimiter=delimiter, strict=True), [])
    except (csv.Error, UnicodeError) as error:
        raise InputError(str(path), 1, f"not CSV: {error}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not header:
        raise InputError(str(path), 0, "empty; the first line of a CSV file names its columns")
    if repeated := sorted({c for c in header if header.count(c) > 1}):
        raise InputError(str(path), 1, f"two columns have the name {repeated[0]!r}")
    return header


def csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, ReadRow]]:
    """The rows by the header's names, with the lines where they begin. An empty cell is an empty text.

    Args:
        delimiter: what stands between cells (`csv_delimiter`).

    Raises:
        InputError: the file can't be read.
    """
    csv.field_size_limit(2**31 - 1)  # the default limit is below what `max_chars` allows
    header = csv_header(path, delimiter)
    try:
        with open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            next(reader)
            while True:
                number = reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield number, UnusableError("malformed", f"not CSV: {error}")
                    continue
                if cells is None:
                    return
                if cells:
                    yield number, _record(header, cells)
    except UnicodeError as error:
        raise InputError(str(path), 0, f"not UTF-16, though it has its byte order mark: {error}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _record(header: list[str], cells: list[str]) -> ReadRow:
    if len(cells) != len(header):
        return UnusableError("malformed", f"{len(cells)} cells, the header has {len(header)}")
    if not all(is_utf8(cell) for cell in cells):
        return UnusableError("malformed", "not UTF-8")
    return dict(zip(header, cells, strict=True))


# --- Parquet


def parquet_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file.

    Raises:
        InputError: the file can't be read.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        raise InputError(str(path), 0, f"it can't be read as Parquet: {one_line(error)}") from error


def parquet_rows(path: Path, columns: list[str] | None) -> Iterator[tuple[int, ReadRow]]:
    """The rows with their numbers, from 1.

    Args:
        columns: to read; None reads all.

    Raises:
        InputError: the file can't be read.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        place = f"after row {number}, it" if number else "it"
        raise InputError(str(path), 0, f"{place} can't be read as Parquet: {one_line(error)}") from error
