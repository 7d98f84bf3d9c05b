"""The report of a run: one self-contained HTML page, and the same numbers in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..recipe import Recipe
from ..storage.run_dir import RunDir
from . import benchmarks, plots, suite_plots
from .content import collect_content
from .content_types import ReportContent
from .domain_titles import DOMAIN_TITLES

MAX_SHOWN_CHARS = 700
DIRECTION_CHARACTERS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Unicode characters that change the direction of text."""


def write(run: RunDir, recipe: Recipe) -> Path:
    """Writes report.html, report.md and the benchmark table; returns the path of report.html.

    The report says which stages were not run.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    content = collect_content(run, recipe)
    figures = {name: Markup(svg) for name, svg in draw(content).items()}
    environment = Environment(
        loader=PackageLoader("fusechat.pipeline.report", "templates"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda x: f"{100 * x:.1f}"
    environment.filters["points"] = lambda x: f"{100 * x:+.1f}"
    environment.filters["change"] = benchmarks.format_change
    environment.filters["figure"] = lambda x: "none" if x is None else f"{x:.1f}"
    environment.filters["signed"] = lambda x: "none" if x is None else f"{x:+.1f}"
    environment.filters["number"] = lambda x: "none" if x is None else f"{x:.3f}"
    environment.filters["p"] = lambda x: "< 0.001" if x < 0.001 else f"{x:.3f}"
    environment.filters["cell"] = benchmarks.format_cell
    environment.filters["clean"] = clean
    environment.filters["quoted"] = quote_markdown
    suites = content["benchmarks"]
    context = {
        "domains": DOMAIN_TITLES,
        "note": suites and benchmarks.note(suites),
        "table": suites and benchmarks.markdown(suites),
        **content,
    }
    html = environment.get_template("report.html.jinja").render(figures=figures, **context)
    markdown = environment.get_template("report.md.jinja").render(**context)
    if suites:
        benchmarks.write(run, suites)
    run.write_bytes(html.encode("utf-8", "replace"), "report", "report.html")
    run.write_bytes(markdown.encode("utf-8", "replace"), "report", "report.md")
    return run.local_path("report", "report.html")


def draw(content: ReportContent) -> dict[str, str]:
    """The figures as SVG text, by name, for the stages that were run."""
    makers: dict[str, Callable[[], str]] = {}
    if funnel := content["funnel"]:
        makers["funnel"] = lambda: plots.funnel(funnel["by_domain"])
    if content["rewards"]:
        makers["rewards"] = lambda: plots.rewards(content["rewards"], content["unit"])
    relations = content["relations"]
    if any(by_model["points"] for by_model in relations["lengths"].values()):
        makers["lengths"] = lambda: plots.lengths(relations["lengths"])
    if relations["ranks"]:
        makers["ranks"] = lambda: plots.ranks(relations["ranks"])
    if any(content["margins"].values()):
        makers["margins"] = lambda: plots.margins(content["margins"], content["windows"], content["unit"])
    if yields := content["yields"]:
        makers["yields"] = lambda: plots.yield_curves(**yields, unit=content["unit"]).decode()
    if any(content["curves"].values()):
        makers["losses"] = lambda: plots.losses(content["curves"])
    if metrics := content["metrics"]:
        makers["accuracies"] = lambda: plots.accuracies(metrics["models"], DOMAIN_TITLES)
    if suites := content["benchmarks"]:
        rows, names = suites["lines"], suites["names"]
        makers["bars"] = lambda: suite_plots.bars(rows, names)
        if suite_plots.has_radar(rows, names):
            makers["radar"] = lambda: suite_plots.radar(rows, names)
    return {name: make() for name, make in makers.items()}


def clean(text: str, limit: int = MAX_SHOWN_CHARS) -> str:
    """Makes model text safe to show: clips it, and escapes control and direction characters."""
    shown = "".join(c if _is_showable(c) else f"\\u{ord(c):04x}" for c in text)
    return shown if len(shown) <= limit else f"{shown[:limit]} … ({len(shown) - limit} more characters)"


def quote_markdown(text: str) -> str:
    """Model text as an indented Markdown block; nothing inside it can end the block."""
    return "\n".join("    " + line for line in clean(text).splitlines()) or "    (empty)"


def _is_showable(c: str) -> bool:
    return c in "\n\t" or (c.isprintable() and c not in DIRECTION_CHARACTERS)
