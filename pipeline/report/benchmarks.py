"""The suites in the report: the table as text, LaTeX and JSON, what was judged, and where the fused model differs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..storage.run_dir import RunDir

EXAMPLES = 2
"""Prompts of each domain where the fused model got better, and where it got worse."""
SURE = 0.05
CONTROLS = {"length": "length-controlled win rate", "style": "style-controlled win rate", "none": "win rate"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: a suite, the mean of a group, or the mean of all; figures in %."""

    title: str
    kind: str
    """suite, group or all."""
    what: str = ""
    """What a suite's figure is."""
    num_items: int = 0
    cells: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Model -> value; of a suite also low, high, num_items, chars (of judged ones), sure (of the difference to the
    first model, after Holm's correction), and contaminated."""


def collect(run: RunDir) -> dict[str, Any] | None:
    """What the report says of the suites; none where none was evaluated."""
    if not run.exists("evaluate", "suites.json"):
        return None
    found = run.read_json("evaluate", "suites.json")
    models = list(found["models"])
    fused = next((n for n in ("dpo", "sft") if n in models), models[-1])
    return {
        **found,
        "lines": lines(found),
        "names": models,
        "fused": fused,
        "first": models[0],
        "outcomes": _by_domain(found, fused, models[0]),
        "examples": [] if fused == models[0] else _examples(run, fused, models[0]),
    }


def lines(found: Mapping[str, Any]) -> list[Line]:
    """The table: suites by group, each group with its mean, suites without one, the mean of all."""
    models = list(found["models"])
    made = []
    for group, means in found["groups"].items():
        mine = [s for s in found["suites"] if s["group"] == group]
        made += [_suite(s, models) for s in mine]
        if len(mine) > 1:
            made.append(Line(f"mean of {group}", "group", num_items=len(mine), cells=_mean_cells(means)))
    made += [_suite(s, models) for s in found["suites"] if not s["group"]]
    if len(found["suites"]) > 1:
        made.append(Line("mean of all", "all", num_items=len(found["suites"]), cells=_mean_cells(found["mean"])))
    return made


def _suite(suite: Mapping[str, Any], models: Sequence[str]) -> Line:
    judged = suite["kind"] == "judged"
    cells: dict[str, dict[str, Any] | None] = {}
    for name in models:
        score = suite["scores"][name]
        figure = score["figure"]
        if figure is None:
            cells[name] = None
            continue
        against = [c for c in suite["comparisons"] if (c["model"], c["baseline"]) == (name, models[0])]
        cells[name] = {
            "value": 100 * figure["value"],
            "low": 100 * figure["low"],
            "high": 100 * figure["high"],
            "num_items": figure["num_items"],
            "chars": score["mean_chars"] if judged else None,
            "sure": any(c["p_holm"] < SURE for c in against),
            "contaminated": suite["contaminated"],
        }
    what = CONTROLS[suite["control"]] if judged else "by the harness" if suite["kind"] == "harness" else "% right"
    return Line(suite["name"], "suite", what, suite["num_items"], cells)


def _mean_cells(means: Mapping[str, float | None]) -> dict[str, dict[str, Any] | None]:
    return {name: None if value is None else {"value": 100 * value} for name, value in means.items()}


def words(cell: Mapping[str, Any] | None) -> str:
    """A cell in words."""
    if cell is None:
        return "none"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    text = f"{cell['value']:.1f} ({cell['low']:.1f} to {cell['high']:.1f})"
    marks = ("*" if cell["sure"] else "") + ("!" if cell["contaminated"] else "")
    chars = "" if cell["chars"] is None else f", {cell['chars']:.0f} chars"
    return f"{text}{marks}{chars}"


NOTE = (
    "95% intervals in brackets; * differs from {first} (Holm's correction over the suites, p < 0.05); "
    "! the suite shares rows with the training prompts; chars: mean length of the answers."
)


def markdown(found: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    models = list(found["models"])
    out = ["| benchmark | figure | items |" + "".join(f" {name} |" for name in models)]
    out.append("|---|---|---|" + "---|" * len(models))
    for line in lines(found):
        title = line.title if line.kind == "suite" else f"**{line.title}**"
        cells = "".join(f" {words(line.cells[name])} |" for name in models)
        out.append(f"| {title} | {line.what} | {line.num_items if line.kind == 'suite' else ''} |{cells}")
    return "\n".join([*out, "", NOTE.format(first=models[0]), ""])


def latex(found: Mapping[str, Any]) -> str:
    """The table as LaTeX, for booktabs; intervals as half their width."""
    models = list(found["models"])
    out = [rf"\begin{{tabular}}{{ll{'r' * len(models)}}}", r"\toprule"]
    out.append(" & ".join(["Benchmark", "Items", *map(tex, models)]) + r" \\")
    out.append(r"\midrule")
    for line in lines(found):
        if line.kind == "all":
            out.append(r"\midrule")
        cells = [_tex_cell(line.cells[name]) for name in models]
        title = tex(line.title) if line.kind == "suite" else rf"\emph{{{tex(line.title)}}}"
        out.append(" & ".join([title, str(line.num_items) if line.kind == "suite" else "", *cells]) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", f"% {NOTE.format(first=models[0])}", ""])


def _tex_cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "--"
    if "low" not in cell:
        return f"{cell['value']:.1f}"
    half = (cell["high"] - cell["low"]) / 2
    marks = ("*" if cell["sure"] else "") + ("!" if cell["contaminated"] else "")
    return f"{cell['value']:.1f} $\\pm$ {half:.1f}" + (f"$^{{{marks}}}$" if marks else "")


def tex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda m: special.get(m.group(), "\\" + m.group()), text)


def as_json(found: Mapping[str, Any]) -> str:
    """The table as JSON: `columns`, and `lines` with title, kind, what, num_items and cells."""
    rows = [
        {"title": x.title, "kind": x.kind, "what": x.what, "num_items": x.num_items, "cells": x.cells}
        for x in lines(found)
    ]
    return json.dumps({"columns": list(found["models"]), "lines": rows}, indent=1)


def write(run: RunDir, found: Mapping[str, Any]) -> None:
    """Writes report/benchmarks.md, .tex and .json."""
    for ending, make in (("md", markdown), ("tex", latex), ("json", as_json)):
        run.write_bytes(make(found).encode("utf-8", "replace"), "report", f"benchmarks.{ending}")


def _by_domain(found: Mapping[str, Any], fused: str, first: str) -> list[dict[str, Any]]:
    """Better, same and worse of the fused model against the first, by suite and domain."""
    return [
        {"suite": suite["name"], **outcome}
        for suite in found["suites"]
        for outcome in suite["outcomes"]
        if (outcome["model"], outcome["baseline"]) == (fused, first)
    ]


def _examples(run: RunDir, fused: str, first: str) -> list[dict[str, Any]]:
    """Of each domain the first prompts, by identity, where the fused model got better, and where it got worse."""
    rows = run.read_table("evaluate", "items.parquet").to_pylist()
    theirs = {(r["suite"], r["prompt_id"]): r for r in rows if r["model"] == first and r["score"] is not None}
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: (r["domain"], r["prompt_id"], r["suite"])):
        before = theirs.get((row["suite"], row["prompt_id"]))
        if row["model"] != fused or row["score"] is None or before is None or row["score"] == before["score"]:
            continue
        kind = "better" if row["score"] > before["score"] else "worse"
        mine = kinds.setdefault((row["domain"], kind), [])
        if len(mine) < EXAMPLES:
            answers = {first: before, fused: row}
            mine.append({"kind": kind, **{k: row[k] for k in ("suite", "id", "domain", "prompt")}, "answers": answers})
    return [example for _, mine in sorted(kinds.items()) for example in mine]
