"""Applies the selection rule to a run directory, one bucket at a time, in columns (rule_columns.py).

Each prompt becomes SFT rows, preference pairs or neither, and has exactly one reason. Everything runs in this process:
polars and Arrow use all cores, and a million responses take less time than starting a cluster.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import FusechatError, StageError
from ..identities import digest, fraction_of
from ..recipe import DomainRule, Recipe, Select
from ..records import PROMPT, RESPONSE, SCORE
from ..storage.manifest import versions
from ..storage.parts import Parts, drop_duplicate_keys
from ..storage.run_dir import RunDir
from .funnel import funnel
from .row_tables import RowTables, column_series, series_of
from .rule_columns import WHITESPACE, decide_all

NUM_WORKERS = 2
"""Number of concurrent buckets: one is read while the rule is applied to another. More buckets need more memory."""
RESPONSE_COLUMNS = [
    "response_id", "prompt_id", "source", "revision", "seed", "params", "template", "text", "finish_reason", "reject",
    "completion_tokens",
]  # fmt: skip
SCORE_COLUMNS = ["response_id", "rewards", "correct", "verdict"]

FILES = ("sft.parquet", "pairs.parquet", "outcomes.parquet", "candidates.parquet")
"""Tables that the stage writes."""


@dataclass(slots=True)
class Selected:
    """The result of one bucket. `sft` and `pairs` are sorted by row_id, the other tables by prompt_id."""

    sft: pa.Table
    pairs: pa.Table
    outcomes: pa.Table
    """OUTCOME: exactly one row per prompt."""
    candidates: pa.Table
    """CANDIDATE_PAIR: the pairs before a window is applied."""
    responses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(source, domain, status) -> number of responses."""
    aside: Counter[str] = field(default_factory=Counter)
    """Kind (funnel.ASIDE) -> number of rows in the run directory that are not responses of this recipe."""
    num_scores: int = 0


def in_sft_share(prompt_id: str, rule: DomainRule) -> bool:
    """Whether the prompt may be used for SFT only. This depends only on the prompt and the rule's fraction."""
    fraction: float = fraction_of(prompt_id, "split")
    return fraction < rule.sft_fraction


def select_bucket(
    prompts: pa.Table,
    responses: pa.Table,
    scores: pa.Table,
    *,
    recipe_select: Select,
    reward: str,
    recipe: str = "",
) -> Selected:
    """Applies the rule to every prompt.

    Args:
        prompts: PROMPT; only prompt_id, domain and messages are read.
        responses: RESPONSE; responses to other prompts are ignored.
        scores: SCORE; a response without a score has neither reward nor verdict.
        reward: name of the reward model whose scores are used.
        recipe: name of the recipe, for the provenance of the rows.
    """
    prompts = prompts.select(["prompt_id", "domain", "messages"]).sort_by("prompt_id")
    table, responses = _joined(prompts, responses, scores, reward)
    shares = [
        in_sft_share(p, recipe_select.rule(d))
        for p, d in zip(*(prompts.column(c).to_pylist() for c in ("prompt_id", "domain")), strict=True)
    ]
    numbered = pl.DataFrame(
        {
            "prompt": pl.Series(range(prompts.num_rows), dtype=pl.UInt32),
            "domain": column_series(prompts, "domain"),
            "sft_share": pl.Series(shares, dtype=pl.Boolean),
        }
    )
    decisions = decide_all(numbered, table, recipe_select)
    rows = RowTables(prompts, responses, table, {"recipe": recipe, "code": _code_version()})
    return Selected(
        sft=rows.sft(decisions.sfts).sort_by("row_id"),
        pairs=rows.pairs(decisions.pairs).sort_by("row_id"),
        outcomes=rows.outcomes(numbered, decisions),
        candidates=rows.candidates(numbered, decisions.all_pairs),
        responses=_count(table, numbered, decisions.statuses, responses),
    )


