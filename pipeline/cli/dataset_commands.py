"""`fusechat margins|trace|check|export|push`: commands on a run's data set. They sample and score nothing."""

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
    max_: Annotated[float | None, typer.Option("--max", help="Largest margin. Default: no limit.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw a plot, as .png or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the pairs that a margin window yields, by domain and source."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from ..dataset.locate import locate_run
    from ..dataset.margins import curve, edges, load, yields
    from ..errors import UserError

    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise UserError(f"margins: --plot {plot}: the name must end in .png or .svg")
    directory, recipe = locate_run(run)
    candidates = load(directory)
    if recipe.dataset is not None and not candidates.height:
        raise UserError("margins: the pairs of this data set have no scores, so they have no margins")
    rows = yields(candidates, recipe.select, min_, max_)
    if as_json:
        typer.echo(json.dumps([asdict(y) for y in rows]))
    else:
        table = Table(title=f"pairs with a margin of {min_} to {'any' if max_ is None else max_}", title_justify="left")
        for name in ("domain", "source"):
            table.add_column(name)
        for name in ("candidates", "inside", "pairs"):
            table.add_column(name, justify="right")
        for y in rows:
            table.add_row(y.domain, y.source, *(str(n) for n in (y.candidates, y.inside, y.pairs)))
        sums = (sum(y.candidates for y in rows), sum(y.inside for y in rows), sum(y.pairs for y in rows))
        table.add_row("all", "", *(str(n) for n in sums), style="bold")
        Console(highlight=False, markup=False).print(table)
    if plot is not None:
        from ..report import plots

        ends = edges(candidates, min_)
        curves = curve(candidates, min_, ends)
        plot.write_bytes(plots.yield_curves(ends, curves, min_, dict.fromkeys(curves, max_), plot.suffix[1:]))


def trace(
    run: RunArgument,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Identity of a row, response or prompt, or its start; or sft, dpo.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where a row comes from: prompt, source, template, seed, parameters, rewards, verdicts, reason, versions."""
    from ..dataset.locate import locate_run
    from ..dataset.trace import lines
    from ..dataset.trace import trace as trace_identity

    result = trace_identity(*locate_run(run), identity)
    typer.echo(json.dumps(result) if as_json else "\n".join(lines(result)))


def check(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the violations as JSON.")] = False,
) -> None:
    """Check the data set against its recipe; exit code 1 if rows break it, and their names on stderr."""
    from ..dataset.check import check as find_violations
    from ..dataset.imported_check import IMPORTED_RULES
    from ..dataset.locate import locate_run
    from ..dataset.row_checks import RULES

    directory, recipe = locate_run(run)
    violations = find_violations(directory, recipe)
    if as_json:
        typer.echo(json.dumps([{"promise": v.rule, "row": v.row, "why": v.why} for v in violations]))
    else:
        for rule in RULES if recipe.dataset is None else IMPORTED_RULES:
            num = sum(v.rule == rule for v in violations)
            typer.echo(f"{'ok    ' if not num else f'BROKEN {num:5d}'}  {rule}")
        for v in violations:
            typer.echo(f"{v.row}: {v.rule}: {v.why}", err=True)
    if violations:
        raise typer.Exit(1)


def export(
    run: RunArgument,
    format_: Annotated[
        str, typer.Option("--format", help="trl, llamafactory, alignment-handbook, axolotl, ms-swift or verl.")
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
) -> None:
    """Write the data set and its card in another trainer's format."""
    from ..dataset.export import export as write
    from ..dataset.locate import locate_run

    exported = write(*locate_run(run), format_, out)
    for name, num in exported.num_rows.items():
        typer.echo(f"{out / name}: {num} rows")
    for name in exported.empty:
        typer.echo(f"{out / name}: not written: it would have no rows, and `datasets` can't load such a file")
    if exported.left_out:
        typer.echo(f"{out / 'left_out.jsonl'}: {len(exported.left_out)} rows that the trainer would drop or change")


def push(
    run: RunArgument,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="owner/name on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private data set.")] = False,
) -> None:
    """Upload the data set and its card to a hub. HF_ENDPOINT sets the hub, and HF_TOKEN the account."""
    from ..dataset.locate import locate_run
    from ..dataset.push import push as upload

    typer.echo(upload(*locate_run(run), repo, private=private))
