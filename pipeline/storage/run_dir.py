"""The run directory: files that are complete or absent, manifests, and a lock."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError
from .atomic import write_atomically
from .lease import STALE_S, Lease
from .manifest import Manifest, ManifestJSON, from_json
from .s3 import S3, reason

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class RunDir:
    """A run directory on S3 or any fsspec file system. It is cheap to pickle, so Ray workers use it too.

    Raises:
        RunDirectoryError: no file system handles the URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lease: Lease | None = None
        self._fs: AbstractFileSystem
        try:
            if url.startswith("s3://"):
                self._fs, self._root = S3(), url.removeprefix("s3://").rstrip("/")
                if self._root[:1] in ("", "/"):
                    raise ValueError("it names no bucket")
            else:
                self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise RunDirectoryError(f"{url}: no file system handles this URL: {error}") from error
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def __reduce__(self) -> tuple[type[RunDir], tuple[str]]:
        return RunDir, (self.url,)

    def path(self, *parts: str) -> str:
        """Full path of a file in the run directory."""
        return "/".join((self._root.rstrip("/"), *parts))

    def local_path(self, *parts: str) -> Path:
        """Full path of a file or folder as a local path, for training and report, which write folders.

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
        """Writes a file that is complete or absent: under a temporary name, then renamed. Object stores need no rename.

        Raises:
            RunDirectoryError: the disk is full, the directory can't be written, or another process took it over.
        """
        self.check_lease()
        path = self.path(*parts)
        try:
            if not self._local:
                self._fs.pipe_file(path, data)
                return
            write_atomically(Path(path), data)
        except OSError as error:
            raise _unusable(self.url, "written", error) from error

    def write_table(self, table: pa.Table, *parts: str) -> None:
        """Writes a Parquet file that is complete or absent."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(buffer.getvalue(), *parts)

    def read_table(self, *parts: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads one Parquet file."""
        with self._reading(), self._fs.open(self.path(*parts), "rb") as file:
            return pq.read_table(file, columns=columns)

    def write_json(self, value: object, *parts: str) -> None:
        """Writes a JSON file that is complete or absent."""
        self.write_bytes(json.dumps(value, indent=1, ensure_ascii=False).encode(), *parts)

    def read_json(self, *parts: str) -> Any:
        """Reads a JSON file."""
        with self._reading():
            return json.loads(self._fs.cat_file(self.path(*parts)))

    def file_digest(self, *parts: str) -> str:
        """sha256 (hex) of a file. Equal tables, written by the same version of fusechat, have equal bytes."""
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
        """Removes files. Their names are relative to the run directory.

        Raises:
            RunDirectoryError: they can't be removed.
        """
        self.check_lease()
        for file in files:
            try:
                self._fs.rm_file(self.path(file))
            except OSError as error:
                raise _unusable(self.url, "written", error) from error

    def remove_if_exists(self, *parts: str) -> None:
        """Removes a file if it exists."""
        if self.exists(*parts):
            self.remove(["/".join(parts)])

    def remove_tables(self, *parts: str) -> None:
        """Removes the Parquet files under a folder, before the folder is written again."""
        self.remove(self.files(*parts))

    def manifest(self, stage: str) -> Manifest | None:
        """The stage's manifest, or None if the stage never finished."""
        if not self.exists(stage, "manifest.json"):
            return None
        raw: ManifestJSON = self.read_json(stage, "manifest.json")
        return from_json(raw)

    def write_manifest(self, manifest: Manifest) -> None:
        """Finishes a stage: from now on its output is valid."""
        self.write_json(manifest.as_json(), manifest.stage, "manifest.json")

    def valid_manifest(self, stage: str, config: str, inputs: Mapping[str, str]) -> Manifest | None:
        """The stage's manifest if its output was made with these settings from these inputs, else None."""
        manifest = self.manifest(stage)
        same = manifest is not None and manifest.config == config and manifest.inputs == dict(inputs)
        return manifest if same else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the run directory for this process.

        Raises:
            RunDirectoryError: another process holds it, or it can't be written.
        """
        if isinstance(self._fs, S3):
            with self._leased():
                yield
            return
        if not self._local:  # other object stores have no locks; thanks to identities, doing work twice is harmless
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
        """Locks a run directory on S3. Makes few attempts, so that an unreachable store is reported at once."""
        lease = Lease(S3(max_attempts=3), self.path(".lock"))
        try:
            holder = lease.acquire()
        except OSError as error:
            raise _unusable(self.url, "written", error) from error
        if holder is not None:
            raise RunDirectoryError(
                f"{self.url}: in use by {holder}; wait for it or stop it "
                f"(the lock of a killed process ends in {STALE_S:.0f} s)"
            )
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            with suppress(OSError):  # the lease expires anyway
                lease.release()

    def check_lease(self) -> None:
        """Checks that this process still holds its lease, if it took one.

        Raises:
            RunDirectoryError: another process took it over.
        """
        if self._lease is not None and self._lease.lost:
            raise RunDirectoryError(
                f"{self.url}: another process took it over, because this one could not renew its lock for "
                f"{STALE_S:.0f} s; run the same command again when the other process has ended"
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
        """Removes temporary files of processes that were killed while writing."""
        for leftover in Path(self.path()).rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)


def _unusable(url: str, action: str, error: OSError) -> RunDirectoryError:
    """The error for a file that can't be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunDirectoryError(f"{url}: no space left; free some and run the same command again")
    return RunDirectoryError(f"{url}: can't be {action}: {reason(error)}")
