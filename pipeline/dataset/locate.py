"""Opens a run for reading, by its directory or its recipe."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ..errors import RunDirectoryError
from ..recipe import Recipe
from ..storage.run_dir import RunDir


def locate_run(run: str) -> tuple[RunDir, Recipe]:
    """The run directory and the recipe of its last run.

    Args:
        run: a run directory (a path or s3://...), or a recipe as `fusechat run` takes it.

    Raises:
        RunDirectoryError: the directory contains no run.
        RecipeError: there is no such recipe.
    """
    from ..recipe.load import find, load

    if not run.startswith("s3://") and not Path(run).is_dir():
        recipe = load(find(run), ())
        return RunDir(recipe.run_dir), recipe
    directory = RunDir(run)
    if not directory.exists("run.json"):
        raise RunDirectoryError(f"{run}: is not a run directory: it contains no run.json")
    try:
        return directory, Recipe.model_validate(directory.read_json("run.json")["settings"])
    except (ValidationError, KeyError, ValueError) as error:
        raise RunDirectoryError(f"{run}: run.json can't be read; it was written by another version: {error}") from error
