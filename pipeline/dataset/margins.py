"""Counts the pairs that a margin window yields, from stored scores. Nothing is sampled or scored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ..errors import StageError, UserError
from ..recipe import DOMAINS, Select
from ..selection.rule_columns import rules
from ..storage.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """The yield of a window in one domain from one source."""

    domain: str
    source: str
    candidates: int
    """Prompts of the DPO share for which this source has a pair, with any margin."""
    inside: int
    """Candidates whose margin is inside the window."""
    pairs: int
    """Rows of the data set: pairs that win against the other sources' pairs."""


def load(run: RunDir) -> pl.DataFrame:
    """CANDIDATE_PAIR rows of the DPO share: the pair of each prompt and source, before any window is applied.

    The stage `select` writes them. They depend only on the scores, so they are valid for every window.

    Raises:
        StageError: the selection has not been run on these scores.
    """
    selected, scored = run.manifest("select"), run.manifest("score")
    if not run.exists("select", "candidates.parquet"):
        raise StageError("margins", run.url, "the selection has not been run; `fusechat select` runs it")
    if selected is not None and scored is not None and selected.inputs.get("score") != scored.fingerprint:
        raise StageError("margins", run.url, "the scores are newer than the selection; run `fusechat select`")
    return stored(run)


def stored(run: RunDir) -> pl.DataFrame:
    """The same as of the last selection, even if the scores are newer."""
    columns = ["prompt_id", "domain", "source", "sft_share", "chosen_reward", "margin"]
    table = pl.from_arrow(run.read_table("select", "candidates.parquet", columns=columns))
    assert isinstance(table, pl.DataFrame)
    return table.filter(~pl.col("sft_share"))


def yields(candidates: pl.DataFrame, select: Select, low: float, high: float | None) -> list[Yield]:
    """The yields by domain and source, with the same window in every domain. The other rules are the recipe's.

    Raises:
        UserError: the window is empty.
    """
    top = float("inf") if high is None else high
    if not low <= top:
        raise UserError(f"margins: the window is empty: --max {high} is below --min {low}")
    settings = rules({d: select.rule(d) for d in DOMAINS}).select("domain", "rows", "by_reward")
    inside = (
        candidates.filter(pl.col("margin").is_between(low, top))
        .join(settings, on="domain", how="left", maintain_order="left")
        .with_columns(pl.when("by_reward").then(-pl.col("chosen_reward")).otherwise(0.0).alias("first"))
        .sort("prompt_id", "first", -pl.col("margin"), "source")
    )
    winners = inside.filter(pl.int_range(pl.len()).over("prompt_id") < pl.col("rows"))
    group = ["domain", "source"]
    table = candidates.group_by(group).len("candidates")
    for name, part in (("inside", inside), ("pairs", winners)):
        table = table.join(part.group_by(group).len(name), on=group, how="left")
    return [Yield(**row) for row in table.fill_null(0).sort(group).to_dicts()]


def curve(candidates: pl.DataFrame, low: float, edges: Sequence[float]) -> dict[str, list[int]]:
    """Domain -> number of prompts with a pair in the windows from `low` to each edge.

    A prompt has a pair in a window if its smallest margin from `low` up is inside, so one pass is enough for all
    windows. The number of prompts is the number of rows if a prompt yields one row.

    Args:
        edges: upper ends, ascending.
    """
    first = candidates.filter(pl.col("margin") >= low).group_by("domain", "prompt_id").agg(pl.col("margin").min())
    counts: dict[str, list[int]] = {}
    for (domain,), part in sorted(first.group_by("domain")):
        counts[str(domain)] = part["margin"].sort().search_sorted(pl.Series(edges, dtype=pl.Float64), "right").to_list()
    return counts


def edges(candidates: pl.DataFrame, low: float, num: int = 120) -> list[float]:
    """Upper ends of windows for a plot, up to the 99th percentile of the margins."""
    top = candidates["margin"].quantile(0.99) if candidates.height else None
    end = max(top if top is not None else 1.0, low + 1e-9)
    return [low + (end - low) * i / num for i in range(num + 1)]
