"""The report's pictures: matplotlib to SVG text that stands in the page."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's palette: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
MODEL_COLORS = {"target": "#999999", "sft": "#E69F00", "dpo": "#0072B2"}


def new_figure(width: float = 7.2, height: float = 3.2, **options: Any) -> Any:
    """Figure and axes, in inches, in the style of all pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {"svg.fonttype": "path", "svg.hashsalt": "fusechat", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left"}
    )  # fmt: skip
    return pyplot.subplots(figsize=(width, height), layout="constrained", **options)


def to_svg(figure: Any) -> str:
    """The figure as SVG text; it is closed."""
    from matplotlib import pyplot

    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the bands of the funnel's picture lie; everything is in prompts, from the top down."""

    bands: list[tuple[str, str, int, float, float]]
    """Domain, reason, prompts, and where the band begins on the left and on the right."""
    domains: dict[str, tuple[float, int]]
    """Domain -> where it begins on the left, and its prompts."""
    reasons: dict[str, tuple[float, int]]
    """Reason -> where it begins on the right, and its prompts; what was selected comes first, then the largest."""
    height: float


def layout_flow(by_domain: Mapping[str, Mapping[str, int]]) -> Flow:
    """Lays out the flow from domains to reasons: each prompt lies in one band."""
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
    """One below the other: where each begins, and where the last one's room ends; a thin one has room for its label."""
    gap, room = 0.02 * max(total, 1), 0.06 * max(total, 1)
    places, end = {}, 0.0
    for name, size in sizes.items():
        height = max(size + gap, room)
        places[name] = (end + (height - size) / 2, size)
        end += height
    return places, end


def funnel(by_domain: Mapping[str, Mapping[str, int]]) -> str:
    """A flow from all prompts over domains to reasons; band widths are prompts."""
    laid = layout_flow(by_domain)
    total = sum(num for _, _, num, _, _ in laid.bands)
    colours = {domain: PALETTE[i % len(PALETTE)] for i, domain in enumerate(laid.domains)}
    figure, axes = new_figure(height=max(3.4, 0.42 * len(laid.reasons) + 1))
    for domain, _, num, left, right in laid.bands:
        _band(axes, left, right, num, colours[domain])
    for domain, (begin, num) in laid.domains.items():
        axes.text(-0.02, -(begin + num / 2), f"{domain}  {num}", ha="right", va="center")
    for reason, (begin, num) in laid.reasons.items():
        label = f"{reason}  {num} ({100 * num / max(total, 1):.1f}%)"
        axes.text(1.02, -(begin + num / 2), label, ha="left", va="center")
    axes.set_xlim(-0.36, 1.6)
    margin = 0.03 * max(laid.height, 1)
    axes.set_ylim(-laid.height - margin, margin)
    axes.axis("off")
    axes.set_title(f"From {total} prompts to rows")
    return to_svg(figure)


def _band(axes: Any, left: float, right: float, width: float, colour: str) -> None:
    import numpy as np

    x = np.linspace(0, 1, 40)
    ease = x * x * (3 - 2 * x)
    top = -(left + (right - left) * ease)
    axes.fill_between(x, top, top - width, color=colour, alpha=0.65, linewidth=0)


def rewards(groups: Mapping[str, Sequence[float]], unit: str) -> str:
    """Distribution of the reward, a row a source and domain, correct and incorrect apart where they are known."""
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


def lengths(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Reward against length, a panel a reward model, domains by colour."""
    names = [n for n in found if found[n]["points"]]
    figure, axes = new_figure(height=2.6 * max(len(names), 1), nrows=max(len(names), 1), squeeze=False)
    for i, name in enumerate(names):
        panel, points = axes[i][0], found[name]["points"]
        for k, domain in enumerate(sorted({d for _, _, d in points})):
            mine = [(x, y) for x, y, d in points if d == domain]
            panel.scatter(
                [x for x, _ in mine], [y for _, y in mine], s=9, alpha=0.7, linewidths=0, color=PALETTE[k], label=domain
            )
        rho = found[name]["spearman"]
        shown = "none" if rho is None else f"{rho:+.2f}"
        panel.set_title(f"{name}: rank correlation with length {shown} ({found[name]['num']} responses)")
        panel.set_ylabel("reward")
        panel.legend(frameon=False, fontsize=8)
    axes[-1][0].set_xlabel("characters of the response")
    return to_svg(figure)


def ranks(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Rank correlation of each pair of reward models."""
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


def margins(found: Mapping[str, Sequence[float]], windows: Mapping[str, tuple[float, float | None]], unit: str) -> str:
    """Margins of all candidate pairs of one source, with the recipe's window."""
    names = [n for n in found if found[n]]
    figure, axes = new_figure(height=1.5 * max(len(names), 1) + 0.6, nrows=max(len(names), 1), squeeze=False)
    for i, name in enumerate(names):
        panel = axes[i][0]
        panel.hist(found[name], bins=40, color=PALETTE[i % len(PALETTE)])
        low, high = windows[name]
        edge = panel.get_xlim()[1]
        panel.axvspan(low, edge if high is None else min(high, edge), color="#009E73", alpha=0.15, label="window")
        panel.set_title(f"{name}: {len(found[name])} candidate pairs")
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
    """Pairs that a window from `low` yields, by its upper end; dotted: the windows' ends that were asked for."""
    figure, axes = new_figure()
    for i, (domain, counts) in enumerate(curves.items()):
        colour = PALETTE[i % len(PALETTE)]
        axes.step(edges, counts, where="post", label=domain, color=colour)
        top = tops.get(domain)
        if top is not None and top <= edges[-1]:
            axes.axvline(top, color=colour, linestyle=":", linewidth=1)
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
    """Training loss by step, a panel a stage."""
    figure, axes = new_figure(ncols=max(len(curves), 1), squeeze=False)
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


def accuracies(models: Mapping[str, Mapping[str, Mapping[str, float]]], domains: Mapping[str, str]) -> str:
    """Held-out accuracy of each model by domain, with 95% intervals."""
    figure, axes = new_figure(height=3.4)
    width = 0.8 / max(len(models), 1)
    shown = [d for d in domains if all(d in m for m in models.values())]
    for i, (name, found) in enumerate(models.items()):
        x = [j + (i - (len(models) - 1) / 2) * width for j in range(len(shown))]
        y = [100 * found[d]["accuracy"] for d in shown]
        low = [100 * (found[d]["accuracy"] - found[d]["low"]) for d in shown]
        high = [100 * (found[d]["high"] - found[d]["accuracy"]) for d in shown]
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
