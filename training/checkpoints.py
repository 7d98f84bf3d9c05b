"""Files of a training: written completely or not at all, so that a training can resume after a kill at any moment."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline import errors
from fusechat.pipeline.storage.atomic import write_atomically

COMPLETE_MARKER = "whole"
"""File in a checkpoint folder that marks it as complete. It is written last and holds the sizes of the other files."""

METRICS_FILE = "metrics.jsonl"
"""In a checkpoint that is uploaded: a copy of the metrics up to its step."""


class MetricsLine(TypedDict):
    """The fields that every line of metrics.jsonl has; see `trainer_callback` for the others."""

    step: int
    num_steps: int
    loss: float
    tokens: int
    seconds: float


def write(path: Path, content: bytes) -> None:
    """Writes a file atomically: it is either complete or absent."""
    write_atomically(path, content, f"{path.name}.partial")


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def arrow_bytes(table: pa.Table) -> bytes:
    """The table as an Arrow stream, which `datasets` memory-maps."""
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=1024)
    return out.getvalue()


def commit_folder(partial: Path, final: Path) -> None:
    """Flushes a finished folder to disk and renames it to its final name."""
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


def read_metrics(path: Path) -> Iterator[MetricsLine]:
    """The complete lines of a metrics file, which may still be written to. Nothing if the file does not exist."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def drop_steps_after(path: Path, step: int) -> None:
    """Removes the metrics of the steps after `step`, because those steps will be trained again."""
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def mark_complete(checkpoint: Path) -> None:
    """Marks the checkpoint as complete and records the sizes of its files."""
    write(checkpoint / COMPLETE_MARKER, json.dumps(_sizes(checkpoint)).encode())


def is_complete(checkpoint: Path) -> bool:
    """Whether the marker exists and every file still has the recorded size."""
    try:
        recorded = json.loads((checkpoint / COMPLETE_MARKER).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(recorded, dict) and recorded == _sizes(checkpoint)


def _sizes(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file() and p.stem != COMPLETE_MARKER}


def step_of(checkpoint: Path | None) -> int:
    """The step after which a checkpoint was written; 0 for None."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def latest_complete(checkpoints: Path, *, remove_incomplete: bool = False) -> Path | None:
    """The newest complete checkpoint. `remove_incomplete` deletes the incomplete ones."""
    complete = all_complete(checkpoints)
    if remove_incomplete:
        for incomplete in set(_checkpoints(checkpoints)) - set(complete):
            shutil.rmtree(incomplete)
    return complete[-1] if complete else None


def all_complete(checkpoints: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted(filter(is_complete, _checkpoints(checkpoints)), key=step_of)


def _checkpoints(folder: Path) -> list[Path]:
    return [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]


def is_disk_full(error: BaseException | str) -> bool:
    """Whether the error means a full disk or quota. Libraries wrap the system's error and keep its text or number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(sign in str(error) for sign in ("No space left", "os error 28", "Disk quota exceeded"))


def disk_full_error(stage: str, folder: str) -> errors.StageError:
    """The error to raise when the disk is full."""
    cause = "no space left; free some: the same command then resumes from the last complete checkpoint"
    return errors.StageError(stage, folder, cause)


def write_error(path: Path, error: errors.FusechatError) -> None:
    """Saves a worker's error for the driver. If the worker raised it, Ray Train would wrap it and retry."""
    fields = {name: value if isinstance(value, int) else str(value) for name, value in vars(error).items()}
    write(path, json.dumps({"error": type(error).__name__, "fields": fields}).encode())


def read_error(path: Path) -> errors.FusechatError:
    """The error that `write_error` saved."""
    saved = json.loads(path.read_text())
    error_type: type[errors.FusechatError] = getattr(errors, saved["error"])
    fields = {name: value for name, value in saved["fields"].items() if value != "None"}
    if error_type is errors.RecipeError:
        fields.setdefault("given", None)
    return error_type(**fields)
