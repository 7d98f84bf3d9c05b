"""What a job takes with it to a cluster: the product itself, the recipe, and the files that the recipe names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fusechat.pipeline.errors import InputError, RecipeError
from fusechat.pipeline.recipe import Model, OwnReward, Recipe

LIMIT_BYTES = 200 * 2**20
"""Ray refuses more than 500 MiB, and keeps every job's folder in the memory of its head."""


def pack(path: Path, recipe: Recipe, folder: Path) -> None:
    """Fills a folder that becomes the job's working directory: recipe.yaml and what lies beside it by name.

    The product goes along unpacked, as its wheel holds it: Ray Serve hands a job's working directory on to replicas,
    and its other ways to bring a module along not; and the cluster needs no pip.

    Args:
        path: the recipe's file.
        recipe: what was read from it.

    Raises:
        RecipeError: a setting that can't mean the same on the cluster.
        InputError: a file can't be read, lies outside the recipe's folder, or all of them are too large.
    """
    _same_there(recipe)
    base = path.parent.resolve()
    shutil.copyfile(path, folder / "recipe.yaml")
    for name in files(recipe):
        source = (base / name).resolve()
        if not source.is_relative_to(base):
            raise InputError(
                name, 0, "lies outside the recipe's folder: give an absolute path on the cluster, or move it"
            )
        target = folder / source.relative_to(base)
        if target in (folder / "recipe.yaml", folder / "fusechat"):
            raise InputError(name, 0, "can't be sent under this name: rename it")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as error:
            raise InputError(str(source), 0, f"can't be read: {error.strerror}") from error
    import fusechat

    product = Path(str(fusechat.__file__)).parent
    shutil.copytree(product, folder / "fusechat", ignore=shutil.ignore_patterns("__pycache__"))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if size > LIMIT_BYTES:
        raise InputError(
            str(path),
            0,
            f"its files have {size / 2**20:.0f} MiB, a job takes {LIMIT_BYTES / 2**20:.0f} MiB along: "
            "put the prompts where the cluster reads them, and give absolute paths",
        )


def files(recipe: Recipe) -> list[str]:
    """The relative paths that a recipe names, each once."""
    named = [path for s in recipe.prompts.entries if (path := s if isinstance(s, str) else s.path) is not None]
    named += [s.chat_template for s in recipe.served if s.chat_template is not None]
    named += [recipe.target.chat_template] if recipe.target.chat_template is not None else []
    return list(dict.fromkeys(n for n in named if not Path(n).is_absolute() and "://" not in n))


def _same_there(recipe: Recipe) -> None:
    """Refuses settings that only mean something on this machine."""
    if "://" not in recipe.run_dir and not Path(recipe.run_dir).is_absolute():
        raise RecipeError(
            "run_dir",
            recipe.run_dir,
            "a job needs an absolute path that all nodes share, or s3://...: --set run_dir=...",
        )
    models: list[tuple[str, Model]] = [(f"sources.{s.name}.model.path", s.model) for s in recipe.served]
    models += [(f"rewards.{r.name}.model.path", r.model) for r in recipe.rewards if isinstance(r, OwnReward)]
    for key, model in [*models, ("target.model.path", recipe.target.model)]:
        if model.path is not None and not Path(model.path).is_absolute():
            raise RecipeError(
                key, model.path, "models are not sent along: give an absolute path on the cluster, or hub"
            )


def as_metadata(recipe: Recipe) -> dict[str, Any]:
    """What Ray keeps with the job, by which others see what it works on."""
    return {"fusechat_recipe": recipe.name, "fusechat_run_dir": recipe.run_dir.rstrip("/")}
