"""The benchmark section of the report: the results table as Markdown, LaTeX and JSON, and example answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from ..evaluation.result_types import DomainOutcome, SuiteResult, SuiteResults
from ..records import ItemRow
from ..storage.run_dir import RunDir

EXAMPLES_PER_KIND = 2
"""For each domain: prompts where the fused model got better, and as many where it got worse."""
SIGNIFICANCE = 0.05
CONTROLS = {"length": "length-controlled win rate", "style": "style-controlled win rate", "none": "win rate"}


class Cell(TypedDict):
    """A model's value in a row of the table, in %. Only `value` is set in a row of means."""

    value: float
    low: NotRequired[float]
    high: NotRequired[float]
    num_items: NotRequired[int]
    chars: NotRequired[float | None]
    """Mean length of the answers; judged suites only."""
    sure: NotRequired[bool]
    """Whether it differs significantly from the first model, after Holm's correction."""
    contaminated: NotRequired[int]
    """Items that are also among the training prompts."""


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A row of the table: a suite, the mean of a group of suites, or the mean of all suites."""

    title: str
    kind: str
    """suite, group or all."""
    metric: str = ""
    """What the values of a suite measure."""
    num_items: int = 0
    cells: dict[str, Cell | None] = field(default_factory=dict)
    """Model -> value; None if the suite has no value for the model."""


class BenchmarkExample(TypedDict):
    """A prompt on which the fused model and the first model got different scores."""

    kind: str
    """better or worse."""
    suite: str
    id: str
    domain: str
    prompt: str
    answers: dict[str, ItemRow]
    """Model -> row of evaluate/items.parquet."""


class SuiteOutcome(DomainOutcome):
    """Items of one suite and domain on which the fused model got better, stayed the same or got worse."""

    suite: str


class Benchmarks(SuiteResults):
    """What the report shows of the suites."""

    lines: list[BenchmarkRow]
    names: list[str]
    fused: str
    first: str
    outcomes: list[SuiteOutcome]
    examples: list[BenchmarkExample]


def load_benchmarks(run: RunDir) -> Benchmarks | None:
    """The benchmark section's content; None if no suite was evaluated."""
    if not run.exists("evaluate", "suites.json"):
        return None
    results: SuiteResults = run.read_json("evaluate", "suites.json")
    models = list(results["models"])
    fused = next((n for n in ("dpo", "sft") if n in models), models[-1])
    return {
        **results,
        "lines": table_rows(results),
        "names": models,
        "fused": fused,
        "first": models[0],
        "outcomes": _outcomes_by_domain(results, fused, models[0]),
        "examples": [] if fused == models[0] else _examples(run, fused, models[0]),
    }


def table_rows(results: SuiteResults) -> list[BenchmarkRow]:
    """The rows of the table: each group's suites and their mean, suites without a group, and the mean of all suites."""
    models = list(results["models"])
    rows: list[BenchmarkRow] = []
    for group, means in results["groups"].items():
        members = [s for s in results["suites"] if s["group"] == group]
        rows += [_suite_row(s, models) for s in members]
        if len(members) > 1:
            rows.append(BenchmarkRow(f"mean of {group}", "group", num_items=len(members), cells=_mean_cells(means)))
    rows += [_suite_row(s, models) for s in results["suites"] if not s["group"]]
    if len(results["suites"]) > 1:
        cells = _mean_cells(results["mean"])
        rows.append(BenchmarkRow("mean of all", "all", num_items=len(results["suites"]), cells=cells))
    return rows


def _suite_row(suite: SuiteResult, models: Sequence[str]) -> BenchmarkRow:
    judged = suite["kind"] == "judged"
    cells: dict[str, Cell | None] = {}
    for name in models:
        score = suite["scores"][name]
        figure = score["figure"]
        if figure is None:
            cells[name] = None
            continue
        comparisons = [c for c in suite["comparisons"] if (c["model"], c["baseline"]) == (name, models[0])]
        cells[name] = {
            "value": 100 * figure["value"],
            "low": 100 * figure["low"],
            "high": 100 * figure["high"],
            "num_items": figure["num_items"],
            "chars": score["mean_chars"] if judged else None,
            "sure": any(c["p_holm"] < SIGNIFICANCE for c in comparisons),
            "contaminated": suite["contaminated"],
        }
    if judged:
        assert suite["control"] is not None
        metric = CONTROLS[suite["control"]]
    else:
        metric = "by the harness" if suite["kind"] == "harness" else "% right"
    return BenchmarkRow(suite["name"], "suite", metric, suite["num_items"], cells)


def _mean_cells(means: Mapping[str, float | None]) -> dict[str, Cell | None]:
    return {name: None if value is None else {"value": 100 * value} for name, value in means.items()}


