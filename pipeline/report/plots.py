"""The figures of the report, drawn with matplotlib as SVG text for the page."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..evaluation.result_types import AccuracyFigures
    from ..scoring.agreement import LengthRelation, RankRelation

# Okabe and Ito's palette, which color-blind readers can distinguish.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
MODEL_COLORS = {"target": "#999999", "sft": "#E69F00", "dpo": "#0072B2"}


def new_figure(width: float = 7.2, height: float = 3.2, *, polar: bool = False) -> tuple[Figure, Axes]:
    """A figure with one plot, in the report's style. Sizes are in inches."""
    options = {"projection": "polar"} if polar else None
    figure, axes = _styled_pyplot().subplots(figsize=(width, height), layout="constrained", subplot_kw=options)
    return figure, axes


def new_panels(rows: int = 1, columns: int = 1, height: float = 3.2) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of plots (row, column), in the report's style. The height is in inches."""
    pyplot = _styled_pyplot()
    figure, axes = pyplot.subplots(rows, columns, figsize=(7.2, height), layout="constrained", squeeze=False)
    return figure, axes.tolist()


def _styled_pyplot() -> ModuleType:
    """matplotlib.pyplot without a display, with the report's style."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {"svg.fonttype": "path", "svg.hashsalt": "fusechat", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left"}
    )  # fmt: skip
    return pyplot


def to_svg(figure: Figure) -> str:
    """The figure as SVG text. It closes the figure."""
    from matplotlib import pyplot

    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


@dataclass(frozen=True, slots=True)
class Flow:
    """The positions of the bands in the funnel figure. All values are numbers of prompts, from the top down."""

    bands: list[tuple[str, str, int, float, float]]
    """(Domain, reason, prompts, top on the left, top on the right)."""
    domains: dict[str, tuple[float, int]]
    """Domain -> (top on the left, prompts)."""
    reasons: dict[str, tuple[float, int]]
    """Reason -> (top on the right, prompts). Selected rows come first, then the reasons by size."""
    height: float


def layout_flow(by_domain: Mapping[str, Mapping[str, int]]) -> Flow:
    """Lays out the flow from domains to reasons. Each prompt is in exactly one band."""
    totals: Counter[str] = Counter()
    for counts in by_domain.values():
        totals.update(counts)
    domains, left_end = _stack({d: sum(counts.values()) for d, counts in by_domain.items()}, totals.total())
    ordered = sorted(totals, key=lambda r: (not r.startswith("selected"), -totals[r]))
    reasons, right_end = _stack({r: totals[r] for r in ordered}, totals.total())
    filled = {reason: begin for reason, (begin, _) in reasons.items()}
    bands = []
    for domain, counts in by_domain.items():
        left = domains[domain][0]
        for reason in reasons:
            if num := counts.get(reason, 0):
                bands.append((domain, reason, num, left, filled[reason]))
                left += num
                filled[reason] += num
    return Flow(bands, domains, reasons, max(left_end, right_end))


def _stack(sizes: Mapping[str, int], total: int) -> tuple[dict[str, tuple[float, int]], float]:
    """Stacks blocks vertically: each one's top and size, and the total height. A thin block gets room for a label."""
    gap, min_height = 0.02 * max(total, 1), 0.06 * max(total, 1)
    positions, end = {}, 0.0
    for name, size in sizes.items():
        height = max(size + gap, min_height)
        positions[name] = (end + (height - size) / 2, size)
        end += height
    return positions, end