def run_select(run: RunDir, recipe: Recipe, reward: str, num_workers: int = NUM_WORKERS) -> dict[str, int]:
    """Stage `select`: reads prompts, samples and scores, writes select/{sft,pairs,outcomes,candidates}.parquet and
    funnel.json.

    Only scored responses are used: the scores contain exactly the responses that the recipe plans. The result does not
    depend on the number of buckets, the number of workers or the order of rows.

    Args:
        reward: name of the reward model whose scores are used.

    Raises:
        StageError: a shard can't be read or is missing, or the funnel does not add up.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(num_workers, os.cpu_count() or 1))) as threads:
        buckets = list(threads.map(lambda b: _bucket(run, recipe, b, reward), range(recipe.sample.buckets)))
    merged = Selected(
        sft=pa.concat_tables([b.sft for b in buckets]).sort_by("row_id"),
        pairs=pa.concat_tables([b.pairs for b in buckets]).sort_by("row_id"),
        outcomes=pa.concat_tables([b.outcomes for b in buckets]).sort_by("prompt_id"),
        candidates=pa.concat_tables([b.candidates for b in buckets]).sort_by(
            [("prompt_id", "ascending"), ("source", "ascending")]
        ),
        responses=sum((b.responses for b in buckets), Counter()),
        aside=sum((b.aside for b in buckets), Counter()),
    )
    manifest, num_scores = run.manifest("score"), sum(b.num_scores for b in buckets)
    if manifest is not None and manifest.counts.get("responses", num_scores) != num_scores:
        cause = f"only {num_scores} of {manifest.counts['responses']} scored responses exist; run `fusechat score`"
        raise StageError("select", "score", f"a shard is missing: {cause}")
    num_prompts = Parts(run, "prompts/train", PROMPT, "prompt_id").read(columns=["domain"]).num_rows
    rejects = run.read_table("prompts", "rejects.parquet")
    counts = funnel(merged.outcomes, rejects, num_prompts, merged.responses, merged.aside)
    for name in ("sft", "pairs", "outcomes", "candidates"):
        run.write_table(getattr(merged, name).combine_chunks(), "select", f"{name}.parquet")
    run.write_json(counts, "select", "funnel.json")
    used = sum(n for reason, n in counts["reasons"].items() if reason.startswith("selected_"))
    return {
        "prompts": counts["num_prompts"],
        "sft": merged.sft.num_rows,
        "pairs": merged.pairs.num_rows,
        "unused": counts["num_prompts"] - used,
    }


def _bucket(run: RunDir, recipe: Recipe, bucket: int, reward: str) -> Selected:
    """Applies the rule to one bucket. Rows that are not responses of this recipe are left out and counted."""
    try:
        prompts = Parts(run, "prompts/train", PROMPT, "prompt_id").read(bucket, ["domain", "messages"])
        responses = Parts(run, "sample", RESPONSE, "response_id").read(bucket, RESPONSE_COLUMNS, unique=False)
        scores = Parts(run, "score", SCORE, "response_id").read(bucket, SCORE_COLUMNS, unique=False)
    except FusechatError as error:
        raise StageError("select", f"bucket {bucket}", str(error)) from error
    aside: Counter[str] = Counter()
    num = responses.num_rows
    responses, scores = drop_duplicate_keys(responses, "response_id"), drop_duplicate_keys(scores, "response_id")
    aside["repeated"] = num - responses.num_rows
    known = pa.array([s.name for s in recipe.sources], pa.string())
    scored = pc.is_in(responses.column("response_id"), value_set=scores.column("response_id").combine_chunks())
    aside["not_scored"] = responses.num_rows - pc.sum(scored).as_py() if responses.num_rows else 0
    responses = responses.filter(scored)
    if responses.num_rows < scores.num_rows:
        cause = f"{scores.num_rows - responses.num_rows} scored responses have no row in sample/; run `fusechat sample`"
        raise StageError("select", f"bucket {bucket}", cause)
    of_recipe = responses.filter(pc.is_in(responses.column("source"), value_set=known))
    aside["source_not_in_recipe"] = responses.num_rows - of_recipe.num_rows
    selected = select_bucket(prompts, of_recipe, scores, recipe_select=recipe.select, reward=reward, recipe=recipe.name)
    selected.aside, selected.num_scores = +aside, scores.num_rows
    return selected


def _joined(prompts: pa.Table, responses: pa.Table, scores: pa.Table, reward: str) -> tuple[pl.DataFrame, pa.Table]:
    """The responses to these prompts as `rule_columns.CANDIDATES` with `verdict`, and their rows in the same order."""
    responses = responses.select(RESPONSE_COLUMNS)
    responses = responses.filter(pc.is_in(responses.column("prompt_id"), prompts.column("prompt_id").combine_chunks()))
    responses = drop_duplicate_keys(responses, "response_id").combine_chunks()
    scored = pl.DataFrame(
        {
            "response_id": column_series(scores, "response_id"),
            "reward": series_of(pc.map_lookup(scores.column("rewards"), query_key=reward, occurrence="last")),
            "correct": column_series(scores, "correct"),
            "verdict": column_series(scores, "verdict"),
        }
    )
    numbers = pl.DataFrame({"prompt_id": column_series(prompts, "prompt_id")}).with_row_index("prompt")
    names = sorted(pc.unique(responses.column("source")).to_pylist())
    ranks = pl.DataFrame({"name": names}, {"name": pl.String}).with_row_index("source")
    text = pl.col("content").str.strip_chars(WHITESPACE)
    table = (
        pl.DataFrame(
            {
                "response_id": column_series(responses, "response_id"),
                "prompt_id": column_series(responses, "prompt_id"),
                "name": column_series(responses, "source"),
                "content": column_series(responses, "text"),
                "tokens": column_series(responses, "completion_tokens").cast(pl.Int64),
                "finished": column_series(responses, "finish_reason") != "length",
                "rejected": column_series(responses, "reject") != "",
            }
        )
        .with_row_index("response")
        .with_columns(text=text.hash(), blank=text == "")
        .drop("content")
        .join(numbers, on="prompt_id", how="left", maintain_order="left")
        .join(ranks, on="name", how="left", maintain_order="left")
        .join(scored, on="response_id", how="left", maintain_order="left")
        .drop("prompt_id", "response_id", "name")
    )
    return table, responses


@cache
def _code_version() -> str:
    return versions().get("fusechat", "")


def _count(
    table: pl.DataFrame, numbered: pl.DataFrame, statuses: pl.DataFrame, responses: pa.Table
) -> Counter[tuple[str, str, str]]:
    """(source, domain, status) -> number of responses."""
    with_domain = statuses.join(
        table.select("response", "prompt"), on="response", how="left", maintain_order="left"
    ).join(numbered.select("prompt", "domain"), on="prompt", how="left", maintain_order="left")
    counted = (
        with_domain.with_columns(source=column_series(responses, "source").gather(with_domain["response"]))
        .group_by("source", "domain", "status")
        .len()
    )
    return Counter({(source, domain, status): num for source, domain, status, num in counted.rows()})


def selected_digest(run: RunDir) -> str:
    """Hash of the stage's output."""
    return digest(*(run.file_digest("select", file) for file in FILES))