def format_cell(cell: Cell | None) -> str:
    """A cell as text, with its 95% interval and marks."""
    if cell is None:
        return "none"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    text = f"{cell['value']:.1f} ({cell['low']:.1f} to {cell['high']:.1f})"
    chars = "" if cell["chars"] is None else f", {cell['chars']:.0f} chars"
    return f"{text}{_marks(cell)}{chars}"


def _marks(cell: Cell) -> str:
    return ("*" if cell["sure"] else "") + ("!" if cell["contaminated"] else "")


NOTE = (
    "95% intervals in parentheses; * differs from {first} (Holm's correction over the suites, p < 0.05); "
    "! the suite shares rows with the training prompts; chars: mean length of the answers."
)


def markdown(results: SuiteResults) -> str:
    """The table as Markdown."""
    models = list(results["models"])
    out = ["| benchmark | figure | items |" + "".join(f" {name} |" for name in models)]
    out.append("|---|---|---|" + "---|" * len(models))
    for row in table_rows(results):
        title = row.title if row.kind == "suite" else f"**{row.title}**"
        cells = "".join(f" {format_cell(row.cells[name])} |" for name in models)
        out.append(f"| {title} | {row.metric} | {row.num_items if row.kind == 'suite' else ''} |{cells}")
    return "\n".join([*out, "", NOTE.format(first=models[0]), ""])


def latex(results: SuiteResults) -> str:
    """The table as LaTeX for booktabs; an interval is shown as half its width."""
    models = list(results["models"])
    out = [rf"\begin{{tabular}}{{ll{'r' * len(models)}}}", r"\toprule"]
    out.append(" & ".join(["Benchmark", "Items", *map(escape_latex, models)]) + r" \\")
    out.append(r"\midrule")
    for row in table_rows(results):
        if row.kind == "all":
            out.append(r"\midrule")
        cells = [_latex_cell(row.cells[name]) for name in models]
        title = escape_latex(row.title) if row.kind == "suite" else rf"\emph{{{escape_latex(row.title)}}}"
        out.append(" & ".join([title, str(row.num_items) if row.kind == "suite" else "", *cells]) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", f"% {NOTE.format(first=models[0])}", ""])


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    half = (cell["high"] - cell["low"]) / 2
    marks = _marks(cell)
    return f"{cell['value']:.1f} $\\pm$ {half:.1f}" + (f"$^{{{marks}}}$" if marks else "")


def escape_latex(text: str) -> str:
    """Escapes the characters that are special in LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda m: special.get(m.group(), "\\" + m.group()), text)


def as_json(results: SuiteResults) -> str:
    """The table as JSON: `columns`, and `lines` with title, kind, what, num_items and cells."""
    rows = [
        {"title": x.title, "kind": x.kind, "what": x.metric, "num_items": x.num_items, "cells": x.cells}
        for x in table_rows(results)
    ]
    return json.dumps({"columns": list(results["models"]), "lines": rows}, indent=1)


def write(run: RunDir, results: SuiteResults) -> None:
    """Writes report/benchmarks.md, .tex and .json."""
    for suffix, make in (("md", markdown), ("tex", latex), ("json", as_json)):
        run.write_bytes(make(results).encode("utf-8", "replace"), "report", f"benchmarks.{suffix}")


def _outcomes_by_domain(results: SuiteResults, fused: str, first: str) -> list[SuiteOutcome]:
    """Items on which the fused model is better, the same or worse than the first model, by suite and domain."""
    return [
        {"suite": suite["name"], **outcome}
        for suite in results["suites"]
        for outcome in suite["outcomes"]
        if (outcome["model"], outcome["baseline"]) == (fused, first)
    ]


def _examples(run: RunDir, fused: str, first: str) -> list[BenchmarkExample]:
    """For each domain, the first prompts by id where the fused model got better, and where it got worse."""
    rows: list[ItemRow] = run.read_table("evaluate", "items.parquet").to_pylist()
    baseline = {(r["suite"], r["prompt_id"]): r for r in rows if r["model"] == first and r["score"] is not None}
    by_kind: dict[tuple[str, str], list[BenchmarkExample]] = {}
    for row in sorted(rows, key=lambda r: (r["domain"], r["prompt_id"], r["suite"])):
        before = baseline.get((row["suite"], row["prompt_id"]))
        if row["model"] != fused or row["score"] is None or before is None or before["score"] is None:
            continue
        if row["score"] == before["score"]:
            continue
        kind = "better" if row["score"] > before["score"] else "worse"
        examples = by_kind.setdefault((row["domain"], kind), [])
        if len(examples) < EXAMPLES_PER_KIND:
            examples.append(
                {
                    "kind": kind,
                    "suite": row["suite"],
                    "id": row["id"],
                    "domain": row["domain"],
                    "prompt": row["prompt"],
                    "answers": {first: before, fused: row},
                }
            )
    return [example for _, examples in sorted(by_kind.items()) for example in examples]
