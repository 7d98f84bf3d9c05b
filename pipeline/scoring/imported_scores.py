"""Scores that imported responses bring along."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..records import CARRIED, IMPORTED_SCORE, CarriedRow, ImportedScoreRow, ResponseRow, RewardRow
from ..run import Run
from ..sampling.generate import carried_responses
from ..storage.parts import Parts

NO_SCORE = "no_score: the row of the response has no score of this name"


def of(run: Run, name: str, responses: Sequence[ResponseRow]) -> dict[str, RewardRow]:
    """Response id -> imported score of these responses; those without one have the reject reason `no_score`.

    Args:
        name: of the reward.
    """
    scores: list[ImportedScoreRow] = _parts(run).read().to_pylist()
    values = {row["carried_id"]: row["value"] for row in scores if row["reward"] == name}
    carried: list[CarriedRow] = Parts(run.dir, "prompts/responses", CARRIED, "carried_id").read().to_pylist()
    by_response = {
        response["response_id"]: values[row["carried_id"]]
        for row, response in zip(carried, carried_responses(carried), strict=True)
        if row["carried_id"] in values
    }
    found: dict[str, RewardRow] = {}
    for response in responses:
        score = by_response.get(response["response_id"])
        found[response["response_id"]] = _row(response["response_id"], score)
    return found


def _row(response_id: str, score: float | None) -> RewardRow:
    if score is None:
        return {"response_id": response_id, "score": None, "reject": NO_SCORE}
    if not math.isfinite(score):
        return {"response_id": response_id, "score": None, "reject": f"not_finite: {score}"}
    return {"response_id": response_id, "score": score, "reject": ""}


def _parts(run: Run) -> Parts:
    return Parts(run.dir, "prompts/scores", IMPORTED_SCORE, "score_id")
