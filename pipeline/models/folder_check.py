"""Model folders before an engine is started on them: what can be seen to be broken without loading anything."""

from __future__ import annotations

import json
import struct
from pathlib import Path

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
MAX_HEADER = 100 << 20


def problem(folder: Path) -> str | None:
    """Why the folder holds no model that an engine could load, in one line; none where nothing is seen.

    The configuration must name an architecture, and each safetensors file be as long as its header says: a download or
    a copy that broke off is found in a millisecond, where an engine takes its start to say so.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"config.json can't be read: {' '.join(str(error).split())[:200]}"
    if not isinstance(config, dict) or not config.get("architectures"):
        return "config.json names no architectures"
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    if not files:
        return f"holds no weights ({', '.join(WEIGHTS)})"
    for file in files:
        if file.suffix == ".safetensors" and (why := _broken(file)) is not None:
            return f"{file.name}: {why}"
    return None


def _broken(file: Path) -> str | None:
    """Why a safetensors file can't be whole: 8 bytes of length, a JSON header, and the tensors that it lists."""
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            start = handle.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                return "is no safetensors file"
            header = json.loads(handle.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "is no safetensors file"
    return None if size == wanted else f"has {size} bytes, its header says {wanted}"
