"""`fusechat verify`: verifies a file of responses."""

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
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for the verdicts. Default: they are printed.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of concurrent checks.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds per check.")] = 5.0,
    sandbox: Annotated[
        str, typer.Option(help="strict or basic: the sandbox layers that must work before code runs.")
    ] = "strict",
) -> None:
    """Verify math answers and code: one verdict per row (id, correct, reason, detail), in the same order."""
    from ..verify import VerifierPool, files

    if sandbox not in ("strict", "basic"):
        raise UserError(f"--sandbox: must be strict or basic (given: {sandbox!r:.60})")
    stream = sys.stdout if out is None else files.open_out(out)
    complete = False
    try:
        with VerifierPool(workers, timeout_s=timeout, sandbox=sandbox) as pool:  # type: ignore[arg-type]
            counts, first_bad = files.verify_file(file, stream, pool)
        stream.flush()
        complete = True
    except OSError as error:
        raise UserError(f"--out: the verdicts can't be written: {error.strerror}") from error
    finally:
        if out is not None:
            files.finish_out(out, stream, complete=complete)
    summary = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
    typer.echo(
        f"{sum(counts.values())} rows: {summary}" + (f"; first bad row: {first_bad}" if first_bad else ""), err=True
    )
