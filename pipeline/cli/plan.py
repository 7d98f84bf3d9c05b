"""`fusechat plan`: estimates the cost of a recipe before it runs."""

from __future__ import annotations

import os
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
    """Estimate the cost of a recipe: tokens, GPU-hours, memory, disk and time. It needs neither models nor, if the
    recipe says how many rows to expect, its data."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it would print each attempt to reach the hub
    from ..errors import FusechatError
    from ..planning.plan_report import describe
    from ..planning.prompt_counts import counted, expected, is_unreachable
    from ..recipe import sections
    from ..stages.walk import walk

    run = open_run(recipe, set_)
    try:
        walk(run, sections.read_stages(run.recipe), pilot)
        run.pin_branches(())
        counts = counted(run)
    except FusechatError as error:
        if pilot or not is_unreachable(error):
            raise
        run.pin_branches(())
        counts = expected(run, error)
    for i, block in enumerate(describe(run, counts)):
        typer.echo(f"\n{block}" if i else block)
