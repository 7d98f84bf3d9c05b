"""`fusechat submit`, `jobs`, `logs` and `stop`: run a recipe as a job of a Ray cluster."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import RecipeArgument, SetOption

if TYPE_CHECKING:
    from ..cluster.ray_jobs import Jobs

AddressOption = Annotated[
    str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard: http://HOST:8265.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `fusechat jobs` prints it.")]
COMMANDS = ("run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")


def submit(
    recipe: RecipeArgument,
    address: AddressOption,
    set_: SetOption = None,
    stage: Annotated[str, typer.Option(help="One stage only. Default: all stages.")] = "run",
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not follow it.")] = False,
    grows: Annotated[
        bool, typer.Option("--grows", help="The cluster autoscales: do not check its size in advance.")
    ] = False,
) -> None:
    """Run a recipe as a job of a Ray cluster, follow its log, and exit with its exit code."""
    from ..cluster.ray_jobs import Jobs
    from ..errors import UserError
    from ..recipe.load import find, load

    if stage not in COMMANDS:
        raise UserError(f"--stage: must be one of {', '.join(COMMANDS)} (given: {stage!r})")
    path, changes = find(recipe), tuple(set_ or ())
    loaded = load(path, changes)
    cluster = Jobs(address)
    job = cluster.submit(path, loaded, stage, changes, grows=grows)
    typer.echo(job if detach else f"{job}: submitted", err=not detach)
    if not detach:
        _follow(cluster, job, address)


def logs(job: JobArgument, address: AddressOption) -> None:
    """Follow a job's log from its start, and exit with its exit code."""
    from ..cluster.ray_jobs import Jobs

    _follow(Jobs(address), job, address)


def jobs(address: AddressOption) -> None:
    """List the cluster's jobs: id, status, start, run directory."""
    from ..cluster.ray_jobs import Jobs

    for job in Jobs(address).all():
        started = datetime.fromtimestamp((job.start_time or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        run_dir = (job.metadata or {}).get("fusechat_run_dir", "-")
        typer.echo(f"{job.submission_id}  {job.status.value}  {started}  {run_dir}")


def stop(job: JobArgument, address: AddressOption) -> None:
    """Stop a job. Its finished work is kept; submitting the recipe again continues from there."""
    from ..cluster.ray_jobs import Jobs

    typer.echo(f"{job}: {Jobs(address).stop(job).lower()}")


def _follow(cluster: Jobs, job: str, address: str) -> None:
    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        code = cluster.follow(job, write, lambda line: typer.echo(f"fusechat: {line}", err=True))
    except KeyboardInterrupt:
        typer.echo(f"\nfusechat: the job continues; to follow it: fusechat logs {job} --address {address}", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(code)
