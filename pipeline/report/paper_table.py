"""The table of the FuseChat-3.0 paper (arXiv 2503.04222) beside the run's own figures, for the paper's targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from ..evaluation.result_types import SuiteResult, SuiteResults
from .benchmarks import table_rows, unit

FILE = Path(__file__).parent / "paper" / "fusechat3.json"
"""The paper's figures, with where they are from. `null` is what was not found."""
MODELS = ("target", "sft", "dpo")
"""The run's models that stand for before, SFT and DPO."""

Figures = list[float | None]
"""Before, SFT, DPO, and the difference of DPO and before."""


class PaperTarget(TypedDict):
    """The paper's figures of one target."""

    target: str
    hub: list[str]
    figures: dict[str, list[float] | None]
    """Name of a suite -> before, SFT, DPO."""
    mean: list[float]
    note: str
    """What is special about this target's figures."""


class PaperFigures(TypedDict):
    """Content of FILE."""

    paper: str
    source: str
    columns: list[str]
    benchmarks: dict[str, str]
    """Name of a suite -> title."""
    targets: list[PaperTarget]


class PaperRow(TypedDict):
    """A benchmark, or the mean of all: the paper's figures and the run's."""

    title: str
    paper: Figures
    here: Figures
    metric: str
    """What the run's figures measure."""


class PaperTable(TypedDict):
    """What the report shows."""

    paper: str
    source: str
    target: str
    columns: list[str]
    note: str
    rows: list[PaperRow]


def published() -> PaperFigures:
    """The paper's figures."""
    figures: PaperFigures = json.loads(FILE.read_text("utf-8"))
    return figures


def paper_table(results: SuiteResults | None, hub: str | None) -> PaperTable | None:
    """The table; None if the target is none of the paper's, or no suite has a name of its benchmarks.

    Args:
        hub: the hub id of the run's target.
    """
    if results is None or hub is None:
        return None
    figures = published()
    target = next((t for t in figures["targets"] if hub.lower() in map(str.lower, t["hub"])), None)
    suites = {s["name"]: s for s in results["suites"] if s["name"] in figures["benchmarks"]}
    if target is None or not suites:
        return None
    metrics = {row.title: row.metric for row in table_rows(results) if row.kind == "suite"}
    here = {name: [_value(suite, model) for model in MODELS] for name, suite in suites.items()}
    rows: list[PaperRow] = [
        {
            "title": title,
            "paper": _with_difference(target["figures"][name]),
            "here": _with_difference(here.get(name)),
            "metric": metrics.get(name, "not evaluated"),
        }
        for name, title in figures["benchmarks"].items()
    ]
    rows.append(
        {
            "title": "mean",
            "paper": _with_difference(target["mean"]),
            "here": _with_difference(_means(here, list(figures["benchmarks"]))),
            "metric": f"of all {len(figures['benchmarks'])}",
        }
    )
    columns = [*figures["columns"], "difference"]
    return {
        "paper": figures["paper"],
        "source": figures["source"],
        "target": target["target"],
        "columns": columns,
        "note": target["note"],
        "rows": rows,
    }


def _value(suite: SuiteResult, model: str) -> float | None:
    score = suite["scores"].get(model)
    figure = score["figure"] if score is not None else None
    return None if figure is None else unit(suite) * figure["value"]


def _with_difference(values: Sequence[float | None] | None) -> Figures:
    before, sft, dpo = values or (None, None, None)
    return [before, sft, dpo, None if before is None or dpo is None else dpo - before]


def _means(here: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> list[float | None]:
    """The mean of all benchmarks for each model: None if one of them has no figure."""
    means: list[float | None] = []
    for i in range(len(MODELS)):
        values = [value for name in names if name in here and (value := here[name][i]) is not None]
        means.append(sum(values) / len(values) if len(values) == len(names) else None)
    return means
