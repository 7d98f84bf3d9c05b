"""What every command on a recipe takes, and the run that it works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..run import Run

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a recipe that ships (demo, ...).")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: section.key=value.")]


def work_on(recipe: str, changes: Sequence[str] | None) -> Run:
    """The recipe's run; relative paths in it start at the recipe's folder.

    Raises:
        InputError: there is no such recipe.
        RecipeError: it can't be used.
    """
    from ..progress import Progress
    from ..recipe.load import find, load
    from ..run import Run

    path = find(recipe)
    return Run(load(path, tuple(changes or ())), path.parent.resolve(), Progress())
