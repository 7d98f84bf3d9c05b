"""Revisions: strings that identify the exact weights of a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..errors import InputError
from ..identities import digest, file_hash
from ..recipe import Model
from ..storage.atomic import write_atomically
from .cache import cache_folder

HASHED = (".json", ".safetensors", ".jinja", ".model", ".txt")


def revision(model: Model, *, base: Path | None = None, cache: Path | None = None) -> str:
    """A string that identifies the exact weights. Does not fetch them.

    Args:
        base: folder that relative paths are relative to; the working directory by default.
        cache: folder of cached file hashes; the user's cache by default.

    Raises:
        InputError: a path contains no model.
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
        raise InputError(str(folder), 0, "contains no model: config.json is missing")
    return folder


def _content(folder: Path, cache: Path) -> str:
    """Hash of a model folder's content. File hashes are cached by file size and modification time."""
    cache_file = cache / "hashes.json"
    hashes = _read_hashes(cache_file)
    cached_hashes = dict(hashes)
    entries = []
    for file in sorted(folder.iterdir()):
        if file.suffix not in HASHED:
            continue
        stat = file.stat()
        path, state = str(file.resolve()), f"{stat.st_size}:{stat.st_mtime_ns}"
        cached_state, _, content = hashes.get(path, "").rpartition(":")
        if cached_state != state:
            content = file_hash(file)
            hashes[path] = f"{state}:{content}"
        entries.append([file.name, content])
    if hashes != cached_hashes:
        _write_hashes(cache_file, hashes)
    return digest(entries)


def _read_hashes(file: Path) -> dict[str, str]:
    try:
        hashes = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in hashes.items() if isinstance(v, str)} if isinstance(hashes, dict) else {}


def _write_hashes(file: Path, hashes: dict[str, str]) -> None:
    """Best effort: if it fails, the next call hashes again."""
    try:
        write_atomically(file, json.dumps(hashes).encode())
    except OSError as error:
        problem = f"can't be written ({error.strerror}); model folders will be hashed again"
        print(f"fusechat: {file}: {problem}", file=sys.stderr)
