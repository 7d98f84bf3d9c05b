"""`fusechat plan`: what sampling and training will take."""

from __future__ import annotations

from typing import Annotated

import typer


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a recipe that ships (demo, ...).")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: section.key=value.")] = None,
    pilot: Annotated[
        int, typer.Option(min=0, help="First sample so many prompts from each source; what comes is kept.")
    ] = 0,
) -> None:
    """Say what sampling and training will take: samples, tokens, GPUs, disk, memory and time."""
    from fusechat.pipeline.planning import describe, sampled_lengths
    from fusechat.pipeline.progress import Progress
    from fusechat.pipeline.recipe import find, load
    from fusechat.pipeline.run import Run
    from fusechat.training.planning import describe as describe_training

    path = find(recipe)
    work = Run(load(path, tuple(set_ or ())), path.parent.resolve(), Progress())
    work.walk(("prompts",), pilot)
    typer.echo(describe(work))
    prompts = work.prompts("train").read(columns=["domain", "messages"])
    typer.echo(describe_training(work.recipe, work.base, work.dir, prompts, sampled_lengths(work)))
