"""`fusechat fetch`: a recipe's models, before anything asks for them."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import RecipeArgument, SetOption, work_on


def fetch(
    recipe: RecipeArgument,
    set_: SetOption = None,
    served: Annotated[bool, typer.Option("--served", help="Only what the service hosts: not the target.")] = False,
) -> None:
    """Fetch the recipe's models into the cache; what is there is left as it is."""
    from ..recipe import OwnReward

    run = work_on(recipe, set_)
    wanted = {s.name: s.model for s in run.recipe.served}
    wanted |= {f"reward {r.name}": r.model for r in run.recipe.rewards if isinstance(r, OwnReward)}
    if not served:
        wanted["target"] = run.recipe.target.model
    for name, folder in run.fetch(wanted).items():
        typer.echo(f"{name}: {folder}")
