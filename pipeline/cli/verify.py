"""`fusechat verify`: verdicts on a file of responses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help="Rows: id, domain (math or code), response, and gold, or tests with entry_point (and prompt). Tests: "
            'assert lines, a check(candidate) function, or a list of {"input", "output"} for programs.',
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where they go; else printed.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Checks at the same time.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds a check.")] = 5.0,
    sandbox: Annotated[str, typer.Option(help="strict or basic: layers that must hold before code runs.")] = "strict",
) -> None:
    """Check math answers and code: a verdict a row (id, correct, reason, detail), in the same order."""
    from ..verify import VerifierPool, files

    if sandbox not in ("strict", "basic"):
        raise UserError(f"--sandbox: strict or basic (given: {sandbox!r:.60})")
    written = sys.stdout if out is None else files.open_out(out)
    whole = False
    try:
        with VerifierPool(workers, timeout_s=timeout, sandbox=sandbox) as pool:  # type: ignore[arg-type]
            counts, first_bad = files.verify_file(file, written, pool)
        written.flush()
        whole = True
    except OSError as error:
        raise UserError(f"--out: the verdicts can't be written: {error.strerror}") from error
    finally:
        if out is not None:
            files.finish_out(out, written, complete=whole)
    told = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
    typer.echo(
        f"{sum(counts.values())} rows: {told}" + (f"; first bad row: {first_bad}" if first_bad else ""), err=True
    )
