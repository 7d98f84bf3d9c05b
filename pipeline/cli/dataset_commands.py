"""`fusechat margins|trace|check|export|push`: what can be asked of a run's data set; nothing is sampled or scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory or a recipe.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (margins, trace, check, export, push):
        app.command()(command)


def margins(
    run: RunArgument,
    min_: Annotated[float, typer.Option("--min", help="Smallest margin.")] = 0.0,
    max_: Annotated[float | None, typer.Option("--max", help="Largest margin; none sets no bound.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as .png or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How many pairs a margin window yields, by domain and source."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from ..dataset import margins as rule
    from ..dataset.locate import opened
    from ..errors import UserError

    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise UserError(f"margins: --plot {plot}: the name must end in .png or .svg")
    directory, recipe = opened(run)
    candidates = rule.load(directory)
    found = rule.yields(candidates, recipe.select, min_, max_)
    if as_json:
        typer.echo(json.dumps([asdict(y) for y in found]))
    else:
        table = Table(title=f"pairs with a margin of {min_} to {'any' if max_ is None else max_}", title_justify="left")
        for name in ("domain", "source"):
            table.add_column(name)
        for name in ("candidates", "inside", "pairs"):
            table.add_column(name, justify="right")
        for y in found:
            table.add_row(y.domain, y.source, *(str(n) for n in (y.candidates, y.inside, y.pairs)))
        sums = [sum(getattr(y, n) for y in found) for n in ("candidates", "inside", "pairs")]
        table.add_row("all", "", *(str(n) for n in sums), style="bold")
        Console(highlight=False, markup=False).print(table)
    if plot is not None:
        from ..report import plots

        ends = rule.edges(candidates, min_)
        curves = rule.curve(candidates, min_, ends)
        plot.write_bytes(plots.yield_curves(ends, curves, min_, dict.fromkeys(curves, max_), plot.suffix[1:]))


def trace(
    run: RunArgument,
    identity: Annotated[str, typer.Argument(metavar="ID", help="Of a row, response or prompt; or sft, dpo.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why a row is there: prompt, source, template, seed, parameters, rewards, verdicts, reason, versions."""
    from ..dataset.locate import opened
    from ..dataset.trace import lines
    from ..dataset.trace import trace as find

    found = find(*opened(run), identity)
    typer.echo(json.dumps(found) if as_json else "\n".join(lines(found)))


def check(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, all rows.")] = False,
) -> None:
    """Hold the data set against its recipe; exit code 1 names each row that breaks it."""
    from dataclasses import asdict

    from ..dataset.check import PROMISES
    from ..dataset.check import check as hold
    from ..dataset.locate import opened

    broken = hold(*opened(run))
    if as_json:
        typer.echo(json.dumps([asdict(b) for b in broken]))
    else:
        for promise in PROMISES:
            num = sum(b.promise == promise for b in broken)
            typer.echo(f"{'ok    ' if not num else f'BROKEN {num:5d}'}  {promise}")
        for b in broken:
            typer.echo(f"{b.row}: {b.promise}: {b.why}", err=True)
    if broken:
        raise typer.Exit(1)


def export(
    run: RunArgument,
    format_: Annotated[str, typer.Option("--format", help="trl, llamafactory or alignment-handbook.")],
    out: Annotated[Path, typer.Option(help="An empty or new folder.")],
) -> None:
    """Write the data set as another trainer reads it, with its card."""
    from ..dataset.export import export as write
    from ..dataset.locate import opened

    for name, num in write(*opened(run), format_, out).items():
        typer.echo(f"{out / name}: {num} rows")


def push(
    run: RunArgument,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="owner/name on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a private data set.")] = False,
) -> None:
    """Send the data set and its card to a hub; HF_ENDPOINT and HF_TOKEN say which and as whom."""
    from ..dataset.locate import opened
    from ..dataset.push import push as send

    typer.echo(send(*opened(run), repo, private=private))
