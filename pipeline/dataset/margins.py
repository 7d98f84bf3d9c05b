"""How many pairs any margin window yields, from stored scores: nothing is sampled or scored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..errors import StageError, UserError
from ..recipe import DOMAINS, Select
from ..selection.rule_columns import rules
from ..storage.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """What a window yields in one domain from one source."""

    domain: str
    source: str
    candidates: int
    """Prompts of the DPO share for which this source has a pair, whatever its margin."""
    inside: int
    """Those whose margin lies inside the window."""
    pairs: int
    """Rows: those that win against the other sources' pairs."""


def load(run: RunDir) -> pl.DataFrame:
    """CANDIDATE_PAIR rows of the DPO share: the pair of each prompt and source, before any window.

    Selection leaves them; they hang on the scores alone, so they hold for every window.

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
    """The same as the last selection left it, whatever came after."""
    columns = ["prompt_id", "domain", "source", "sft_share", "chosen_reward", "margin"]
    table = pl.from_arrow(run.read_table("select", "candidates.parquet", columns=columns))
    assert isinstance(table, pl.DataFrame)
    return table.filter(~pl.col("sft_share"))


def yields(candidates: pl.DataFrame, select: Select, low: float, high: float | None) -> list[Yield]:
    """The pairs by domain and source in this window for every domain; the other rules stay the recipe's.

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
    won = inside.filter(pl.int_range(pl.len()).over("prompt_id") < pl.col("rows"))
    group = ["domain", "source"]
    table = candidates.group_by(group).len("candidates")
    for name, part in (("inside", inside), ("pairs", won)):
        table = table.join(part.group_by(group).len(name), on=group, how="left")
    return [Yield(**row) for row in table.fill_null(0).sort(group).to_dicts()]


def curve(candidates: pl.DataFrame, low: float, edges: Sequence[float]) -> dict[str, list[int]]:
    """Domain -> pairs in the windows that start at `low` and end at each of the edges (rising).

    A prompt yields a pair as soon as its smallest margin above `low` is inside, so one pass serves all windows; it
    counts prompts, which are rows where a prompt yields one.
    """
    first = candidates.filter(pl.col("margin") >= low).group_by("domain", "prompt_id").agg(pl.col("margin").min())
    found: dict[str, list[int]] = {}
    for (domain,), part in sorted(first.group_by("domain")):
        found[str(domain)] = part["margin"].sort().search_sorted(pl.Series(edges, dtype=pl.Float64), "right").to_list()
    return found


def edges(candidates: pl.DataFrame, low: float, num: int = 120) -> list[float]:
    """Ends of windows worth looking at: up to the 99th percentile of the margins."""
    top: Any = candidates["margin"].quantile(0.99) if candidates.height else None
    end = max(float(top) if top is not None else 1.0, low + 1e-9)
    return [low + (end - low) * i / num for i in range(num + 1)]