def funnel(by_domain: Mapping[str, Mapping[str, int]]) -> str:
    """The flow of the prompts from domains to reasons. The width of a band is its number of prompts."""
    flow = layout_flow(by_domain)
    total = sum(num for _, _, num, _, _ in flow.bands)
    colors = {domain: PALETTE[i % len(PALETTE)] for i, domain in enumerate(flow.domains)}
    figure, axes = new_figure(height=max(3.4, 0.42 * len(flow.reasons) + 1))
    for domain, _, num, left, right in flow.bands:
        _band(axes, left, right, num, colors[domain])
    for domain, (begin, num) in flow.domains.items():
        axes.text(-0.02, -(begin + num / 2), f"{domain}  {num}", ha="right", va="center")
    for reason, (begin, num) in flow.reasons.items():
        label = f"{reason}  {num} ({100 * num / max(total, 1):.1f}%)"
        axes.text(1.02, -(begin + num / 2), label, ha="left", va="center")
    axes.set_xlim(-0.36, 1.6)
    margin = 0.03 * max(flow.height, 1)
    axes.set_ylim(-flow.height - margin, margin)
    axes.axis("off")
    axes.set_title(f"From {total} prompts to rows")
    return to_svg(figure)


def _band(axes: Axes, left: float, right: float, width: float, color: str) -> None:
    import numpy as np

    x = np.linspace(0, 1, 40)
    ease = x * x * (3 - 2 * x)
    top = -(left + (right - left) * ease)
    axes.fill_between(x, top, top - width, color=color, alpha=0.65, linewidth=0)


def rewards(groups: Mapping[str, Sequence[float]], unit: str) -> str:
    """Reward distribution, one row per source and domain. Correct and wrong responses are separate if verified."""
    names = [n for n in groups if groups[n]]
    figure, axes = new_figure(height=max(2.4, 0.3 * len(names) + 1))
    if names:
        boxes = axes.boxplot(
            [groups[n] for n in names],
            orientation="horizontal",
            widths=0.6,
            patch_artist=True,
            flierprops={"markersize": 2},
        )
        for box, name in zip(boxes["boxes"], names, strict=True):
            box.set_facecolor(
                "#D55E00" if name.endswith("wrong") else "#009E73" if name.endswith("correct") else "#56B4E9"
            )
        axes.set_yticks(range(1, len(names) + 1), names)
    axes.set_xlabel(unit)
    axes.set_title("Reward by source and domain")
    return to_svg(figure)


def lengths(by_model: Mapping[str, LengthRelation]) -> str:
    """Reward against length: one panel per reward model, one color per domain."""
    names = [n for n in by_model if by_model[n]["points"]]
    figure, axes = new_panels(rows=max(len(names), 1), height=2.6 * max(len(names), 1))
    for i, name in enumerate(names):
        panel, points = axes[i][0], by_model[name]["points"]
        for k, domain in enumerate(sorted({str(d) for _, _, d in points})):
            xy = [(x, y) for x, y, d in points if d == domain]
            panel.scatter(
                [x for x, _ in xy], [y for _, y in xy], s=9, alpha=0.7, linewidths=0, color=PALETTE[k], label=domain
            )
        rho = by_model[name]["spearman"]
        shown = "none" if rho is None else f"{rho:+.2f}"
        panel.set_title(f"{name}: rank correlation with length {shown} ({by_model[name]['num']} responses)")
        panel.set_ylabel("reward")
        panel.legend(frameon=False, fontsize=8)
    axes[-1][0].set_xlabel("characters of the response")
    return to_svg(figure)


def ranks(pairs: Sequence[RankRelation]) -> str:
    """Rank correlation between each pair of reward models."""
    names = list(dict.fromkeys(n for p in pairs for n in (p["a"], p["b"])))
    table = [[1.0 if i == j else float("nan") for j in range(len(names))] for i in range(len(names))]
    for pair in pairs:
        if pair["spearman"] is not None:
            i, j = names.index(pair["a"]), names.index(pair["b"])
            table[i][j] = table[j][i] = pair["spearman"]
    side = 1.2 + 0.9 * len(names)
    figure, axes = new_figure(width=side + 1.6, height=side)
    axes.imshow(table, cmap="PuOr", vmin=-1, vmax=1)
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            dark = abs(value) > 0.6
            text = "none" if value != value else f"{value:.2f}"
            axes.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Rank correlation between reward models")
    return to_svg(figure)


