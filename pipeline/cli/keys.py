"""`fusechat keys`: the key file of the REST service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Manage the key file of the REST service, which defines who may call it.")
KeyFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.")]
KeyArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")]


@app.command()
def add(
    file: KeyFileArgument,
    name: KeyArgument,
    role: Annotated[str, typer.Option(help="sample, score or admin.")],
    expires: Annotated[
        str | None, typer.Option(help="Date like 2027-01-31 (start of the day in UTC), or date with time and zone.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Limit; a burst may use one minute's requests at once.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Limit for prompt and generated tokens together.")
    ] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="Limit for concurrent requests.")] = None,
) -> None:
    """Create a key. It is printed only this once; FILE contains only its hash."""
    from fusechat.services import auth

    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_in_flight": max_in_flight,
    }
    typer.echo(auth.add(file, name, role, expires=expires, **limits))


@app.command()
def remove(file: KeyFileArgument, name: KeyArgument) -> None:
    """Remove a key from FILE. A running service rejects it after one second."""
    from fusechat.services import auth

    auth.remove(file, name)


@app.command(name="list")
def list_(file: KeyFileArgument) -> None:
    """Print name, role, expiry and limits of each key."""
    from fusechat.services import auth

    for key in auth.read(file).keys:
        settings = key.model_dump(mode="json", exclude={"name", "role", "sha256"}, exclude_none=True)
        typer.echo("  ".join([key.name, key.role, *(f"{k}={v}" for k, v in settings.items())]))
