"""The SCORE table: for each response its verdict, its rewards, and the reasons for missing rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..identities import digest
from ..recipe import COMBINED, VERIFIED_DOMAINS, Combination, Select
from ..records import SCORE, ResponseRow, RewardRow, ScoreRow, VerdictRow


def not_scored(responses: Sequence[ResponseRow], verdicts: Mapping[str, VerdictRow], rules: Select) -> dict[str, str]:
    """Response id -> reason, for responses that no rule of the recipe can select. They need no reward."""
    right = {identity for identity, verdict in verdicts.items() if verdict["correct"]}
    sides = {(r["prompt_id"], r["source"]) for r in responses if r["response_id"] in right}
    prompts = {prompt for prompt, _ in sides}
    reasons = {}
    for r in responses:
        if r["reject"]:
            reasons[r["response_id"]] = "rejected"
        elif not r["text"].strip():
            reasons[r["response_id"]] = "empty"
        elif r["finish_reason"] == "length" and not rules.rule(r["domain"]).keep_truncated:
            reasons[r["response_id"]] = "truncated"
        elif r["domain"] in VERIFIED_DOMAINS and r["prompt_id"] not in prompts:
            reasons[r["response_id"]] = "all_wrong"
        elif (
            r["domain"] in VERIFIED_DOMAINS
            and r["response_id"] not in right
            and (r["prompt_id"], r["source"]) not in sides
        ):
            # SFT uses only correct responses. A pair needs a correct and a wrong response of one source.
            reasons[r["response_id"]] = "unpaired"
    return reasons


def combine(
    scores: Mapping[str, float], rejects: Mapping[str, str], terms: Mapping[str, float]
) -> tuple[float | None, str]:
    """The weighted sum of several scores, or None with a reason if one of them is missing.

    Args:
        scores: reward model -> score.
        rejects: reward model -> reason for a missing score.
        terms: reward model -> weight.
    """
    if not terms:
        return None, "no_reward: the recipe names no reward model for this domain"
    if missing := [name for name in terms if name not in scores]:
        return None, f"missing_component: {missing[0]}: {rejects.get(missing[0], 'not scored')}"
    total = sum(weight * scores[name] for name, weight in terms.items())
    return (total, "") if math.isfinite(total) else (None, f"not_finite: {total}")


def merge(
    responses: Sequence[ResponseRow],
    verdicts: Mapping[str, VerdictRow],
    rewards: Mapping[str, Mapping[str, RewardRow]],
    reasons: Mapping[str, str],
    rule: str | Combination = "auto",
) -> pa.Table:
    """The SCORE table: one row per response, including responses without a score.

    If the recipe combines reward models, the combined score is stored as a further reward, COMBINED.
    """
    rows: list[ScoreRow] = []
    for r in responses:
        identity = r["response_id"]
        verdict = verdicts.get(identity)
        own_rewards = {name: table[identity] for name, table in rewards.items() if identity in table}
        rejects = {name: row["reject"] for name, row in own_rewards.items() if row["reject"]}
        if identity in reasons:
            rejects.setdefault("all", f"not_scored: {reasons[identity]}")
        scores = {name: row["score"] for name, row in own_rewards.items() if row["score"] is not None}
        if isinstance(rule, Combination) and identity not in reasons:
            combined, reject = combine(scores, rejects, rule.terms(r["domain"]))
            if combined is None:
                rejects[COMBINED] = reject
            else:
                scores[COMBINED] = combined
        rows.append(
            {
                "response_id": identity,
                "prompt_id": r["prompt_id"],
                "domain": r["domain"],
                "source": r["source"],
                "rewards": list(scores.items()),
                "reward_rejects": list(rejects.items()),
                "correct": verdict["correct"] if verdict else None,
                "verdict": verdict["verdict"] if verdict else "unverified",
                "detail": verdict["detail"] if verdict else "",
                "objectives": [(name, v) for name, row in own_rewards.items() if (v := row.get("objectives"))] or None,
                "gate": [(name, v) for name, row in own_rewards.items() if (v := row.get("gate"))] or None,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCORE).sort_by("response_id")


def scores_digest(rows: Sequence[Mapping[str, object]], chosen: str) -> str:
    """Hash of the stage's output.

    Args:
        rows: SCORE, sorted by response id.
        chosen: the reward that selection uses.
    """
    return digest(rows, chosen)
