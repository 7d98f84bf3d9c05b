"""Decides again what selection decided, from the stored responses, verdicts and rewards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..recipe import VERIFIED_DOMAINS, Domain, Recipe
from ..records import OutcomeRow, PairRow, ResponseRow, ScoreRow, SftRow
from ..selection.apply_rule import in_sft_share
from ..selection.rule import STATUSES, CandidateResponse, Decision, decide, status
from .row_checks import DECIDED, Violation


@dataclass(frozen=True, slots=True)
class Decided:
    """A prompt's decision, and the responses that it was taken from."""

    decision: Decision
    candidates: dict[str, CandidateResponse]
    """By response id."""
    statuses: dict[str, str]
    """Response id -> status (rule.STATUSES)."""


def decide_again(
    prompt_id: str,
    domain: Domain,
    responses: Iterable[ResponseRow],
    scores: Mapping[str, ScoreRow],
    reward_model: str | None,
    recipe: Recipe,
) -> Decided:
    """Applies the selection rule to one prompt, as `select` does: to scored responses of the recipe's sources.

    Args:
        scores: by response id.
        reward_model: whose scores `select` used.
    """
    candidates = _candidates(responses, scores, reward_model, {s.name for s in recipe.sources})
    rule, verified = recipe.select.rule(domain), domain in VERIFIED_DOMAINS
    share = in_sft_share(prompt_id, rule)
    decision = decide(list(candidates.values()), verified=verified, rule=rule, sft_share=share)
    statuses = {i: status(c, decision, verified=verified, rule=rule) for i, c in candidates.items()}
    return Decided(decision, candidates, statuses)


def _candidates(
    responses: Iterable[ResponseRow],
    scores: Mapping[str, ScoreRow],
    reward_model: str | None,
    sources: Collection[str],
) -> dict[str, CandidateResponse]:
    return {
        r["response_id"]: CandidateResponse(
            response_id=r["response_id"],
            source=r["source"],
            text=r["text"],
            tokens=r["completion_tokens"],
            finished=r["finish_reason"] != "length",
            rejected=bool(r["reject"]),
            correct=scores[r["response_id"]]["correct"],
            reward=None if reward_model is None else dict(scores[r["response_id"]]["rewards"]).get(reward_model),
        )
        for r in responses
        if r["response_id"] in scores and r["source"] in sources
    }


def check_decision(
    prompt_id: str, decided: Decided, outcome: OutcomeRow | None, sft: Iterable[SftRow], pairs: Iterable[PairRow]
) -> Iterator[Violation]:
    """Compares a prompt's decision with its outcome and its rows in the data set.

    Args:
        outcome: None if the prompt has none.
        sft: the prompt's SFT rows.
        pairs: the prompt's pairs.
    """
    decision = decided.decision
    if outcome is not None:
        used = decision.sft or (decision.pair[0] if decision.pair is not None else None)
        source = used.source if used is not None else None
        for name, value, expected in (
            ("reason", outcome["reason"], decision.reason),
            ("source", outcome["source"], source),
        ):
            if value != expected:
                why = f"the rule decides the {name} {expected}, outcomes.parquet says {value}"
                yield Violation(rule=DECIDED, row=prompt_id, why=why)
    rows: dict[tuple[str, ...], str] = {(row["response_id"],): row["row_id"] for row in sft}
    yield from _compare(prompt_id, decided, "SFT", rows, {(c.response_id,) for c in decision.sfts})
    rows = {(row["chosen_id"], row["rejected_id"]): row["row_id"] for row in pairs}
    expected_pairs = {(chosen.response_id, rejected.response_id) for chosen, rejected in decision.pairs}
    yield from _compare(prompt_id, decided, "pair", rows, expected_pairs)


def _compare(
    prompt_id: str,
    decided: Decided,
    kind: str,
    rows: Mapping[tuple[str, ...], str],
    expected: Collection[tuple[str, ...]],
) -> Iterator[Violation]:
    """Names each row that the rule does not give, or else the prompt if a row is missing.

    Args:
        rows: ids of a row's responses -> row_id.
    """
    given = f"the rule gives {' and '.join(_shown(ids) for ids in sorted(expected)) or f'no {kind} row'}"
    for ids, row_id in rows.items():
        if ids not in expected:
            parts = [f"{i[:16]} ({STATUSES[decided.statuses[i]]})" for i in ids if i in decided.statuses]
            why = f"{given}; the row has {' over '.join(parts) or 'no scored response of this prompt'}"
            yield Violation(rule=DECIDED, row=row_id, why=why)
    missing = [ids for ids in expected if ids not in rows]
    if missing and all(ids in expected for ids in rows):
        why = f"{given}; {' and '.join(_shown(ids) for ids in sorted(missing))} has no {kind} row"
        yield Violation(rule=DECIDED, row=prompt_id, why=why)


def _shown(ids: tuple[str, ...]) -> str:
    return " over ".join(i[:16] for i in ids)
