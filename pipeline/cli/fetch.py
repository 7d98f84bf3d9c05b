"""`fusechat fetch`: downloads a recipe's models beforehand."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import RecipeArgument, SetOption, open_run


def fetch(
    recipe: RecipeArgument,
    set_: SetOption = None,
    served: Annotated[
        bool, typer.Option("--served", help="Only models that the REST service hosts, not the target.")
    ] = False,
) -> None:
    """Download the recipe's models that are not in the cache yet."""
    from ..recipe import OwnReward

    run = open_run(recipe, set_)
    wanted = {s.name: s.model for s in run.recipe.served}
    wanted |= {f"reward {r.name}": r.model for r in run.recipe.rewards if isinstance(r, OwnReward)}
    if not served and run.recipe.target is not None:
        wanted["target"] = run.recipe.target.model
    for name, folder in run.fetch(wanted).items():
        typer.echo(f"{name}: {folder}")
