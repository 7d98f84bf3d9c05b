"""Files that are complete or absent, whenever the process is killed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, data: bytes, temporary_name: str | None = None) -> None:
    """Writes a file under a temporary name, then renames it; creates the folder.

    A process that is killed in between leaves the temporary file behind.

    Args:
        temporary_name: for files that only one process writes; by default `.<random>.tmp`, so that several may write.

    Raises:
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / (temporary_name or f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
