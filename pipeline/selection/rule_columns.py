"""The selection rule of rule.py on polars columns, for millions of responses. Tests check that both agree.

Columns: `prompt` and `response` are row numbers, `source` is the rank of the source's name, and `text` is a hash of the
text without white space at its ends. Responses are numbered in the order of their identities, so that ties are broken
as in rule.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ..recipe import DOMAINS, VERIFIED_DOMAINS, DomainRule, Select
from .rule import PLACES

CANDIDATES = pl.Schema(
    {
        "prompt": pl.UInt32,
        "response": pl.UInt32,
        "source": pl.UInt32,
        "text": pl.UInt64,
        "blank": pl.Boolean,  # the text contains only white space
        "tokens": pl.Int64,
        "finished": pl.Boolean,
        "rejected": pl.Boolean,
        "correct": pl.Boolean,
        "reward": pl.Float64,
    }
)
PROMPTS = pl.Schema({"prompt": pl.UInt32, "domain": pl.String, "sft_share": pl.Boolean})

WHITESPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
"""The characters that str.strip() removes."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """The outcome of all prompts and responses."""

    outcomes: pl.DataFrame
    """prompt, reason; sorted by prompt."""
    sfts: pl.DataFrame
    """prompt, response; the best response of a prompt first."""
    pairs: pl.DataFrame
    """prompt, source, chosen, rejected, margin; the winning pair of a prompt first."""
    all_pairs: pl.DataFrame
    """The pair of each prompt and source that has one, for any window and share; columns as in `pairs`."""
    statuses: pl.DataFrame
    """response, status."""


def decide_all(prompts: pl.DataFrame, candidates: pl.DataFrame, select: Select) -> Decisions:
    """Applies `rule.decide` and `rule.status` to every prompt.

    Args:
        prompts: PROMPTS, one row per prompt.
        candidates: CANDIDATES, one row per response to one of the prompts.
    """
    prompts = prompts.join(rules({d: select.rule(d) for d in DOMAINS}), on="domain", how="left", maintain_order="left")
    table = _flags(candidates.join(prompts, on="prompt", how="inner", maintain_order="left"))
    all_pairs = _pairs(table)
    may_pair = prompts.filter(~pl.col("sft_share")).select("prompt", "rows", "low", "high", "by_reward")
    inside = (
        all_pairs.join(may_pair, on="prompt", how="inner", maintain_order="left")
        .filter(pl.col("margin") >= pl.col("low"), pl.col("margin") <= pl.col("high"))
        .with_columns(pl.when("by_reward").then(-pl.col("chosen_reward")).otherwise(0.0).alias("first"))
        .sort("prompt", "first", -pl.col("margin"), "source")
    )
    pairs = inside.filter(pl.int_range(pl.len()).over("prompt") < pl.col("rows"))
    best = (
        table.filter("good")
        .sort("prompt", -pl.col("reward"), "tokens", "response")
        .unique(["prompt", "text"], keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("prompt") < pl.col("rows"))
    )
    outcomes = _outcomes(prompts, table, all_pairs, pairs)
    rows = outcomes.filter(pl.col("reason").is_in(["selected_sft", "selected_sft_fallback"])).select("prompt")
    sfts = best.join(rows, on="prompt", how="semi", maintain_order="left").select("prompt", "response")
    names = ["prompt", "source", "chosen", "rejected", "margin"]
    return Decisions(outcomes, sfts, pairs.select(names), all_pairs.select(names), _statuses(table, sfts, pairs))


def rules(by_domain: Mapping[str, DomainRule]) -> pl.DataFrame:
    """The rules as a table, one row per domain."""
    return pl.DataFrame(
        [
            {
                "domain": domain,
                "verified": domain in VERIFIED_DOMAINS,
                "fallback": rule.fallback_to_sft,
                "keep_truncated": rule.keep_truncated,
                "max_tokens": rule.max_tokens if rule.max_tokens is not None else 2**62,
                "rows": rule.rows,
                "by_reward": rule.prefer == "reward",
                "low": rule.margin.min,
                "high": rule.margin.max if rule.margin.max is not None else float("inf"),
            }
            for domain, rule in by_domain.items()
        ]
    )


def _flags(table: pl.DataFrame) -> pl.DataFrame:
    """Adds a column for each property of a response that the rule tests."""
    unverified = ~pl.col("verified")
    return (
        table.with_columns(
            has_text=~(pl.col("rejected") | pl.col("blank")),
            right=pl.col("correct").fill_null(False),
            wrong=~pl.col("correct").fill_null(True),
        )
        .with_columns(complete=pl.col("has_text") & (pl.col("finished") | pl.col("keep_truncated")))
        .with_columns(usable=pl.col("complete") & (pl.col("tokens") <= pl.col("max_tokens")))
        .with_columns(scored=pl.col("usable") & pl.col("reward").is_finite().fill_null(False))
        .with_columns(
            good=pl.col("scored") & (pl.col("right") | unverified),
            bad=pl.col("scored") & (pl.col("wrong") | unverified),
        )
    )


def _pairs(table: pl.DataFrame) -> pl.DataFrame:
    """The best and the worst response of each prompt and source, with different texts.

    The best response is paired with the worst one that has another text. If all bad responses have the text of the best
    one (which needs verdicts), the best response with another text is paired with the worst one.
    """
    group = ["prompt", "source"]
    columns = [*group, "response", "text", "tokens", "reward", "verified"]
    good = table.filter("good").select(columns).sort(*group, -pl.col("reward"), "tokens", "response")
    bad = table.filter("bad").select(*group, "response", "text", "tokens", "reward")
    bad = bad.sort(*group, "reward", "tokens", "response")
    best, worst = (t.unique(group, keep="first", maintain_order=True) for t in (good, bad))
    other_bad = (
        bad.join(best.select(*group, best_text="text"), on=group, how="inner", maintain_order="left")
        .filter(pl.col("text") != pl.col("best_text"))
        .unique(group, keep="first", maintain_order=True)
    )
    best_pairs = best.join(other_bad, on=group, how="inner", suffix="_bad", maintain_order="left")
    other_good = (
        good.join(other_bad, on=group, how="anti", maintain_order="left")
        .join(worst, on=group, how="inner", suffix="_bad", maintain_order="left")
        .filter(pl.col("text") != pl.col("text_bad"))
        .unique(group, keep="first", maintain_order=True)
    )
    columns = [*group, "response", "response_bad", "reward", "reward_bad", "verified"]
    pairs = pl.concat([best_pairs.select(columns), other_good.select(columns)]).rename(
        {"response": "chosen", "response_bad": "rejected", "reward": "chosen_reward"}
    )
    # Python's rounding, as in `rule.margin`; polars rounds the last digit differently.
    differences = (pairs["chosen_reward"] - pairs["reward_bad"]).to_list()
    margins = pl.Series("margin", [round(d, PLACES) for d in differences], pl.Float64)
    # Without verdicts, equal rewards give no preference.
    return pairs.with_columns(margins).filter(pl.col("verified") | (pl.col("margin") > 0)).sort(group)


def _outcomes(prompts: pl.DataFrame, table: pl.DataFrame, all_pairs: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The reason of every prompt. The tests are in the order of `rule.decide`."""
    verified = pl.col("verified")

    def has_both_sides(among: str) -> pl.Expr:
        both = (pl.col(among) & pl.col("right")).any() & (pl.col(among) & pl.col("wrong")).any()
        return pl.when(verified.first()).then(both).otherwise(pl.col(among).sum() > 1)

    by_source = table.group_by("prompt", "source").agg(
        *(pl.col(c).any() for c in ("has_text", "complete", "good")),
        usable=pl.col("usable").sum(),
        judged=(pl.col("usable") & pl.col("correct").is_not_null()).any(),
        any_right=(pl.col("usable") & pl.col("right")).any(),
        any_wrong=(pl.col("usable") & pl.col("wrong")).any(),
        can_pair=has_both_sides("usable"),
        can_pair_scored=has_both_sides("scored"),
    )
    flags = ("has_text", "complete", "good", "judged", "any_right", "any_wrong", "can_pair", "can_pair_scored")
    by_prompt = by_source.group_by("prompt").agg(*(pl.col(c).any() for c in flags), most=pl.col("usable").max())
    top = all_pairs.group_by("prompt").agg(top=pl.col("margin").max())
    won = pairs.select("prompt").unique().with_columns(won=pl.lit(True))
    facts = prompts
    for part in (by_prompt, top, won):
        facts = facts.join(part, on="prompt", how="left", maintain_order="left")
    facts = facts.with_columns(pl.col(*flags, "won").fill_null(False), pl.col("most").fill_null(0))
    reason = (
        pl.when(~pl.col("has_text")).then(pl.lit("no_response"))
        .when(~pl.col("complete")).then(pl.lit("truncated"))
        .when(pl.col("most") == 0).then(pl.lit("too_long"))
        .when(verified & ~pl.col("judged")).then(pl.lit("unverified"))
        .when(verified & ~pl.col("any_right")).then(pl.lit("all_wrong"))
        .when(~pl.col("good")).then(pl.lit("no_score"))
        .when("sft_share").then(pl.lit("selected_sft"))
        .when("won").then(pl.lit("selected_pair"))
        .when("fallback").then(pl.lit("selected_sft_fallback"))
        .when(pl.col("most") < 2).then(pl.lit("one_response"))
        .when(verified & ~pl.col("any_wrong")).then(pl.lit("all_right"))
        .when(~pl.col("can_pair")).then(pl.lit("one_sided"))
        .when(~pl.col("can_pair_scored")).then(pl.lit("no_score"))
        .when(pl.col("top").is_null()).then(pl.lit("tie"))
        .when(pl.col("top") > pl.col("high")).then(pl.lit("margin_too_large"))
        .otherwise(pl.lit("margin_too_small"))
    )  # fmt: skip
    return facts.select("prompt", reason=reason).sort("prompt")


def _statuses(table: pl.DataFrame, sfts: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The status of every response. The tests are in the order of `rule.status`."""
    used = pl.concat(
        [
            sfts.select("response", used=pl.lit("sft")),
            pairs.select(response="chosen", used=pl.lit("chosen")),
            pairs.select(response="rejected", used=pl.lit("dispreferred")),
        ]
    )
    return table.join(used, on="response", how="left", maintain_order="left").select(
        "response",
        status=pl.when(pl.col("used").is_not_null()).then("used")
        .when("rejected").then(pl.lit("rejected"))
        .when("blank").then(pl.lit("empty"))
        .when(~pl.col("complete")).then(pl.lit("truncated"))
        .when(~pl.col("usable")).then(pl.lit("too_long"))
        .when(pl.col("verified") & pl.col("correct").is_null()).then(pl.lit("unverified"))
        .when(pl.col("verified") & pl.col("wrong")).then(pl.lit("wrong"))
        .when(~pl.col("scored")).then(pl.lit("no_score"))
        .otherwise(pl.lit("unused")),
    )  # fmt: skip
