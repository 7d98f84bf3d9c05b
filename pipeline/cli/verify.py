"""`fusechat verify`: verifies a file of responses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..errors import FusechatError, UserError
from ..progress import EVERY_S, Progress


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help="Rows: id, domain (math or code), response, and gold, or tests with entry_point (and prompt). Tests: "
            "Python code (assert lines, check(candidate), pytest, unittest), doctest, or inputs and outputs.",
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
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a row got no verdict.")] = False,
) -> None:
    """Verify math answers and code: one verdict per row (id, correct, reason, detail), in the same order."""
    from ..verify import VerifierPool, files

    if sandbox not in ("strict", "basic"):
        raise UserError(f"--sandbox: must be strict or basic (given: {sandbox!r:.60})")
    stream = sys.stdout if out is None else files.open_out(out)
    complete = False
    try:
        with VerifierPool(workers, timeout_s=timeout, sandbox=sandbox) as pool:  # type: ignore[arg-type]
            summary = files.verify_file(file, stream, pool, _progress(files.count_lines(file)))
        stream.flush()
        complete = True
    except OSError as error:
        raise UserError(f"--out: the verdicts can't be written: {error.strerror}") from error
    finally:
        if out is not None:
            files.finish_out(out, stream, complete=complete)
    typer.echo(str(summary), err=True)
    if strict and summary.num_unjudged:
        raise FusechatError(f"{file}: {summary.num_unjudged} rows got no verdict (--strict)")


def _progress(num_rows: int) -> Callable[[], None]:
    """Shows progress if it takes more than a few seconds; returns what is called after each row."""
    progress, began, done = Progress(), time.monotonic(), 0
    shown: list[bool] = []

    def on_row() -> None:
        nonlocal done
        done += 1
        if time.monotonic() - began < EVERY_S:
            return
        if not shown:
            progress.begin("verify", max(num_rows, done), done)
            shown.append(True)
        progress.advance("verify", 1)

    return on_row
