"""`fusechat fetch`: a recipe's models, before anything asks for them."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a recipe that ships (demo, ...).")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: section.key=value.")] = None,
    served: Annotated[bool, typer.Option("--served", help="Only what the service hosts: not the target.")] = False,
) -> None:
    """Fetch the recipe's models into the cache; what is there is left as it is."""
    from fusechat.pipeline.config import OwnReward
    from fusechat.pipeline.progress import Progress
    from fusechat.pipeline.recipe import find, load
    from fusechat.pipeline.run import Run

    path = find(recipe)
    run = Run(load(path, tuple(set_ or ())), path.parent.resolve(), Progress())
    wanted = {s.name: s.model for s in run.recipe.served}
    wanted |= {f"reward {r.name}": r.model for r in run.recipe.rewards if isinstance(r, OwnReward)}
    if not served:
        wanted["target"] = run.recipe.target.model
    for name, folder in run.fetch(wanted).items():
        typer.echo(f"{name}: {folder}")
