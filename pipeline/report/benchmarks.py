"""The benchmark section of the report: the results table as Markdown, LaTeX and JSON, and example answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from ..evaluation.result_types import DomainOutcome, SuiteDescription, SuiteResult, SuiteResults, is_rating
from ..records import ItemRow
from ..storage.run_dir import RunDir

EXAMPLES_PER_KIND = 2
"""For each domain: prompts where the fused model got better, and as many where it got worse."""
SIGNIFICANCE = 0.05
CONTROLS = {"length": "length-controlled win rate", "style": "style-controlled win rate", "none": "win rate"}


class Cell(TypedDict):
    """A model's value in a row of the table, in % or as a rating. Only `value` is set in a row of means."""

    value: float
    low: NotRequired[float]
    high: NotRequired[float]
    num_items: NotRequired[int]
    digits: NotRequired[int]
    """Digits after the point."""
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
    highest: float = 100
    """Highest value that is possible: 100 for %, 10 for ratings."""
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


def unit(suite: SuiteDescription) -> float:
    """By what a score of a suite is multiplied to be shown: in %, or as a rating of 1 to 10."""
    return 1 if is_rating(suite) else 100


def _suite_row(suite: SuiteResult, models: Sequence[str]) -> BenchmarkRow:
    judged, rated, factor = suite["kind"] == "judged", is_rating(suite), unit(suite)
    cells: dict[str, Cell | None] = {}
    for name in models:
        score = suite["scores"][name]
        figure = score["figure"]
        if figure is None:
            cells[name] = None
            continue
        comparisons = [c for c in suite["comparisons"] if (c["model"], c["baseline"]) == (name, models[0])]
        cells[name] = {
            "value": factor * figure["value"],
            "low": factor * figure["low"],
            "high": factor * figure["high"],
            "num_items": figure["num_items"],
            "digits": 2 if rated else 1,
            "chars": score["mean_chars"] if judged else None,
            "sure": any(c["p_holm"] < SIGNIFICANCE for c in comparisons),
            "contaminated": suite["contaminated"],
        }
    if judged:
        metric = "rating, 1 to 10" if rated else CONTROLS[suite["control"] or "none"]
    else:
        metric = "by the harness" if suite["kind"] == "harness" else "% right"
    return BenchmarkRow(suite["name"], "suite", metric, suite["num_items"], 10 if rated else 100, cells)


def _mean_cells(means: Mapping[str, float | None]) -> dict[str, Cell | None]:
    return {name: None if value is None else {"value": 100 * value} for name, value in means.items()}


def format_cell(cell: Cell | None) -> str:
    """A cell as text, with its 95% interval and marks."""
    if cell is None:
        return "none"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    value, low, high = (f"{number:.{cell['digits']}f}" for number in (cell["value"], cell["low"], cell["high"]))
    text = f"{value} ({low} to {high})"
    chars = "" if cell["chars"] is None else f", {cell['chars']:.0f} chars"
    return f"{text}{_marks(cell)}{chars}"


def format_change(difference: float, suite: SuiteDescription) -> str:
    """A difference of two scores of a suite as text, with its sign."""
    return f"{unit(suite) * difference:+.{2 if is_rating(suite) else 1}f}"


def _marks(cell: Cell) -> str:
    return ("*" if cell["sure"] else "") + ("!" if cell["contaminated"] else "")


NOTE = (
    "95% intervals in parentheses; * differs from {first} (Holm's correction over the suites, p < 0.05); "
    "! the suite shares rows with the training prompts; chars: mean length of the answers."
)
RATING_NOTE = (
    " In means, a rating of 1 to 10 counts as that many percent, as in the averages of FuseChat-3.0 (arXiv 2503.04222)."
)


def note(results: SuiteResults) -> str:
    """What stands under the table."""
    rated = len(results["suites"]) > 1 and any(map(is_rating, results["suites"]))
    return NOTE.format(first=next(iter(results["models"]))) + (RATING_NOTE if rated else "")


def markdown(results: SuiteResults) -> str:
    """The table as Markdown."""
    models = list(results["models"])
    out = ["| benchmark | figure | items |" + "".join(f" {name} |" for name in models)]
    out.append("|---|---|---|" + "---|" * len(models))
    for row in table_rows(results):
        title = row.title if row.kind == "suite" else f"**{row.title}**"
        cells = "".join(f" {format_cell(row.cells[name])} |" for name in models)
        out.append(f"| {title} | {row.metric} | {row.num_items if row.kind == 'suite' else ''} |{cells}")
    return "\n".join([*out, "", note(results), ""])


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
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", f"% {note(results)}", ""])


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    half = (cell["high"] - cell["low"]) / 2
    marks = _marks(cell)
    return f"{cell['value']:.{cell['digits']}f} $\\pm$ {half:.{cell['digits']}f}" + (f"$^{{{marks}}}$" if marks else "")


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
