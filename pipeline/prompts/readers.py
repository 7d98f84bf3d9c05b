"""Streams rows from prompt files (JSONL, Parquet, CSV) and hub data sets, under the field names of docs/recipe.md."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from ..identities import digest, file_hash
from ..recipe import PromptTable
from .column_types import type_problem
from .rows import KEYS, RawRow, UnusableError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 1000

ReadRow = RawRow | UnusableError
"""A row, or the reason why its line contains none."""


class PromptReader:
    """One entry of `prompts.train`, `heldout` or `contamination.sets`.

    Args:
        base: folder that relative paths are relative to.
        any_columns: the columns need not be the fields of a prompt row: a suite's form converts the rows.
    """

    def __init__(self, entry: str | PromptTable, base: Path, *, any_columns: bool = False) -> None:
        self.entry = PromptTable(path=entry) if isinstance(entry, str) else entry
        self._any_columns = any_columns
        self._base = base
        self.path = base / (self.entry.path or self.entry.hub or "")
        self.place = str(self.path) if self.entry.path is not None else self.entry.name
        """Name of the file or data set in error messages."""
        self.file = self.path.name if self.entry.path is not None else self.entry.name
        """Name of the file or data set in records and rejects."""

    def rows(self) -> Iterator[tuple[int, ReadRow]]:
        """Yields each row with its line (JSONL, CSV) or its number, from 1.

        Raises:
            InputError: the file or data set can't be read, or a column that the recipe names is missing.
        """
        for number, raw in itertools.islice(self._read(), self.entry.limit):
            yield number, raw if isinstance(raw, UnusableError) else self._mapped(raw, number)

    def fingerprint(self) -> str:
        """Hash of the content; for a hub data set its name and revision, which is exact only if it is a commit."""
        if self.entry.hub is None:
            return self._file_hash(self.path)
        if self._is_folder and self.entry.file is not None:
            return self._file_hash(self._base / self.entry.hub / self.entry.file)
        if self._is_folder:
            files = sorted(f for f in self.path.rglob("*") if f.is_file())
            return digest([[str(f.relative_to(self.path)), self._file_hash(f)] for f in files])
        return f"{self.entry.hub}@{self.entry.revision}"

    @property
    def _is_folder(self) -> bool:
        """Whether `hub` is a local folder in the format of a data set."""
        return (self._base / (self.entry.hub or "")).is_dir()

    @property
    def _format(self) -> str:
        formats = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv"}
        return self.entry.format or formats.get(self.path.suffix.lower(), "jsonl")

    @property
    def _selected_columns(self) -> dict[str, str]:
        """Columns to read -> the recipe's key that names the column. If it is empty, all columns are read."""
        named = {column: f"columns.{field}" for field, column in self.entry.columns.items()}
        return named | {column: f"responses.{source}" for source, column in self.entry.responses.items()}

    def _read(self) -> Iterator[tuple[int, ReadRow]]:
        if self.entry.file is not None:
            self.path = self._hub_file()
        elif self.entry.hub is not None:
            return self._from_hub()
        readers: dict[str, Callable[[], Iterator[tuple[int, ReadRow]]]]
        readers = {"jsonl": self._from_jsonl, "parquet": self._from_parquet, "csv": self._from_csv}
        return readers[self._format]()

    def _mapped(self, raw: RawRow, number: int) -> RawRow:
        """The row with the recipe's `columns` and `responses` mapped to the field names."""
        entry = self.entry
        if entry.columns:
            row: RawRow = {field: raw.get(column) for field, column in entry.columns.items()}
            if entry.responses:
                cells = {source: raw.get(column) for source, column in entry.responses.items()}
                row["responses"] = {s: c if isinstance(c, list) else [c] for s, c in cells.items() if c is not None}
        else:
            row = raw
        if isinstance(row.get("tests"), list) and (entry.hub is not None or self._format != "jsonl"):
            row["tests"] = "\n".join(t for t in row["tests"] if t is not None)
        if entry.id == "generated":
            row["id"] = f"{self.path.stem if entry.path is not None else self.file}-{number}"
        return row

    # --- JSONL

    def _from_jsonl(self) -> Iterator[tuple[int, ReadRow]]:
        """The non-empty lines, without the byte order mark that some editors write."""
        try:
            with self.path.open("rb") as file:
                for number, raw in enumerate(file, start=1):
                    line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                    if line.strip():
                        yield number, _json(line)
        except OSError as error:
            raise self._unreadable(error) from error

    # --- CSV

    def _from_csv(self) -> Iterator[tuple[int, ReadRow]]:
        """The rows by the header's names. An empty cell means a missing field, or an empty prompt."""
        csv.field_size_limit(2**31 - 1)  # the default limit is below what `max_chars` allows
        prompt = self.entry.columns.get("prompt", "prompt")
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        try:
            # Invalid UTF-8 becomes surrogates, so that one bad row does not end the file.
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                header = next(reader, [])
                self._check_header(header)
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
                        yield number, _record(header, cells, prompt)
        except csv.Error as error:
            raise InputError(self.place, 1, f"not CSV: {error}") from error
        except OSError as error:
            raise self._unreadable(error) from error

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise InputError(self.place, 0, "empty; the first line of a CSV file names its columns")
        if repeated := sorted({c for c in header if header.count(c) > 1}):
            raise InputError(self.place, 1, f"two columns have the name {repeated[0]!r}")
        if not self._any_columns:
            self._check_columns(header)

    # --- Parquet and hub data sets

    def _from_parquet(self) -> Iterator[tuple[int, ReadRow]]:
        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                self._check_schema(file.schema_arrow)
                for batch in file.iter_batches(BATCH_ROWS, columns=list(self._selected_columns) or None):
                    for row in _records(batch.to_pylist()):
                        number += 1
                        yield number, row
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise self._unreadable(error) from error
            place = f"after row {number}, it" if number else "it"
            raise InputError(self.place, 0, f"{place} can't be read as Parquet: {one_line(error)}") from error

    def _from_hub(self) -> Iterator[tuple[int, ReadRow]]:
        data = self._hub_data()
        self._check_schema(data.features.arrow_schema)
        if self._selected_columns:
            data = data.select_columns(list(self._selected_columns))
        number = 0
        for table in data.with_format("arrow").iter(BATCH_ROWS):
            for row in _records(table.to_pylist()):
                number += 1
                yield number, row

    def _hub_file(self) -> Path:
        """The hub's file, or that of a local folder. Fetches it into the hub's cache if needed.

        Raises:
            InputError: it can't be reached, or there is no such file.
        """
        from httpx2 import HTTPError
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        hub, file = self.entry.hub or "", self.entry.file or ""
        if self._is_folder:
            return self._base / hub / file
        try:
            return Path(hf_hub_download(hub, file, repo_type="dataset", revision=self.entry.revision))
        except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
            problem = f"the file can't be fetched: {one_line(error)} ({type(error).__name__})"
            raise InputError(f"{hub}@{self.entry.revision}", 0, problem) from error

    def _hub_data(self) -> Dataset:
        """The data set. Fetches it into the hub's cache if needed.

        Raises:
            InputError: it can't be reached, or the revision, configuration or split does not exist.
        """
        from datasets import disable_progress_bars, load_dataset
        from datasets.exceptions import DatasetsError
        from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client

        disable_progress_bars()
        entry = self.entry
        name = str(self.path) if self._is_folder else entry.hub
        revision = None if self._is_folder else entry.revision  # a folder has no revisions
        try:
            return load_dataset(name, entry.config, split=entry.split, revision=revision)
        except (DatasetsError, HTTPError, OSError, ValueError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            problem = f"the data set can't be loaded: {one_line(cause)} ({type(cause).__name__})"
            raise InputError(f"{entry.hub}@{entry.revision}", 0, problem) from error

    def _check_schema(self, schema: pa.Schema) -> None:
        """Checks that the named columns exist and that the columns' types can be used.

        Raises:
            InputError: a column is missing, unknown, or of a wrong type.
        """
        if self._any_columns:
            return
        self._check_columns(schema.names)
        fields: dict[str, str] = {column: field for field, column in self.entry.columns.items()}
        for column in schema.names:
            field: str | None = fields.get(column) if self.entry.columns else column
            kind = schema.field(column).type
            if field is not None and (allowed := type_problem(field, kind)) is not None:
                key = f" (columns.{field})" if self.entry.columns else ""
                raise InputError(self.place, 0, f"column {column!r}{key} holds {kind}, allowed: {allowed}")

    def _check_columns(self, columns: list[str]) -> None:
        for column, key in self._selected_columns.items():
            if column not in columns:
                raise InputError(self.place, 0, f"no column {column!r} ({key}); there are {', '.join(columns)}")
        if not self._selected_columns and (unknown := sorted(set(columns) - KEYS)):
            problem = f"unknown column {unknown[0]!r}; allowed: {', '.join(sorted(KEYS))}; columns maps others"
            raise InputError(self.place, 0, problem)

    def _file_hash(self, path: Path) -> str:
        try:
            return file_hash(path)
        except OSError as error:
            raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error

    def _unreadable(self, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(self.place, 0, "prompt file not found")
        return InputError(self.place, 0, f"can't be read: {error.strerror}")


def _json(line: bytes) -> ReadRow:
    try:
        raw = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return UnusableError("malformed", f"not UTF-8: {error.reason}")
    except (ValueError, RecursionError) as error:  # ValueError includes numbers with more digits than Python reads
        return UnusableError("malformed", f"not JSON: {error}")
    return raw if isinstance(raw, dict) else UnusableError("malformed", "a row is a JSON object")


def _record(header: list[str], cells: list[str], prompt: str) -> ReadRow:
    if len(cells) != len(header):
        return UnusableError("malformed", f"{len(cells)} cells, the header has {len(header)}")
    if any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell):
        return UnusableError("malformed", "not UTF-8")
    return {name: cell if cell or name == prompt else None for name, cell in zip(header, cells, strict=True)}


def _records(rows: list[RawRow]) -> Iterator[RawRow]:
    """Converts Arrow's rows to the form of JSON rows: integers become strings; empty keys of structs are removed."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int) and not isinstance(value, bool):
                row[name] = str(value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                row[name] = [{k: v for k, v in turn.items() if v is not None} for turn in value]
            elif isinstance(value, dict):
                row[name] = {k: v for k, v in value.items() if v is not None}
        yield row
