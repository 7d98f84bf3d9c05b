"""`fusechat plan`: estimates the cost of a recipe before it runs."""

from __future__ import annotations

import logging
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
    from ..errors import FusechatError
    from ..planning.prompt_counts import counted, expected, is_unreachable
    from ..planning.report import describe
    from ..stages.walk import walk

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would print each of its attempts
    run = open_run(recipe, set_)
    try:
        walk(run, ("prompts",), pilot)
        run.pin_branches(resolve=False)
        counts = counted(run)
    except FusechatError as error:
        if pilot or not is_unreachable(error):
            raise
        run.pin_branches(resolve=False)
        counts = expected(run, error)
    for i, block in enumerate(describe(run, counts)):
        typer.echo(f"\n{block}" if i else block)
