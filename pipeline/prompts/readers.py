"""Streams the rows of a prompt table (files or a hub data set) under the field names of docs/recipe.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ..errors import InputError
from ..identities import digest, file_hash
from ..recipe import PromptTable
from . import download, hub
from .column_types import type_problem
from .file_rows import BATCH_ROWS, ReadRow, csv_delimiter, csv_header, csv_rows, json_rows, parquet_rows, parquet_schema
from .input_files import FORMATS, ending, files_of
from .rows import KEYS
from .table_rows import TableRows
from .unusable import UnusableError


class Line(NamedTuple):
    """A row and where it is."""

    place: str
    """Name of its file or data set in error messages."""
    file: str
    """Name of its file or data set in records and rejects."""
    number: int
    """Its line (JSON lines, CSV) or its number, from 1."""
    row: ReadRow


class PromptReader:
    """One entry of `prompts.train`, `heldout` or `contamination.sets`.

    Args:
        base: folder that relative paths are relative to.
        file: name of the file in records and rejects. Default: its name without folders.
        any_columns: the columns need not be the fields of a prompt row: a form converts the rows.
        empty_cells: an empty cell of a CSV file is an empty text. Default: a missing field.
    """

    def __init__(
        self,
        entry: str | PromptTable,
        base: Path,
        file: str | None = None,
        *,
        any_columns: bool = False,
        empty_cells: bool = False,
    ) -> None:
        self.entry = PromptTable(path=entry) if isinstance(entry, str) else entry
        self._any_columns, self._empty_cells = any_columns, empty_cells
        self._base = base
        self._address = self.entry.path if download.is_address(self.entry.path or "") else None
        self.path = base / (self.entry.path or self.entry.hub or "")
        self.place = str(self.path) if self.entry.path is not None and self._address is None else self.entry.name
        """Name of the file or data set in error messages."""
        self.file = file or (self.path.name if self.entry.path is not None else self.entry.name)
        """Name of the file or data set in records and rejects."""
        self.num_rows = 0
        """Rows that have been read."""
        self.left_out: Counter[str] = Counter()
        """Rows that the table's filters left out, by key."""

    def lines(self) -> Iterator[Line]:
        """Yields each row that is taken.

        Raises:
            InputError: the file or data set can't be read, or the recipe names a column that it does not have.
        """
        table = TableRows(self.entry, self.place, self._base)
        self.num_rows, self.left_out = 0, table.left_out
        stem = lru_cache(maxsize=1)(self._stem)
        for place, file, number, raw in self._read(table):
            if self.entry.limit is not None and self.num_rows == self.entry.limit:
                break
            self.num_rows += 1
            if isinstance(raw, UnusableError):
                yield Line(place, file, number, raw)
                continue
            for i, row in enumerate(table.mapped(raw), start=1):
                if self.entry.id == "generated" and not isinstance(row, UnusableError):
                    row["id"] = f"{stem(file)}-{number}" + (f"-{i}" if i > 1 else "")
                yield Line(place, file, number, row)
        table.check_columns()

    def fingerprint(self) -> str:
        """Hash of the content; for a hub data set its name and revision, which is exact only if it is a commit; for an
        address the address."""
        if self._address is not None:
            content = self._address
        elif self.entry.hub is not None and not self._is_folder:
            content = f"{self.entry.hub}@{self.entry.revision}"
        elif self.entry.file is not None:
            content = _hash(self.path / self.entry.file)
        elif self.path.is_dir():
            every = (f for f in self.path.rglob("*") if f.is_file())
            files = sorted(every) if self._is_folder else files_of(self.path)
            content = digest([[str(f.relative_to(self.path)), _hash(f)] for f in files])
        else:
            files = files_of(self.path)
            content = _hash(files[0]) if files == [self.path] else digest([[f.name, _hash(f)] for f in files])
        if self.entry.function is None:
            return content
        return digest(content, _hash(self._base / self.entry.function.rpartition(":")[0]))

    @property
    def _is_folder(self) -> bool:
        """Whether `hub` is a local folder in the format of a data set."""
        return self.entry.hub is not None and self.path.is_dir()

    @cached_property
    def _files(self) -> list[Path]:
        return files_of(self.path)

    def _stem(self, file: str) -> str:
        if self.entry.hub is not None:
            return file
        name = re.sub(r"#\d+$", "", file)  # the number of a file that is named twice
        return name.removesuffix(Path(name).suffix) + file.removeprefix(name)

    def _read(self, table: TableRows) -> Iterator[tuple[str, str, int, ReadRow]]:
        if self.entry.file is not None:
            path = hub.file(self.entry, self.path if self._is_folder else None)
            for number, row in self._from_file(path, table):
                yield self.place, self.file, number, row
            return
        if self.entry.hub is not None:
            for number, row in self._from_hub(table):
                yield self.place, self.file, number, row
            return
        if self._address is not None:
            for number, row in self._from_file(download.fetched(self._address), table):
                yield self.place, self.file, number, row
            return
        for path in self._files:
            for number, row in self._from_file(path, table):
                yield str(path), self._name(path), number, row

    def _name(self, path: Path) -> str:
        """Name of a file of this entry in records and rejects."""
        if path == self.path:
            return self.file
        if self.path.is_dir():
            return f"{self.file}/{path.relative_to(self.path)}"
        return str(path.relative_to(self._base) if path.is_relative_to(self._base) else path)

    def _from_file(self, path: Path, table: TableRows) -> Iterator[tuple[int, ReadRow]]:
        named = path if self._address is None else self.path  # a fetched file has another name
        kind = self.entry.format or FORMATS.get(ending(named), "jsonl")
        if kind == "parquet":
            schema = parquet_schema(path)
            self._check_schema(schema, str(path))
            return parquet_rows(path, table.columns_to_read(schema.names, str(path)))
        if kind == "csv":
            delimiter = csv_delimiter(named)
            header = csv_header(path, delimiter)
            table.columns_to_read(header, str(path))
            self._check_known(header, str(path))
            rows = csv_rows(path, delimiter)
            return rows if self._empty_cells else self._csv(rows)
        return json_rows(path)

    def _csv(self, rows: Iterator[tuple[int, ReadRow]]) -> Iterator[tuple[int, ReadRow]]:
        """An empty cell means a missing field, or an empty prompt."""
        prompt = self.entry.columns.get("prompt", "prompt")
        for number, row in rows:
            if isinstance(row, dict):
                row = {name: cell if cell or name == prompt else None for name, cell in row.items()}
            yield number, row

    def _from_hub(self, table: TableRows) -> Iterator[tuple[int, ReadRow]]:
        with hub.loaded(self.entry, self.path if self._is_folder else None) as data:
            schema = data.features.arrow_schema
            self._check_schema(schema, self.place)
            if (columns := table.columns_to_read(schema.names, self.place)) is not None:
                data = data.select_columns(columns)
            number = 0
            for batch in data.with_format("arrow").iter(BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row

    def _check_schema(self, schema: pa.Schema, place: str) -> None:
        """Checks that the columns' types can be used.

        Raises:
            InputError: a column is unknown or of a wrong type.
        """
        self._check_known(schema.names, place)
        if self._any_columns or self.entry.function is not None:
            return
        fields: dict[str, str] = {column: field for field, column in self.entry.columns.items()}
        for column in schema.names:
            field: str | None = fields.get(column) if self.entry.columns else column
            kind = schema.field(column).type
            if field is not None and (allowed := type_problem(field, kind)) is not None:
                key = f" (columns.{field})" if self.entry.columns else ""
                raise InputError(place, 0, f"column {column!r}{key} holds {kind}, allowed: {allowed}")

    def _check_known(self, columns: list[str], place: str) -> None:
        if self.entry.columns or self.entry.function is not None or self._any_columns:
            return
        if unknown := sorted(set(columns) - KEYS):
            problem = f"unknown column {unknown[0]!r}; allowed: {', '.join(sorted(KEYS))}; columns maps others"
            raise InputError(place, 0, problem)


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error
