"""How rewards relate to verdicts, to response length, and to each other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NotRequired, TypedDict

from ..records import FINISHED, ResponseRow, VerdictRow


class Agreement(TypedDict):
    """How one reward model's scores agree with the verdicts."""

    auc: float | None
    """Area under the ROC curve."""
    num: int
    num_correct: int
    by_source_domain: dict[str, float | None]
    """`source/domain` -> area under the curve."""


class LengthRelation(TypedDict):
    """How one reward model's scores relate to the length of the response."""

    spearman: float | None
    num: int
    points: list[list[int | float | str]]
    """Length, reward and domain of at most NUM_POINTS responses."""


class RankRelation(TypedDict):
    """How two reward models order the responses that both scored."""

    a: str
    b: str
    num: int
    spearman: float | None
    kendall: float | None


class RewardRelations(TypedDict):
    """How the rewards of all scored responses relate to verdicts, to length, and to each other."""

    verdicts: dict[str, Agreement]
    """Reward model -> agreement with the verdicts."""
    lengths: dict[str, LengthRelation]
    """Reward model -> relation to the length of the response."""
    ranks: list[RankRelation]
    """One entry per pair of reward models."""


class AgreementReport(TypedDict):
    """score/agreement.json."""

    chosen: str
    """The reward model that selection uses."""
    made_by: NotRequired[dict[str, str]]
    """Reward model -> version that made the stored scores. Early versions did not write it, nor `run`."""
    reward_models: dict[str, Agreement]
    """Reward model -> agreement with the verdicts, on the sample on which the models are compared."""
    run: NotRequired[RewardRelations]


NUM_POINTS = 300
"""Responses whose length and reward are kept for the report's plot."""


def sample(responses: Sequence[ResponseRow], verdicts: Mapping[str, VerdictRow], num: int) -> list[ResponseRow]:
    """Finished, verified responses on which reward models are compared: half right and half wrong, if there are enough.

    Takes the smallest identities. They are hashes, so the sample is random and stable.
    """
    finished = [r for r in responses if r["finish_reason"] in FINISHED and r["text"].strip()]
    halves = []
    for correct in (True, False):
        matching = {identity for identity, verdict in verdicts.items() if verdict["correct"] is correct}
        half = [r for r in finished if r["response_id"] in matching]
        halves.append(sorted(half, key=lambda r: str(r["response_id"])))
    right, wrong = halves
    num_right = min(len(right), max(num // 2, num - len(wrong)))
    return right[:num_right] + wrong[: num - num_right]


def auc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Area under the ROC curve (Mann-Whitney, ties count half); None if one class is missing."""
    from scipy.stats import mannwhitneyu

    right = [s for s, c in zip(scores, correct, strict=True) if c]
    wrong = [s for s, c in zip(scores, correct, strict=True) if not c]
    if not right or not wrong:
        return None
    return float(mannwhitneyu(right, wrong).statistic) / (len(right) * len(wrong))


def with_verdicts(
    responses: Sequence[ResponseRow], verdicts: Mapping[str, VerdictRow], scores: Mapping[str, float]
) -> Agreement:
    """How one reward model's scores agree with the verdicts, in total and for each source and domain.

    Args:
        scores: response id -> score. Responses without a score or a verdict are ignored.
    """
    scored = [
        (f"{r['source']}/{r['domain']}", scores[r["response_id"]], verdict["correct"])
        for r in responses
        if r["response_id"] in scores
        and (verdict := verdicts.get(r["response_id"])) is not None
        and verdict["correct"] is not None
    ]
    groups: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for key, score, correct in scored:
        groups[key].append((score, correct))
    return {
        "auc": auc([s for _, s, _ in scored], [c for _, _, c in scored]),
        "num": len(scored),
        "num_correct": sum(c for _, _, c in scored),
        "by_source_domain": {k: auc([s for s, _ in g], [c for _, c in g]) for k, g in sorted(groups.items())},
    }


def is_comparable(verdicts: Iterable[VerdictRow]) -> bool:
    """Whether an AUC exists: it takes right and wrong responses."""
    return {True, False} <= {verdict["correct"] for verdict in verdicts}


def choose(agreements: Mapping[str, Agreement]) -> str | None:
    """The reward model with the largest AUC; of equal ones, the first by name. None if there are several, and none has
    an AUC: verdicts then say nothing about which is better."""
    if len(agreements) > 1 and all(figures["auc"] is None for figures in agreements.values()):
        return None
    return min(agreements, key=lambda name: (-(agreements[name]["auc"] or 0.0), name))


def with_length(responses: Sequence[ResponseRow], scores: Mapping[str, float]) -> LengthRelation:
    """Reward against response length in characters: rank correlation, and points for the report's plot.

    Characters are used because sources count tokens differently, and imported responses have no token count. The points
    are the NUM_POINTS responses with the smallest identities, a random but stable sample.
    """
    scored = sorted((r for r in responses if r["response_id"] in scores), key=lambda r: str(r["response_id"]))
    lengths = [float(len(r["text"])) for r in scored]
    points: list[list[int | float | str]] = [
        [len(r["text"]), scores[r["response_id"]], r["domain"]] for r in scored[:NUM_POINTS]
    ]
    spearman = _ranks(lengths, [scores[r["response_id"]] for r in scored])[0]
    return {"spearman": spearman, "num": len(scored), "points": points}


def between(scores: Mapping[str, Mapping[str, float]]) -> list[RankRelation]:
    """Rank agreement of each pair of reward models on the responses that both scored."""
    found: list[RankRelation] = []
    for a, b in combinations(scores, 2):
        common = sorted(scores[a].keys() & scores[b].keys())
        spearman, kendall = _ranks([scores[a][i] for i in common], [scores[b][i] for i in common])
        found.append({"a": a, "b": b, "num": len(common), "spearman": spearman, "kendall": kendall})
    return found


def _ranks(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
    """Spearman's rho and Kendall's tau-b; None if one side has fewer than two different values."""
    from scipy.stats import kendalltau, spearmanr

    if len(set(a)) < 2 or len(set(b)) < 2:
        return None, None
    rho, tau = float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)
    return rho if math.isfinite(rho) else None, tau if math.isfinite(tau) else None
