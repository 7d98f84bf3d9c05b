"""LLaMA-Factory's own reader of data sets: fetched once, by hash, as a wheel that is not installed."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fetched_wheel import fetch_wheel, give_up

from fusechat.pipeline.models.cache import cache_folder

REQUIREMENT = "llamafactory==0.9.5"
SHA256 = "10776e9b259798bf65f6c5343f6298f0302e92e9cd47472abe29eef69e286c6a"


@cache
def fetched_wheel() -> Path:
    """The wheel."""
    wheel = cache_folder() / "llamafactory" / SHA256 / "llamafactory.whl"
    if wheel.is_file():
        return wheel
    with tempfile.TemporaryDirectory() as folder:
        content = fetch_wheel(REQUIREMENT, SHA256, Path(folder)).read_bytes()
    wheel.parent.mkdir(parents=True, exist_ok=True)
    temporary = wheel.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(content)
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
        give_up(f"{REQUIREMENT} does not import here: {error}")


def convert(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as LLaMA-Factory's trainers get them: `_prompt`, `_response` and `_system`. Dropped rows have no turns.

    Args:
        folder: with a dataset_info.json.
        name: the data set's name there.
    """
    (attributes,) = data_module("parser").get_dataset_list([name], str(folder))
    converter = data_module("converter").get_dataset_converter(attributes.formatting, attributes, None)
    return [converter(row) for row in rows]
