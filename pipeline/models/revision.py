"""The exact weights of a model, as a string, without fetching them."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from ..errors import InputError
from ..identities import digest
from ..recipe import Model
from ..storage.atomic import write_atomically
from .cache import cache_folder

HASHED = (".json", ".safetensors", ".jinja", ".model", ".txt")


def revision(model: Model, *, base: Path | None = None, cache: Path | None = None) -> str:
    """A string that names the exact weights, without fetching them.

    Args:
        base: folder that relative paths start at; the working directory by default.
        cache: where file hashes are remembered; the user's cache by default.

    Raises:
        InputError: a path holds no model.
    """
    if model.wheels is not None:
        return f"sha256:{model.wheels.sha256}"
    if model.hub is not None:
        return f"{model.hub}@{model.revision}"
    return f"content:{_content(model_folder(model, base), cache or cache_folder())}"


def model_folder(model: Model, base: Path | None) -> Path:
    """The folder that a model's `path` names.

    Raises:
        InputError: it contains no model.
    """
    folder = (base or Path()) / Path(str(model.path)).expanduser()
    if not (folder / "config.json").is_file():
        raise InputError(str(folder), 0, "no model there: config.json is missing")
    return folder


def _content(folder: Path, cache: Path) -> str:
    """Hash of a model folder's content. File hashes are remembered by size and time of change."""
    memory_file = cache / "hashes.json"
    memory = _remembered(memory_file)
    known = dict(memory)
    entries = []
    for file in sorted(folder.iterdir()):
        if file.suffix not in HASHED:
            continue
        stat = file.stat()
        place, state = str(file.resolve()), f"{stat.st_size}:{stat.st_mtime_ns}"
        remembered_state, _, content = memory.get(place, "").rpartition(":")
        if remembered_state != state:
            with file.open("rb") as handle:
                content = hashlib.file_digest(handle, "sha256").hexdigest()
            memory[place] = f"{state}:{content}"
        entries.append([file.name, content])
    if memory != known:
        _remember(memory_file, memory)
    return digest(entries)


def _remembered(file: Path) -> dict[str, str]:
    try:
        memory = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in memory.items() if isinstance(v, str)} if isinstance(memory, dict) else {}


def _remember(file: Path, memory: dict[str, str]) -> None:
    """Best effort: without it the next call hashes again."""
    try:
        write_atomically(file, json.dumps(memory).encode())
    except OSError as error:
        print(f"fusechat: {file}: can't be written ({error.strerror}); model folders are hashed again", file=sys.stderr)
