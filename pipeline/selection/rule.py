"""The selection rule (FuseChat-3.0, section 3.3): the rows that one prompt yields, or the reason why it yields none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..recipe import DomainRule

REASONS = {
    "selected_sft": "an SFT row: a prompt of the SFT share",
    "selected_pair": "a preference pair",
    "selected_sft_fallback": "an SFT row: a prompt of the DPO share that yielded no pair",
    "no_response": "no source gave a response with text",
    "truncated": "every response was cut at its token limit",
    "too_long": "every complete response is longer than the rule allows",
    "unverified": "no response could be verified",
    "all_wrong": "no response is right",
    "no_score": "the responses that a row needs have no finite reward",
    "one_response": "no source gave two responses, so there is no pair",
    "all_right": "no response is wrong, so there is no pair",
    "one_sided": "no source gave both a right and a wrong response",
    "tie": "the responses to pair have equal rewards, or equal texts but for white space at their ends",
    "margin_too_small": "the rewards differ by less than the window allows",
    "margin_too_large": "the rewards differ by more than the window allows",
}
"""Reason of a prompt's outcome -> explanation. Rejects of the intake have the reason `rejected_<reason>`."""

STATUSES = {
    "rejected": "the source gave no response",
    "empty": "the response contains no text",
    "truncated": "cut at its token limit",
    "too_long": "longer than the rule allows",
    "unverified": "could not be verified",
    "wrong": "wrong, and not part of a pair",
    "no_score": "has no finite reward",
    "unused": "another response was selected, or none",
    "sft": "the response of an SFT row",
    "chosen": "the better side of a pair",
    "dispreferred": "the worse side of a pair",
}
"""Status of a response -> explanation."""

PLACES = 12
"""Number of decimals that margins are rounded to, so that 0.12 - 0.11 is inside a window that starts at 0.01."""


