"""The command line: each command reads a recipe and calls the stages. Errors are printed in one line."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from ..errors import FusechatError, Preempted
from . import dataset_commands, evaluate, fetch, jobs, keys, plan, verify
from .arguments import RecipeArgument, SetOption, open_run

app = typer.Typer(
    name="fusechat",
    help="Fuse the strengths of several large language models into one small one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and where, and exit.")] = False,
) -> None:
    """Walk the stages that the recipe calls for, of: prompts, sample, score, select, sft, dpo, evaluate, report."""
    if dry_run:
        from ..planning.dry_run import describe
        from ..recipe.load import find, load

        typer.echo(describe(load(find(recipe), tuple(set_ or ()))))
        return
    _walk(recipe, set_, None)


app.add_typer(keys.app, name="keys")
for _command in (plan.plan, fetch.fetch, jobs.submit, jobs.jobs, jobs.logs, jobs.stop, verify.verify):
    app.command()(_command)
dataset_commands.register(app)


@app.command()
def serve(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Start the REST service: OpenAI's routes, /v1/sample, /v1/score, /v1/verify and a playground."""
    from fusechat.services.server import serve_forever

    serve_forever(open_run(recipe, set_))


def _stage_command(stage: str) -> None:
    def command(recipe: RecipeArgument, set_: SetOption = None) -> None:
        _walk(recipe, set_, stage)

    app.command(name=stage, help=f"Bring the stage {stage} up to date; the earlier stages must have run.")(command)


for _stage in ("prompts", "sample", "score", "select", "sft", "dpo"):
    _stage_command(_stage)
app.command()(evaluate.evaluate)
_stage_command("report")


def _walk(recipe: str, changes: list[str] | None, stage: str | None) -> None:
    from ..stages.walk import walk

    opened = open_run(recipe, changes)
    walk(opened, None if stage is None else (stage,))
    if stage == "select":
        from ..report.summary import print_funnel

        print_funnel(opened.dir)
    if stage in (None, "report"):
        from ..report.summary import print_summary

        print_summary(opened.dir)
        evaluate.print_suites(opened.dir)


def main() -> None:
    """Runs the command line. The exit code is 2 for mistakes of the user and 1 for failures."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except Preempted:
        typer.echo("fusechat: stopped by SIGTERM; resumable: the same command continues where it stopped", err=True)
        sys.stderr.flush()
        os._exit(0)  # threads may still wait for pending requests
    except FusechatError as error:
        if debug:
            raise
        typer.echo(f"fusechat: {' '.join(str(error).split())}", err=True)
        raise SystemExit(error.exit_code) from None


def entry() -> None:
    """Entry point of the process: runs main, and then ends the process at once."""
    code = 1  # for unexpected errors

    @atexit.register  # registered first, so it runs last
    def leave() -> None:
        """Exits without Python's cleanup: threads of Ray and Arrow that still run then can abort the process, although
        its work is done."""
        with suppress(OSError):  # the reader of the pipe has exited
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


if __name__ == "__main__":
    entry()
