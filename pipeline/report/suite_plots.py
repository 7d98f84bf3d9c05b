"""Figures of the benchmark suites: bars with intervals, and a radar chart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .benchmarks import BenchmarkRow
from .plots import MODEL_COLORS, PALETTE, new_figure, to_svg


def bars(rows: Sequence[BenchmarkRow], models: Sequence[str]) -> str:
    """One bar per suite and model, with its 95% interval. A rating of 10 is as long as 100%."""
    shown = [row for row in rows if row.kind == "suite"]
    factors = [100 / row.highest for row in shown]
    figure, axes = new_figure(height=max(2.4, 0.32 * len(models) * len(shown) + 1.1))
    width = 0.8 / max(len(models), 1)
    for i, name in enumerate(models):
        present = [(j, cell) for j, row in enumerate(shown) if (cell := row.cells[name]) is not None]
        axes.barh(
            [j + (i - (len(models) - 1) / 2) * width for j, _ in present],
            [cell["value"] * factors[j] for j, cell in present],
            width * 0.92,
            xerr=[
                [(c["value"] - c["low"]) * factors[j] for j, c in present],
                [(c["high"] - c["value"]) * factors[j] for j, c in present],
            ],
            capsize=2,
            label=name,
            color=MODEL_COLORS.get(name, PALETTE[i % len(PALETTE)]),
            ecolor="#444444",
        )
    axes.set_yticks(range(len(shown)), [f"{row.title}\n{row.metric}, n={row.num_items}" for row in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("%, or rating x 10" if any(row.highest != 100 for row in shown) else "%")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper right", ncols=min(len(models), 4), frameon=False
    )
    return to_svg(figure)


def radar(rows: Sequence[BenchmarkRow], models: Sequence[str]) -> str:
    """A radar chart of the suites, one line per model. It needs at least three suites. A rating of 10 is at 100%."""
    shown = [row for row in rows if row.kind == "suite" and all(row.cells[name] for name in models)]
    figure, axes = new_figure(width=5.2, height=4.6, polar=True)
    angles = [2 * math.pi * i / len(shown) for i in range(len(shown))]
    for i, name in enumerate(models):
        values = [cell["value"] * 100 / row.highest for row in shown if (cell := row.cells[name]) is not None]
        color = MODEL_COLORS.get(name, PALETTE[i % len(PALETTE)])
        axes.plot([*angles, angles[0]], [*values, values[0]], label=name, color=color, linewidth=1.5)
        axes.fill(angles, values, color=color, alpha=0.08)
    axes.set_xticks(angles, [row.title for row in shown])
    axes.set_ylim(0, 100)
    axes.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100%"], fontsize=7)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(models), 4), frameon=False
    )
    return to_svg(figure)


def has_radar(rows: Sequence[BenchmarkRow], models: Sequence[str]) -> bool:
    """Whether at least three suites have a value for every model."""
    complete = [row for row in rows if row.kind == "suite" and all(row.cells[name] for name in models)]
    return len(complete) >= 3
