"""Files of a training: written whole or not at all, read back after any kill."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline import errors

WHOLE = "whole"
"""Marker in a checkpoint folder; the last file to be written. It holds the others' sizes in bytes."""

METRICS = "metrics.jsonl"
"""In a checkpoint that is also sent elsewhere: the metrics up to it."""


def write(path: Path, content: bytes) -> None:
    """Writes a file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def arrow(table: pa.Table) -> bytes:
    """The table as an Arrow stream, which `datasets` maps into memory."""
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=1024)
    return out.getvalue()


def settle(partial: Path, final: Path) -> None:
    """Makes a written folder durable under its final name."""
    for file in partial.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSONL file that may be being written; nothing where there is no file."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def keep_steps(path: Path, step: int) -> None:
    """Drops the lines of steps after `step`: they are trained again."""
    kept = [line for line in read_jsonl(path) if line["step"] <= step]
    write(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def mark_whole(checkpoint: Path) -> None:
    """Says that the checkpoint is whole, and what belongs to it."""
    write(checkpoint / WHOLE, json.dumps(_sizes(checkpoint)).encode())


def is_whole(checkpoint: Path) -> bool:
    """Whether the marker is there, and every file beside it as long as it was."""
    try:
        marked = json.loads((checkpoint / WHOLE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(marked, dict) and marked == _sizes(checkpoint)


def _sizes(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file() and p.stem != WHOLE}


def step_of(checkpoint: Path | None) -> int:
    """The step after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def last_whole(checkpoints: Path, *, remove_half: bool = False) -> Path | None:
    """The newest whole checkpoint; the others can be removed meanwhile."""
    whole = all_whole(checkpoints)
    if remove_half:
        for half in set(_checkpoints(checkpoints)) - set(whole):
            shutil.rmtree(half)
    return whole[-1] if whole else None


def all_whole(checkpoints: Path) -> list[Path]:
    """The whole checkpoints, oldest first."""
    return sorted(filter(is_whole, _checkpoints(checkpoints)), key=step_of)


def _checkpoints(folder: Path) -> list[Path]:
    return [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]


def is_full(error: BaseException | str) -> bool:
    """Whether a disk or quota is used up; libraries wrap the system's error in theirs, with its text or number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(sign in str(error) for sign in ("No space left", "os error 28", "Disk quota exceeded"))


def full(stage: str, folder: str) -> errors.StageError:
    """What to say where the disk is full."""
    cause = "no space left; free some: the same command then goes on from the last whole checkpoint"
    return errors.StageError(stage, folder, cause)


def write_error(path: Path, error: errors.FusechatError) -> None:
    """Keeps a worker's refusal for the driver; Ray Train would wrap it and try again."""
    fields = {name: value if isinstance(value, int) else str(value) for name, value in vars(error).items()}
    write(path, json.dumps({"error": type(error).__name__, "fields": fields}).encode())


def read_error(path: Path) -> errors.FusechatError:
    """The error that `write_error` kept."""
    kept = json.loads(path.read_text())
    kind: type[errors.FusechatError] = getattr(errors, kept["error"])
    fields = {name: value for name, value in kept["fields"].items() if value != "None"}
    if kind is errors.RecipeError:
        fields.setdefault("given", None)
    return kind(**fields)
