"""The working directory of a job on a cluster: fusechat itself, the recipe, and the files that the recipe names."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import InputError, RecipeError
from ..recipe import Recipe
from ..recipe.paths import input_paths, model_paths

IGNORED = shutil.ignore_patterns("__pycache__")
LIMIT_BYTES = 200 * 2**20
"""Ray refuses more than 500 MiB, and its head node keeps the folder of every job in memory."""


def pack(path: Path, recipe: Recipe, folder: Path) -> None:
    """Fills a folder that becomes the job's working directory: recipe.yaml, and the files and folders that it names.

    fusechat's code is copied too. Ray Serve passes a job's working directory to its replicas, but not modules that are
    sent in other ways. It also means that the cluster needs no pip.

    Args:
        path: the recipe's file.
        recipe: the recipe in it.

    Raises:
        RecipeError: a setting has no meaning on the cluster.
        InputError: a file can't be read or lies outside the recipe's folder, or the files are too large together.
    """
    _check_portable(recipe)
    base = path.parent.resolve()
    shutil.copyfile(path, folder / "recipe.yaml")
    for name in dict.fromkeys(named.path for named in input_paths(recipe) if named.is_relative):
        source = (base / name).resolve()
        if not source.is_relative_to(base):
            raise InputError(
                name, 0, "lies outside the recipe's folder: give an absolute path on the cluster, or move it"
            )
        target = folder / source.relative_to(base)
        if target in (folder, folder / "recipe.yaml", folder / "fusechat"):
            raise InputError(name, 0, "can't be sent under this name: rename it")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=IGNORED, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            raise InputError(str(source), 0, f"can't be read: {error.strerror or error}") from error
    import fusechat

    code = Path(str(fusechat.__file__)).parent
    shutil.copytree(code, folder / "fusechat", ignore=IGNORED)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if size > LIMIT_BYTES:
        raise InputError(
            str(path),
            0,
            f"its files have {size / 2**20:.0f} MiB, a job may send {LIMIT_BYTES / 2**20:.0f} MiB: "
            "put the prompts where the cluster can read them, and give absolute paths",
        )


def _check_portable(recipe: Recipe) -> None:
    """Refuses settings that have a meaning only on this machine."""
    if "://" not in recipe.run_dir and not Path(recipe.run_dir).is_absolute():
        raise RecipeError(
            "run_dir",
            recipe.run_dir,
            "a job needs an absolute path that all nodes share, or s3://...: --set run_dir=...",
        )
    for key, path in model_paths(recipe):
        if not Path(path).is_absolute():
            raise RecipeError(key, path, "models are not sent with a job: give an absolute path on the cluster, or hub")


def as_metadata(recipe: Recipe) -> dict[str, str]:
    """What Ray stores with the job, so that other users see which recipe and run directory it uses."""
    return {"fusechat_recipe": recipe.name, "fusechat_run_dir": recipe.run_dir.rstrip("/")}