def margins(
    by_domain: Mapping[str, Sequence[float]], windows: Mapping[str, tuple[float, float | None]], unit: str
) -> str:
    """Histogram of the candidate pairs' margins: one panel per domain, with the recipe's window."""
    names = [n for n in by_domain if by_domain[n]]
    figure, axes = new_panels(rows=max(len(names), 1), height=1.5 * max(len(names), 1) + 0.6)
    for i, name in enumerate(names):
        panel = axes[i][0]
        panel.hist(by_domain[name], bins=40, color=PALETTE[i % len(PALETTE)])
        low, high = windows[name]
        edge = panel.get_xlim()[1]
        panel.axvspan(low, edge if high is None else min(high, edge), color="#009E73", alpha=0.15, label="window")
        panel.set_title(f"{name}: {len(by_domain[name])} candidate pairs")
        panel.set_ylabel("pairs")
    axes[-1][0].set_xlabel(f"margin, {unit}")
    return to_svg(figure)


def yield_curves(
    edges: Sequence[float],
    curves: Mapping[str, Sequence[int]],
    low: float,
    tops: Mapping[str, float | None],
    kind: str = "svg",
    unit: str = "reward",
) -> bytes:
    """Number of pairs in a window that starts at `low`, by its upper end. Dotted lines: the requested upper ends."""
    figure, axes = new_figure()
    for i, (domain, counts) in enumerate(curves.items()):
        color = PALETTE[i % len(PALETTE)]
        axes.step(edges, counts, where="post", label=domain, color=color)
        top = tops.get(domain)
        if top is not None and top <= edges[-1]:
            axes.axvline(top, color=color, linestyle=":", linewidth=1)
    axes.set_xlabel(f"largest margin of the window, {unit}")
    axes.set_ylabel("prompts with a pair")
    axes.set_title(f"Yield of pairs with a margin of at least {low:g}")
    if curves:
        axes.legend(frameon=False)
    if kind == "svg":
        return to_svg(figure).encode()
    from matplotlib import pyplot

    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150)
    pyplot.close(figure)
    return out.getvalue()


def losses(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Training loss by step, one panel per stage."""
    figure, axes = new_panels(columns=max(len(curves), 1))
    for i, (stage, points) in enumerate(curves.items()):
        panel = axes[0][i]
        panel.plot(
            [p[0] for p in points], [p[1] for p in points], color=PALETTE[i], marker="." if len(points) < 40 else ""
        )
        panel.set_title(f"{stage} training loss")
        panel.set_xlabel("optimizer step")
        panel.set_ylabel("loss, nats")
        if stage == "dpo":
            panel.axhline(0.6931, color="#999999", linestyle=":", linewidth=1)
    return to_svg(figure)


def accuracies(models: Mapping[str, Mapping[str, AccuracyFigures]], domains: Mapping[str, str]) -> str:
    """Held-out accuracy of each model by domain, with 95% intervals."""
    figure, axes = new_figure(height=3.4)
    width = 0.8 / max(len(models), 1)
    shown = [d for d in domains if all(d in m for m in models.values())]
    for i, (name, by_domain) in enumerate(models.items()):
        x = [j + (i - (len(models) - 1) / 2) * width for j in range(len(shown))]
        y = [100 * by_domain[d]["accuracy"] for d in shown]
        low = [100 * (by_domain[d]["accuracy"] - by_domain[d]["low"]) for d in shown]
        high = [100 * (by_domain[d]["high"] - by_domain[d]["accuracy"]) for d in shown]
        axes.bar(
            x,
            y,
            width * 0.92,
            yerr=[low, high],
            capsize=2,
            label=name,
            color=MODEL_COLORS.get(name, PALETTE[i]),
            ecolor="#444444",
        )
    axes.set_xticks(
        range(len(shown)), [f"{domains[d]}\nn={next(iter(models.values()))[d]['num_items']:.0f}" for d in shown]
    )
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, ncols=3)
    axes.set_title("Held-out prompts, verified (bars: 95% interval)")
    return to_svg(figure)
