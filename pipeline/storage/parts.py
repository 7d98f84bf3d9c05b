"""Append-only tables in a run directory: small Parquet parts in buckets, each complete or absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from ..errors import RunDirectoryError, StageError
from ..identities import bucket_of, digest
from .run_dir import RunDir


class Parts:
    """An append-only table of one stage: small Parquet parts in buckets, each complete or absent.

    A part's name is the hash of its rows' keys, so writing the same part again changes nothing.
    """

    def __init__(self, run: RunDir, folder: str, schema: pa.Schema, key: str) -> None:
        self.run, self.folder, self.schema, self.key = run, folder, schema, key

    def write(self, bucket: int, rows: Iterable[Mapping[str, object]]) -> str:
        """Makes the rows durable; returns the part's path in the run directory, or "" without rows."""
        table = pa.Table.from_pylist([dict(r) for r in rows], schema=self.schema)
        if not table.num_rows:
            return ""
        name = digest(sorted(table.column(self.key).to_pylist()))[:24]
        path = (self.folder, f"bucket-{bucket:04d}", f"{name}.parquet")
        self.run.write_table(table, *path)
        return "/".join(path)

    def write_all(self, rows: Iterable[Mapping[str, object]], num_buckets: int) -> None:
        """Makes the rows durable, each in the bucket of its prompt."""
        buckets: dict[int, list[Mapping[str, object]]] = {}
        for row in rows:
            buckets.setdefault(bucket_of(str(row["prompt_id"]), num_buckets), []).append(row)
        for bucket, members in sorted(buckets.items()):
            self.write(bucket, members)

    def read(self, bucket: int | None = None, columns: Sequence[str] | None = None, unique: bool = True) -> pa.Table:
        """The rows of one bucket, or of all, sorted by key.

        Args:
            unique: keeps only the first row of each key.
        """
        folder = (self.folder,) if bucket is None else (self.folder, f"bucket-{bucket:04d}")
        names = None if columns is None else list(dict.fromkeys([self.key, *columns]))
        schema = self.schema if names is None else pa.schema([self.schema.field(c) for c in names])
        tables = []
        for file in self.run.files(*folder):
            try:
                tables.append(_add_missing_columns(self.run.read_table(file, columns=names), schema).cast(schema))
            except (ValueError, OSError, RunDirectoryError) as error:  # ValueError: from Arrow, e.g. other columns
                raise StageError(self.folder, file, f"the shard can't be read: {error}") from error
        if not tables:
            return schema.empty_table()
        table = pa.concat_tables(tables)
        return drop_duplicate_keys(table, self.key) if unique else _sort(table, self.key)

    def digest(self, num_buckets: int) -> str:
        """Hash of the table; does not depend on its division into parts."""
        return digest([digest(self.read(bucket).to_pylist()) for bucket in range(num_buckets)])

    def ids(self, bucket: int | None = None) -> set[str]:
        """Keys of the durable rows of one bucket, or of all."""
        return set(self.read(bucket, columns=[self.key]).column(self.key).to_pylist())

    def compact(self, bucket: int, rows: Sequence[Mapping[str, object]]) -> None:
        """Replaces all parts of a bucket by one part with these rows. If killed in between, both remain."""
        before = self.run.files(self.folder, f"bucket-{bucket:04d}")
        kept = self.write(bucket, rows)
        self.run.remove([file for file in before if file != kept])


def _add_missing_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with null columns for those that were added to its schema later. They are its last columns."""
    for column in schema:
        if column.nullable and column.name not in table.schema.names:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    return table


def drop_duplicate_keys(table: pa.Table, key: str) -> pa.Table:
    """The table sorted by key, with only the first row of each key."""
    import pyarrow.compute as pc

    table = _sort(table, key)
    keys = table.column(key)
    repeated = pc.equal(keys.slice(1), keys.slice(0, max(len(keys) - 1, 0)))
    if not pc.any(repeated).as_py():
        return table
    return table.filter(pa.chunked_array([pa.array([True]), *pc.invert(repeated).chunks]))


def _sort(table: pa.Table, key: str) -> pa.Table:
    """The table in a stable sort by key. A table that is already sorted, e.g. after a stage, is not copied."""
    import pyarrow.compute as pc

    keys = table.column(key)
    rises = pc.less_equal(keys.slice(0, max(len(keys) - 1, 0)), keys.slice(1))
    return table if pc.all(rises).as_py() else table.sort_by(key)
