"""`fusechat evaluate`: evaluates models on the held-out prompts and the recipe's suites."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .arguments import RecipeArgument, SetOption, open_run

if TYPE_CHECKING:
    from ..storage.run_dir import RunDir

ModelEntry = dict[str, object]
"""An entry of `evaluate.models` as JSON."""


def evaluate(
    recipe: RecipeArgument,
    set_: SetOption = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated models instead of evaluate.models: target, sft, dpo, a source, a model in "
            "evaluate.models, a folder, a hub id (owner/name@revision). All are compared with the first."
        ),
    ] = None,
) -> None:
    """Bring the stage evaluate up to date: answer the held-out prompts and suites, verify, judge and compare."""
    from ..report.summary import print_summary
    from ..stages.walk import walk

    run = open_run(recipe, set_)
    if models is not None:
        loaded = run.recipe
        known = {m.name: m.model_dump(mode="json") for m in loaded.evaluate.models if not isinstance(m, str)}
        sources = [s.name for s in loaded.sources]
        chosen = [entry(text.strip(), known, sources) for text in models.split(",")]
        run = open_run(recipe, [*(set_ or ()), f"evaluate.models={json.dumps(chosen)}"])
    walk(run, ("evaluate",))
    print_summary(run.dir)
    print_suites(run.dir)


def print_suites(run: RunDir) -> None:
    """Prints the table of the suites, if there is one."""
    from rich.console import Console
    from rich.table import Table

    from ..report import benchmarks

    results = benchmarks.load_benchmarks(run)
    if results is None:
        return
    table = Table(title="benchmarks, % or rating of 1 to 10 (95% interval)", title_justify="left")
    for name in ("", "items", *results["names"]):
        table.add_column(name, justify="right" if name else "left")
    for line in results["lines"]:
        cells = [benchmarks.format_cell(line.cells[name]) for name in results["names"]]
        table.add_row(line.title, str(line.num_items) if line.kind == "suite" else "", *cells)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(benchmarks.note(results))


def entry(text: str, known: Mapping[str, ModelEntry], sources: Sequence[str]) -> str | ModelEntry:
    """The entry of `evaluate.models` for one model of `--models`.

    Args:
        known: name -> entry of `evaluate.models` with weights of its own.
        sources: names of the recipe's sources.

    Raises:
        UserError: there is no such model.
    """
    from ..recipe import TRAINED

    if text in (*TRAINED, *sources):
        return text
    if text in known:
        return known[text]
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return {"name": _name(folder.resolve().name), "model": {"path": str(folder.resolve())}}
    identity, _, revision = text.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", identity) and not text.startswith("."):
        return {"name": _name(identity.split("/")[-1]), "model": {"hub": identity, "revision": revision or "main"}}
    names = ", ".join((*TRAINED, *sources, *known))
    raise UserError(f"--models: {text!r:.80} is not a folder and not one of {names}; a hub id is owner/name@revision")


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", text.lower()).lstrip("._-")[:50] or "model"
