"""Checks of a model folder before an engine starts: finds what is broken without loading the model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from ..errors import one_line

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
MAX_HEADER = 100 << 20


def problem(folder: Path) -> str | None:
    """Why an engine could not load the folder, in one line; None if no problem is found.

    The configuration must name an architecture, and each safetensors file must have the length that its header states.
    This finds an incomplete download or copy in a millisecond; an engine would report it only after its start.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"config.json can't be read: {one_line(error)}"
    if not isinstance(config, dict) or not config.get("architectures"):
        return "config.json names no architectures"
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    if not files:
        return f"contains no weights ({', '.join(WEIGHTS)})"
    for file in files:
        if file.suffix == ".safetensors" and (damage := _damage(file)) is not None:
            return f"{file.name}: {damage}"
    return None


def _damage(file: Path) -> str | None:
    """Why a safetensors file is not complete: it must have 8 bytes of length, a JSON header and the listed tensors."""
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            start = handle.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                return "is not a safetensors file"
            header = json.loads(handle.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        expected_size = 8 + length + max(ends, default=0)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "is not a safetensors file"
    return None if size == expected_size else f"has {size} bytes, its header says {expected_size}"
