"""Arguments that the commands share, and the run of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..run import Run

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a built-in recipe (demo, ...).")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: section.key=value.")]


def open_run(recipe: str, changes: Sequence[str] | None) -> Run:
    """The run of a recipe. Relative paths in the recipe start at its folder.

    Args:
        changes: settings to change, as `section.key=value`.

    Raises:
        InputError: there is no such recipe.
        RecipeError: the recipe is invalid.
    """
    from ..progress import Progress
    from ..recipe.load import find, load
    from ..run import Run

    path = find(recipe)
    return Run(load(path, tuple(changes or ())), path.parent.resolve(), Progress())
