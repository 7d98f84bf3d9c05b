"""`fusechat plan`: estimates the cost of sampling and training."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import RecipeArgument, SetOption, open_run


def plan(
    recipe: RecipeArgument,
    set_: SetOption = None,
    pilot: Annotated[
        int, typer.Option(min=0, help="First sample this many prompts from each source; the responses are kept.")
    ] = 0,
) -> None:
    """Estimate the cost of sampling and training: samples, tokens, GPUs, disk, memory and time."""
    from ..planning.sampling_cost import describe, sampled_lengths
    from ..planning.training_cost import describe as describe_training
    from ..recipe import sections
    from ..stages.walk import walk

    run = open_run(recipe, set_)
    walk(run, sections.read_stages(run.recipe), pilot)
    run.pin_branches(resolve=False)
    if "sample" in run.recipe.stages:
        typer.echo(describe(run))
    prompts = run.prompts("train").read(columns=["domain", "messages"])
    typer.echo(describe_training(run.recipe, run.base, run.dir, prompts, sampled_lengths(run)))
