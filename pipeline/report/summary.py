"""What the terminal shows at the end of a run: the funnel, the accuracy before and after, and the report's path."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ..evaluation.result_types import HeldoutMetrics
from ..selection.funnel import Funnel, unit
from ..storage.run_dir import RunDir
from .domain_titles import DOMAIN_TITLES


def print_summary(run: RunDir, console: Console | None = None) -> None:
    """Prints the funnel, the held-out accuracy, the change by each training, and the report's path."""
    console = console or Console(highlight=False)
    if run.exists("select", "funnel.json"):
        funnel: Funnel = run.read_json("select", "funnel.json")
        reasons = sorted(funnel["reasons"].items(), key=lambda x: -x[1])
        console.print(
            f"\n{funnel['num_prompts']} {unit(funnel)}: " + ", ".join(f"{n} {reason}" for reason, n in reasons)
        )
    if run.exists("evaluate", "metrics.json"):
        metrics: HeldoutMetrics = run.read_json("evaluate", "metrics.json")
        console.print(_accuracy(metrics))
        for c in metrics["comparisons"]:
            if c["domain"] == "verified":
                console.print(
                    f"{c['model']} against {c['baseline']}: {100 * c['difference']:+.1f} points "
                    f"(95% interval {100 * c['low']:+.1f} to {100 * c['high']:+.1f}, {c['num_items']} prompts)"
                )
    if run.exists("report", "report.html"):
        console.print(f"\nreport: {run.path('report', 'report.html')}", soft_wrap=True, markup=False)


def print_funnel(run: RunDir, console: Console | None = None) -> None:
    """Prints the reasons by domain and by the source of the row. The counts add up to all prompts."""
    console = console or Console(highlight=False)
    funnel: Funnel = run.read_json("select", "funnel.json")
    total = funnel["num_prompts"]
    reasons = sorted(funnel["reasons"], key=lambda r: (not r.startswith("selected"), -funnel["reasons"][r]))
    for title, by in (("domain", funnel["by_domain"]), ("source of the row", funnel["by_source"])):
        table = Table(title=f"{total} {unit(funnel)} by reason and {title}", title_justify="left")
        table.add_column("reason")
        for name in [*by, "all", "%"]:
            table.add_column(name, justify="right")
        for reason in reasons:
            num = funnel["reasons"][reason]
            cells = [str(counts.get(reason, 0)) for counts in by.values()]
            table.add_row(reason, *cells, str(num), f"{100 * num / max(total, 1):.1f}")
        sums = [sum(counts.values()) for counts in by.values()]
        share = 100 * sum(funnel["reasons"].values()) / max(total, 1)
        table.add_row("all", *map(str, sums), str(sum(sums)), f"{share:.1f}", style="bold")
        # rich truncates the cells of a table that is too wide. With a wider console, the terminal wraps lines instead.
        needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
        console.width = max(console.width, needed)
        console.print(table)
    if funnel["aside"]:
        console.print("set aside: " + ", ".join(f"{num} {name}" for name, num in funnel["aside"].items()))


def _accuracy(metrics: HeldoutMetrics) -> Table:
    models = list(metrics["models"])
    table = Table(title="held-out accuracy, % (95% interval)", title_justify="left")
    table.add_column("")
    table.add_column("prompts", justify="right")
    for model in models:
        table.add_column(model, justify="right")
    for domain, title in DOMAIN_TITLES.items():
        rows = [r for m in models if (r := metrics["models"][m].get(domain)) is not None]
        if not rows or len(rows) < len(models):
            continue
        cells = [f"{100 * r['accuracy']:.1f} ({100 * r['low']:.0f}-{100 * r['high']:.0f})" for r in rows]
        table.add_row(title, str(rows[0]["num_items"]), *cells)
    return table
