"""LLaMA-Factory's own reader of data sets: fetched once, by hash, as a wheel that is not installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusechat.pipeline.models.cache import cache_folder

REQUIREMENT = "llamafactory==0.9.5"
SHA256 = "10776e9b259798bf65f6c5343f6298f0302e92e9cd47472abe29eef69e286c6a"


@cache
def fetched_wheel() -> Path:
    """The wheel; skips where it can't be fetched."""
    wheel = cache_folder() / "llamafactory" / SHA256 / "llamafactory.whl"
    if wheel.is_file():
        return wheel
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run(
            [*command, "-r", str(wanted), "-d", folder], capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            pytest.skip(f"{REQUIREMENT} can't be fetched: {done.stderr.strip().splitlines()[-1]}")
        wheel.parent.mkdir(parents=True, exist_ok=True)
        temporary = wheel.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(next(Path(folder).glob("*.whl")).read_bytes())
        temporary.replace(wheel)
    return wheel


@cache
def data_module(name: str) -> ModuleType:
    """A module of the package llamafactory.data, without its `__init__`, which needs libraries for sound and video."""
    wheel = str(fetched_wheel())
    if wheel not in sys.path:
        sys.path.append(wheel)
        package = ModuleType("llamafactory.data")
        package.__path__ = [f"{wheel}/llamafactory/data"]
        sys.modules["llamafactory.data"] = package
    try:
        return importlib.import_module(f"llamafactory.data.{name}")
    except ImportError as error:
        pytest.skip(f"{REQUIREMENT} does not import here: {error}")


def convert(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as LLaMA-Factory's trainers get them: `_prompt`, `_response` and `_system`. Dropped rows have no turns.

    Args:
        folder: with a dataset_info.json.
        name: the data set's name there.
    """
    (attributes,) = data_module("parser").get_dataset_list([name], str(folder))
    converter = data_module("converter").get_dataset_converter(attributes.formatting, attributes, None)
    return [converter(row) for row in rows]
