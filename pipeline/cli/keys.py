"""`fusechat keys`: the key file of the REST service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The key file of the REST service: who may call.")
KeyFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.")]
KeyArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")]


@app.command()
def add(
    file: KeyFileArgument,
    name: KeyArgument,
    role: Annotated[str, typer.Option(help="sample, score or admin.")],
    expires: Annotated[str | None, typer.Option(help="2027-01-31 (its start in UTC) or with time and zone.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Bursts may use a minute's worth at once.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Read and generated together.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="Requests at the same time.")] = None,
) -> None:
    """Make a key: it is printed this once, and FILE gets its hash alone."""
    from fusechat.services import auth

    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_in_flight": max_in_flight,
    }
    typer.echo(auth.add(file, name, role, expires=expires, **limits))


@app.command()
def remove(file: KeyFileArgument, name: KeyArgument) -> None:
    """Take a key out of FILE; a running service refuses it a second later."""
    from fusechat.services import auth

    auth.remove(file, name)


@app.command(name="list")
def list_(file: KeyFileArgument) -> None:
    """Print name, role, expiry and limits of each key."""
    from fusechat.services import auth

    for key in auth.read(file).keys:
        settings = key.model_dump(mode="json", exclude={"name", "role", "sha256"}, exclude_none=True)
        typer.echo("  ".join([key.name, key.role, *(f"{k}={v}" for k, v in settings.items())]))
