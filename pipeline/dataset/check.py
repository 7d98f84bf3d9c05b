"""Checks a data set against its recipe and the run directory, and names each row that breaks a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import polars as pl

from ..errors import StageError
from ..identities import bucket_of, prompt_id
from ..recipe import Recipe
from ..records import PROMPT, RESPONSE, SCORE, OutcomeRow, PairRow, PromptRow, RejectRow, ResponseRow, ScoreRow, SftRow
from ..scoring.agreement import AgreementReport
from ..selection.apply_rule import in_sft_share
from ..selection.funnel import REMOVED
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .decisions import check_decision, decide_again
from .imported_check import check_imported
from .outputs import check_outputs
from .row_checks import (
    NO_REJECTS,
    ONE_REASON,
    ROWS_PER_PROMPT,
    SHARES,
    TRACEABLE,
    StoredResponse,
    Violation,
    check_pair,
    check_sft,
)

Row = TypeVar("Row", SftRow, PairRow, ResponseRow)


def check(run: RunDir, recipe: Recipe) -> list[Violation]:
    """All violations of RULES; empty if the data set is valid.

    Raises:
        StageError: the selection has not been run, or a shard can't be read.
    """
    if not run.exists("select", "pairs.parquet") or not run.exists("select", "sft.parquet"):
        raise StageError("check", run.url, "the selection has not been run; `fusechat select` runs it")
    if recipe.dataset is not None:
        return check_imported(run, recipe)
    if not run.exists("score", "agreement.json"):
        raise StageError("check", run.url, "the scores are missing; `fusechat score` makes them")
    agreement: AgreementReport = run.read_json("score", "agreement.json")
    sft: list[SftRow] = run.read_table("select", "sft.parquet").to_pylist()
    pairs: list[PairRow] = run.read_table("select", "pairs.parquet").to_pylist()
    violations = check_outputs(run, recipe)
    proven = "prompts" not in {v.row for v in violations}
    prompt_rows: list[PromptRow] = Parts(run, "prompts/train", PROMPT, "prompt_id").read().to_pylist()
    prompts = {p["prompt_id"]: p for p in prompt_rows}
    stored, undecided = _decide_all(run, recipe, agreement["chosen"], sft, pairs, prompts)
    for sft_row in sft:
        violations += check_sft(sft_row, stored, agreement["chosen"], recipe)
    for pair_row in pairs:
        violations += check_pair(pair_row, stored, agreement["chosen"], recipe)
    for sft_row in sft:
        violations += _check_prompt(sft_row, "sft", prompts, recipe)
    for pair_row in pairs:
        violations += _check_prompt(pair_row, "pair", prompts, recipe)
    violations += _check_shares(sft, pairs)
    violations += _check_row_counts(sft, recipe) + _check_row_counts(pairs, recipe)
    violations += _check_rejects(run, [*sft, *pairs], prompts, proven)
    violations += _check_reasons(run, sft, pairs, prompts)
    return violations + undecided


def _decide_all(
    run: RunDir,
    recipe: Recipe,
    reward_model: str,
    sft: Sequence[SftRow],
    pairs: Sequence[PairRow],
    prompts: Mapping[str, PromptRow],
) -> tuple[dict[str, StoredResponse], list[Violation]]:
    """Decides every prompt again, one bucket at a time.

    Returns the stored responses of the rows by response id, and the violations of DECIDED.
    """
    used = {r["response_id"] for r in sft} | {r["chosen_id"] for r in pairs} | {r["rejected_id"] for r in pairs}
    outcome_rows: list[OutcomeRow] = run.read_table("select", "outcomes.parquet").to_pylist()
    outcomes = {o["prompt_id"]: o for o in outcome_rows}
    sft_of, pairs_of = _by_prompt(sft), _by_prompt(pairs)
    stored: dict[str, StoredResponse] = {}
    violations: list[Violation] = []

    def decide_prompt(identity: str, responses: Iterable[ResponseRow], scores: Mapping[str, ScoreRow]) -> None:
        decided = decide_again(identity, prompts[identity]["domain"], responses, scores, reward_model, recipe)
        rows = (sft_of.get(identity, ()), pairs_of.get(identity, ()))
        violations.extend(check_decision(identity, decided, outcomes.get(identity), *rows))

    without_responses = set(prompts)
    num_buckets = recipe.sample.buckets
    for bucket in range(num_buckets):
        responses: list[ResponseRow] = Parts(run, "sample", RESPONSE, "response_id").read(bucket).to_pylist()
        score_rows: list[ScoreRow] = Parts(run, "score", SCORE, "response_id").read(bucket).to_pylist()
        scores = {s["response_id"]: s for s in score_rows}
        for score in score_rows:
            if score["response_id"] in used:
                stored.setdefault(score["response_id"], StoredResponse()).score = score
        for response in responses:
            if response["response_id"] in used:
                stored.setdefault(response["response_id"], StoredResponse()).response = response
        for identity, of_prompt in _by_prompt(responses).items():
            # After a change of the number of buckets, a bucket may still have responses of another one.
            if identity in prompts and bucket_of(identity, num_buckets) == bucket:
                without_responses.discard(identity)
                decide_prompt(identity, of_prompt, scores)
    for identity in sorted(without_responses):
        decide_prompt(identity, (), {})
    return stored, violations


def _by_prompt(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["prompt_id"], []).append(row)
    return found


def _check_prompt(
    row: SftRow | PairRow, kind: str, prompts: Mapping[str, PromptRow], recipe: Recipe
) -> list[Violation]:
    prompt, shown = prompts.get(row["prompt_id"]), f"prompt {row['prompt_id'][:16]}"
    if prompt is None or prompt["messages"] != row["prompt"] or prompt["domain"] != row["domain"]:
        problem = "is not in prompts/train" if prompt is None else "differs from prompts/train"
        return [Violation(rule=TRACEABLE, row=row["row_id"], why=f"{shown} {problem}")]
    if prompt_id(prompt["messages"]) != row["prompt_id"]:
        return [Violation(rule=TRACEABLE, row=row["row_id"], why=f"{shown}: its identity is not that of its messages")]
    rule = recipe.select.rule(row["domain"])
    share = in_sft_share(row["prompt_id"], rule)
    if (kind == "pair" and share) or (kind == "sft" and not share and not rule.fallback_to_sft):
        why = f"{shown} belongs to the {'SFT' if share else 'DPO'} share"
        return [Violation(rule=SHARES, row=row["row_id"], why=why)]
    return []


def _check_shares(sft: Sequence[SftRow], pairs: Sequence[PairRow]) -> list[Violation]:
    both = {r["prompt_id"] for r in sft} & {r["prompt_id"] for r in pairs}
    return [
        Violation(rule=SHARES, row=row["row_id"], why=f"prompt {row['prompt_id'][:16]} also has SFT rows")
        for row in pairs
        if row["prompt_id"] in both
    ]


def _check_row_counts(rows: Sequence[SftRow] | Sequence[PairRow], recipe: Recipe) -> list[Violation]:
    violations = []
    num_rows: Counter[str] = Counter()
    row_ids: set[str] = set()
    for row in rows:
        num_rows[row["prompt_id"]] += 1
        most = recipe.select.rule(row["domain"]).rows
        if num_rows[row["prompt_id"]] > most or row["row_id"] in row_ids:
            why = f"row {num_rows[row['prompt_id']]} of its prompt; the recipe allows {most}"
            violations.append(Violation(rule=ROWS_PER_PROMPT, row=row["row_id"], why=why))
        row_ids.add(row["row_id"])
    return violations


def _check_rejects(
    run: RunDir, rows: Sequence[SftRow | PairRow], prompts: Mapping[str, PromptRow], proven: bool
) -> list[Violation]:
    """Finds rows with rejected or held-out prompts.

    Rejects are named by prompt id, or by file and line. Two files may have one name, so file and line accuse a prompt
    only if it is not proven that prompts/train is what the intake wrote: then it kept the prompt.
    """
    rejects: list[RejectRow] = run.read_table("prompts", "rejects.parquet").to_pylist()
    reasons = {r["id"]: r["reason"] for r in rejects}
    heldout = set(Parts(run, "prompts/heldout", PROMPT, "prompt_id").read(columns=["domain"])["prompt_id"].to_pylist())
    violations = []
    for row in rows:
        prompt = prompts.get(row["prompt_id"])
        names = [row["prompt_id"]] + ([f"{prompt['file']}:{prompt['line']}"] if prompt and not proven else [])
        reason = next((reasons[n] for n in names if n in reasons), None)
        if row["prompt_id"] in heldout:
            reason = "held out"
        if reason is not None:
            why = f"prompt {row['prompt_id'][:16]} {'was removed as' if reason in REMOVED else 'is'} {reason}"
            violations.append(Violation(rule=NO_REJECTS, row=row["row_id"], why=why))
    return violations


def _check_reasons(
    run: RunDir, sft: Sequence[SftRow], pairs: Sequence[PairRow], prompts: Mapping[str, PromptRow]
) -> list[Violation]:
    outcomes = pl.from_arrow(run.read_table("select", "outcomes.parquet"))
    assert isinstance(outcomes, pl.DataFrame)
    violations = []
    counts = outcomes.group_by("prompt_id").len()
    for prompt, num in counts.filter(pl.col("len") > 1).rows():
        violations.append(Violation(rule=ONE_REASON, row=prompt, why=f"has {num} reasons"))
    reasons: dict[str, str] = dict(outcomes.select("prompt_id", "reason").rows())
    for prompt in sorted(set(prompts) ^ set(reasons)):
        why = "has no reason" if prompt in prompts else "has a reason, but is not in prompts/train"
        violations.append(Violation(rule=ONE_REASON, row=prompt, why=why))
    kinds = {**{r["prompt_id"]: "sft" for r in sft}, **{r["prompt_id"]: "pair" for r in pairs}}
    for prompt, reason in sorted(reasons.items()):
        expected = {"selected_sft": "sft", "selected_sft_fallback": "sft", "selected_pair": "pair"}.get(reason)
        if kinds.get(prompt) != expected:
            why = f"its reason is {reason}, its row is {kinds.get(prompt, 'missing')}"
            violations.append(Violation(rule=ONE_REASON, row=prompt, why=why))
    return violations
