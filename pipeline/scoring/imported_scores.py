"""Scores that imported responses bring along."""

from __future__ import annotations

from collections.abc import Collection

from ..records import CARRIED, IMPORTED_SCORE, CarriedRow, ImportedScoreRow, RewardRow
from ..run import Run
from ..sampling.generate import carried_responses
from ..storage.parts import Parts

NO_SCORE = "no_score: the row of the response has no score of this name"


def read(run: Run) -> dict[str, dict[str, float]]:
    """Reward -> response id -> its imported score."""
    carried: list[CarriedRow] = Parts(run.dir, "prompts/responses", CARRIED, "carried_id").read().to_pylist()
    responses = carried_responses(carried)
    ids = {row["carried_id"]: response["response_id"] for row, response in zip(carried, responses, strict=True)}
    scores: list[ImportedScoreRow] = Parts(run.dir, "prompts/scores", IMPORTED_SCORE, "score_id").read().to_pylist()
    found: dict[str, dict[str, float]] = {}
    for row in scores:
        found.setdefault(row["reward"], {})[ids[row["carried_id"]]] = row["value"]
    return found


def rewards(scores: dict[str, float], responses: Collection[str]) -> dict[str, RewardRow]:
    """Response id -> reward of these responses; those without a score have the reject reason `no_score`.

    Args:
        scores: response id -> score of one reward.
        responses: response ids.
    """
    return {
        response: {
            "response_id": response,
            "score": scores.get(response),
            "reject": "" if response in scores else NO_SCORE,
        }
        for response in responses
    }
