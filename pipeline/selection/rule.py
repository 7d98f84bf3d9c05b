"""The selection rule (FuseChat-3.0, section 3.3): what one prompt yields, and why it yields nothing else."""

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
    "too_long": "every response that came to its end is longer than the rule allows",
    "unverified": "no response could be verified",
    "all_wrong": "no response is right",
    "no_score": "the responses that a row needs have no finite reward",
    "one_response": "no source gave two responses, so there is nothing to pair",
    "all_right": "no response is wrong, so there is nothing to pair",
    "one_sided": "no source gave a right and a wrong response",
    "tie": "the responses to pair have equal rewards or equal texts",
    "margin_too_small": "the rewards differ by less than the window allows",
    "margin_too_large": "the rewards differ by more than the window allows",
}
"""What became of a prompt; rejects of the intake are `rejected_<reason>`."""

STATUSES = {
    "rejected": "the source gave no response",
    "empty": "the response holds no text",
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
"""What became of a response."""

PLACES = 12
"""Margins are rounded to so many decimals, so that 0.12 - 0.11 lies inside a window that starts at 0.01."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateResponse:
    """One response as the rule sees it."""

    response_id: str
    source: str
    text: str
    tokens: int
    """Tokens of the response."""
    finished: bool = True
    """The source ended it; false where it was cut."""
    rejected: bool = False
    """There is no response."""
    correct: bool | None = None
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a prompt yields: SFT rows, pairs or neither, and why."""

    reason: str
    sfts: tuple[CandidateResponse, ...] = ()
    """Best first."""
    pairs: tuple[tuple[CandidateResponse, CandidateResponse], ...] = ()
    """Chosen and rejected; the pair that wins first."""

    @property
    def sft(self) -> CandidateResponse | None:
        """The best SFT row."""
        return self.sfts[0] if self.sfts else None

    @property
    def pair(self) -> tuple[CandidateResponse, CandidateResponse] | None:
        """The pair that wins."""
        return self.pairs[0] if self.pairs else None


def decide(candidates: Sequence[CandidateResponse], *, verified: bool, rule: DomainRule, sft_share: bool) -> Decision:
    """What one prompt yields; the order of the candidates does not matter.

    This is the rule as one would say it; deciding.py does the same on columns, and tests hold both equal.

    Args:
        verified: whether the domain has verdicts (math, code), so that SFT takes right responses only and a pair is
            a right one against a wrong one.
        sft_share: whether the prompt may serve SFT only.
    """
    texts = [c for c in candidates if not c.rejected and c.text.strip()]
    if not texts:
        return Decision("no_response")
    ended = [c for c in texts if c.finished or rule.keep_truncated]
    if not ended:
        return Decision("truncated")
    whole = [c for c in ended if not _too_long(c, rule)]
    if not whole:
        return Decision("too_long")
    if verified and all(c.correct is None for c in whole):
        return Decision("unverified")
    if verified and not any(c.correct for c in whole):
        return Decision("all_wrong")
    scored = [c for c in whole if _reward(c) is not None]
    good = [c for c in scored if c.correct or not verified]
    if not good:
        return Decision("no_score")
    best = _distinct(sorted(good, key=_best_first))[: rule.rows]
    if sft_share:
        return Decision("selected_sft", sfts=best)
    pairs = _pairs(scored, verified)
    inside = [p for p in pairs if _inside(margin(*p), rule)]
    if inside:
        return Decision("selected_pair", pairs=tuple(sorted(inside, key=lambda p: _wins(p, rule))[: rule.rows]))
    if rule.fallback_to_sft:
        return Decision("selected_sft_fallback", sfts=best)
    return Decision(_why_no_pair(whole, scored, pairs, verified, rule))


def margin(chosen: CandidateResponse, rejected: CandidateResponse) -> float:
    """reward(chosen) - reward(rejected)."""
    return round((chosen.reward or 0.0) - (rejected.reward or 0.0), PLACES)


def status(candidate: CandidateResponse, decision: Decision, *, verified: bool, rule: DomainRule) -> str:
    """What became of one of the prompt's responses (STATUSES)."""
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
    """The first of each text."""
    first: dict[str, CandidateResponse] = {}
    for candidate in ordered:
        first.setdefault(candidate.text, candidate)
    return tuple(first.values())


def _wins(pair: tuple[CandidateResponse, CandidateResponse], rule: DomainRule) -> tuple[float, float, str]:
    """Sorts the pairs of a prompt's sources; the first wins."""
    by_reward = -(pair[0].reward or 0.0) if rule.prefer == "reward" else 0.0
    return by_reward, -margin(*pair), pair[0].source


def _best_first(candidate: CandidateResponse) -> tuple[float, int, str]:
    return -(candidate.reward or 0.0), candidate.tokens, candidate.response_id


def _worst_first(candidate: CandidateResponse) -> tuple[float, int, str]:
    return candidate.reward or 0.0, candidate.tokens, candidate.response_id


def _pairs(scored: Sequence[CandidateResponse], verified: bool) -> list[tuple[CandidateResponse, CandidateResponse]]:
    """The pair of each source that has one, whatever its margin."""
    found = []
    for source in sorted({c.source for c in scored}):
        mine = [c for c in scored if c.source == source]
        good = sorted((c for c in mine if c.correct or not verified), key=_best_first)
        bad = sorted((c for c in mine if c.correct is False or not verified), key=_worst_first)
        pair = next(((g, b) for g in good for b in bad if g.text != b.text), None)
        # Without verdicts, equal rewards prefer neither side.
        if pair is not None and (verified or margin(*pair) > 0):
            found.append(pair)
    return found


def _why_no_pair(
    whole: Sequence[CandidateResponse],
    scored: Sequence[CandidateResponse],
    pairs: Sequence[tuple[CandidateResponse, CandidateResponse]],
    verified: bool,
    rule: DomainRule,
) -> str:
    if max(Counter(c.source for c in whole).values()) < 2:
        return "one_response"
    if verified and not any(c.correct is False for c in whole):
        return "all_right"
    if not any(_can_pair(whole, verified)):
        return "one_sided"
    if not any(_can_pair(scored, verified)):
        return "no_score"
    if not pairs:
        return "tie"
    top = rule.margin.max
    return "margin_too_large" if top is not None and max(margin(*p) for p in pairs) > top else "margin_too_small"


def _can_pair(candidates: Sequence[CandidateResponse], verified: bool) -> Iterator[bool]:
    """For each source, whether it has two sides."""
    for source in {c.source for c in candidates}:
        mine = [c.correct for c in candidates if c.source == source]
        yield {True, False} <= set(mine) if verified else len(mine) > 1


def _inside(value: float, rule: DomainRule) -> bool:
    return value >= rule.margin.min and (rule.margin.max is None or value <= rule.margin.max)
