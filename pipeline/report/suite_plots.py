"""Pictures of the suites: bars with intervals, and a radar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fusechat.pipeline.report.benchmarks import BenchmarkRow
from fusechat.pipeline.report.plots import MODEL_COLORS, PALETTE, new_figure, to_svg


def bars(lines: Sequence[BenchmarkRow], models: Sequence[str]) -> str:
    """Each suite's figures with their 95% intervals."""
    shown = [line for line in lines if line.kind == "suite"]
    figure, axes = new_figure(height=max(2.4, 0.32 * len(models) * len(shown) + 1.1))
    width = 0.8 / max(len(models), 1)
    for i, name in enumerate(models):
        there = [(j, cell) for j, line in enumerate(shown) if (cell := line.cells[name]) is not None]
        axes.barh(
            [j + (i - (len(models) - 1) / 2) * width for j, _ in there],
            [cell["value"] for _, cell in there],
            width * 0.92,
            xerr=[[c["value"] - c["low"] for _, c in there], [c["high"] - c["value"] for _, c in there]],
            capsize=2,
            label=name,
            color=MODEL_COLORS.get(name, PALETTE[i % len(PALETTE)]),
            ecolor="#444444",
        )
    axes.set_yticks(range(len(shown)), [f"{line.title}\n{line.metric}, n={line.num_items}" for line in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("%")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper right", ncols=min(len(models), 4), frameon=False
    )
    return to_svg(figure)


def radar(lines: Sequence[BenchmarkRow], models: Sequence[str]) -> str:
    """The suites around a circle, a line a model; for three suites and more."""
    shown = [line for line in lines if line.kind == "suite" and all(line.cells[name] for name in models)]
    figure, axes = new_figure(width=5.2, height=4.6, subplot_kw={"projection": "polar"})
    angles = [2 * math.pi * i / len(shown) for i in range(len(shown))]
    for i, name in enumerate(models):
        values = [cell["value"] for line in shown if (cell := line.cells[name]) is not None]
        colour = MODEL_COLORS.get(name, PALETTE[i % len(PALETTE)])
        axes.plot([*angles, angles[0]], [*values, values[0]], label=name, color=colour, linewidth=1.5)
        axes.fill(angles, values, color=colour, alpha=0.08)
    axes.set_xticks(angles, [line.title for line in shown])
    axes.set_ylim(0, 100)
    axes.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100%"], fontsize=7)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(models), 4), frameon=False
    )
    return to_svg(figure)


def has_radar(lines: Sequence[BenchmarkRow], models: Sequence[str]) -> bool:
    """Whether there are enough suites that all models have a figure for."""
    whole: list[Any] = [x for x in lines if x.kind == "suite" and all(x.cells[name] for name in models)]
    return len(whole) >= 3