def margin_of(chosen: float | None, rejected: float | None) -> float | None:
    """Margin of a pair; None if a reward is missing."""
    return None if chosen is None or rejected is None else round(chosen - rejected, PLACES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateResponse:
    """The properties of a response that the rule depends on."""

    response_id: str
    source: str
    text: str
    """Texts that differ only in white space at their ends count as one text."""
    tokens: int
    """Tokens of the response."""
    finished: bool = True
    """Whether the source ended it; false if it was truncated."""
    rejected: bool = False
    """Whether the source gave no response."""
    correct: bool | None = None
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a prompt: SFT rows, pairs or neither, and the reason."""

    reason: str
    sfts: tuple[CandidateResponse, ...] = ()
    """Best first."""
    pairs: tuple[tuple[CandidateResponse, CandidateResponse], ...] = ()
    """(chosen, rejected); the winning pair first."""

    @property
    def sft(self) -> CandidateResponse | None:
        """The best SFT row."""
        return self.sfts[0] if self.sfts else None

    @property
    def pair(self) -> tuple[CandidateResponse, CandidateResponse] | None:
        """The winning pair."""
        return self.pairs[0] if self.pairs else None


def decide(candidates: Sequence[CandidateResponse], *, verified: bool, rule: DomainRule, sft_share: bool) -> Decision:
    """Applies the rule to one prompt. The order of the candidates does not matter.

    This is the readable form of the rule. rule_columns.py applies it to columns, and tests check that both agree.

    Args:
        verified: whether the domain has verdicts (math, code). Then SFT uses only right responses, and a pair consists
            of a right and a wrong response.
        sft_share: whether the prompt may be used for SFT only.
    """
    with_text = [c for c in candidates if not c.rejected and c.text.strip()]
    if not with_text:
        return Decision("no_response")
    complete = [c for c in with_text if c.finished or rule.keep_truncated]
    if not complete:
        return Decision("truncated")
    usable = [c for c in complete if not _too_long(c, rule)]
    if not usable:
        return Decision("too_long")
    if verified and all(c.correct is None for c in usable):
        return Decision("unverified")
    if verified and not any(c.correct for c in usable):
        return Decision("all_wrong")
    scored = [c for c in usable if _reward(c) is not None]
    good = [c for c in scored if c.correct or not verified]
    if not good:
        return Decision("no_score")
    best = _distinct(sorted(good, key=_best_first))[: rule.rows]
    if sft_share:
        return Decision("selected_sft", sfts=best)
    pairs = _pairs(scored, verified)
    inside = [p for p in pairs if _inside(margin(*p), rule)]
    if inside:
        return Decision("selected_pair", pairs=tuple(sorted(inside, key=lambda p: _winner_first(p, rule))[: rule.rows]))
    if rule.fallback_to_sft:
        return Decision("selected_sft_fallback", sfts=best)
    return Decision(_why_no_pair(usable, scored, pairs, verified, rule))


def margin(chosen: CandidateResponse, rejected: CandidateResponse) -> float:
    """reward(chosen) - reward(rejected)."""
    return round((chosen.reward or 0.0) - (rejected.reward or 0.0), PLACES)


def status(candidate: CandidateResponse, decision: Decision, *, verified: bool, rule: DomainRule) -> str:
    """The status (STATUSES) of one of the prompt's responses."""
    used = {
        **{c.response_id: "sft" for c in decision.sfts},
        **{c.response_id: "chosen" for c, _ in decision.pairs},
        **{c.response_id: "dispreferred" for _, c in decision.pairs},
    }
    if candidate.response_id in used:
        return used[candidate.response_id]
    if candidate.rejected:
        return "rejected"
    if not candidate.text.strip():
        return "empty"
    if not (candidate.finished or rule.keep_truncated):
        return "truncated"
    if _too_long(candidate, rule):
        return "too_long"
    if verified and not candidate.correct:
        return "unverified" if candidate.correct is None else "wrong"
    return "no_score" if _reward(candidate) is None else "unused"


def _reward(candidate: CandidateResponse) -> float | None:
    reward = candidate.reward
    return reward if reward is not None and math.isfinite(reward) else None


def _too_long(candidate: CandidateResponse, rule: DomainRule) -> bool:
    return rule.max_tokens is not None and candidate.tokens > rule.max_tokens


def _distinct(ordered: Sequence[CandidateResponse]) -> tuple[CandidateResponse, ...]:
    """The first candidate with each text, without white space at its ends."""
    first: dict[str, CandidateResponse] = {}
    for candidate in ordered:
        first.setdefault(candidate.text.strip(), candidate)
    return tuple(first.values())


def _winner_first(pair: tuple[CandidateResponse, CandidateResponse], rule: DomainRule) -> tuple[float, float, str]:
    """Sort key for the pairs of a prompt's sources; the winning pair comes first."""
    by_reward = -(pair[0].reward or 0.0) if rule.prefer == "reward" else 0.0
    return by_reward, -margin(*pair), pair[0].source


def _best_first(candidate: CandidateResponse) -> tuple[float, int, str]:
    return -(candidate.reward or 0.0), candidate.tokens, candidate.response_id


def _worst_first(candidate: CandidateResponse) -> tuple[float, int, str]:
    return candidate.reward or 0.0, candidate.tokens, candidate.response_id


def _pairs(scored: Sequence[CandidateResponse], verified: bool) -> list[tuple[CandidateResponse, CandidateResponse]]:
    """The pair of each source that has one, with any margin."""
    pairs = []
    for source in sorted({c.source for c in scored}):
        of_source = [c for c in scored if c.source == source]
        good = sorted((c for c in of_source if c.correct or not verified), key=_best_first)
        bad = sorted((c for c in of_source if c.correct is False or not verified), key=_worst_first)
        pair = next(((g, b) for g in good for b in bad if g.text.strip() != b.text.strip()), None)
        # Without verdicts, equal rewards give no preference.
        if pair is not None and (verified or margin(*pair) > 0):
            pairs.append(pair)
    return pairs


def _why_no_pair(
    usable: Sequence[CandidateResponse],
    scored: Sequence[CandidateResponse],
    pairs: Sequence[tuple[CandidateResponse, CandidateResponse]],
    verified: bool,
    rule: DomainRule,
) -> str:
    if max(Counter(c.source for c in usable).values()) < 2:
        return "one_response"
    if verified and not any(c.correct is False for c in usable):
        return "all_right"
    if not any(_can_pair(usable, verified)):
        return "one_sided"
    if not any(_can_pair(scored, verified)):
        return "no_score"
    if not pairs:
        return "tie"
    top = rule.margin.max
    return "margin_too_large" if top is not None and max(margin(*p) for p in pairs) > top else "margin_too_small"


def _can_pair(candidates: Sequence[CandidateResponse], verified: bool) -> Iterator[bool]:
    """For each source, whether it has responses for both sides of a pair."""
    for source in {c.source for c in candidates}:
        verdicts = [c.correct for c in candidates if c.source == source]
        yield {True, False} <= set(verdicts) if verified else len(verdicts) > 1


def _inside(value: float, rule: DomainRule) -> bool:
    return value >= rule.margin.min and (rule.margin.max is None or value <= rule.margin.max)
