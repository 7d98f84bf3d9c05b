"""`fusechat plan`: what sampling and training will take."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import RecipeArgument, SetOption, work_on


def plan(
    recipe: RecipeArgument,
    set_: SetOption = None,
    pilot: Annotated[
        int, typer.Option(min=0, help="First sample so many prompts from each source; what comes is kept.")
    ] = 0,
) -> None:
    """Say what sampling and training will take: samples, tokens, GPUs, disk, memory and time."""
    from ..planning.sampling_cost import describe, sampled_lengths
    from ..planning.training_cost import describe as describe_training
    from ..stages.walk import walk

    work = work_on(recipe, set_)
    walk(work, ("prompts",), pilot)
    work.pin_branches(resolve=False)
    typer.echo(describe(work))
    prompts = work.prompts("train").read(columns=["domain", "messages"])
    typer.echo(describe_training(work.recipe, work.base, work.dir, prompts, sampled_lengths(work)))
