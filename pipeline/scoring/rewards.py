"""Rewards of responses by one reward model's deployment, computed with Ray Data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence

from ..cluster.ray_data import ResultColumns, UnitBatch, UnitResult, call_with_retries, run_batch, run_units
from ..recipe import Recipe
from ..records import OBJECTIVES, REWARD, PromptRow, ResponseRow, RewardRow
from ..sampling.messages import Rated, ScoreItem
from ..storage.parts import Parts
from ..storage.run_dir import RunDir


class RewardWorker:
    """Ray Data's worker: requests rewards from one reward model's deployment."""

    def __init__(self, run: RunDir, folder: str, app: str, max_attempts: int) -> None:
        from ray import serve

        self._parts = Parts(run, folder, REWARD, "response_id")
        self._handle = serve.get_app_handle(app)
        self._max_attempts = max_attempts

    def __call__(self, batch: UnitBatch) -> ResultColumns:
        """Ray Data's calling convention: takes a column of units, returns columns of `UnitResult`."""
        return run_batch(batch, self._score)

    def _score(self, text: str) -> UnitResult:
        items: list[ScoreItem] = json.loads(text)
        ratings: list[Rated] = call_with_retries(lambda: self._handle.score.remote(items).result(), self._max_attempts)
        by_id = {r["id"]: r for r in ratings if "id" in r}
        rows = [reward_row(item["id"], by_id.get(item["id"])) for item in items]
        self._parts.write(0, rows)
        return UnitResult(rows=len(rows), tokens=sum(r.get("tokens", 0) for r in ratings), error="")


def reward_row(response_id: str, rated: Rated | None) -> RewardRow:
    """A REWARD row. A missing answer, or one that is not a finite number, becomes a reject."""
    if rated is None:
        return _rejected(response_id, "no_answer: the reward model left it out")
    score, reject = rated.get("score"), rated.get("reject")
    if reject:
        return _rejected(response_id, reject)
    largest = sys.float_info.max  # an integer may be larger; the comparison also rejects NaN
    if isinstance(score, bool) or not isinstance(score, int | float) or not -largest <= score <= largest:
        return _rejected(response_id, f"not_finite: {score!r}"[:100])
    row: RewardRow = {"response_id": response_id, "score": float(score), "reject": ""}
    if objectives := rated.get("objectives"):
        row["objectives"] = [float(objectives[name]) for name in OBJECTIVES]
    if gate := rated.get("gate"):
        row["gate"] = [float(gate[name]) for name in OBJECTIVES]
    return row


def _rejected(response_id: str, reject: str) -> RewardRow:
    return {"response_id": response_id, "score": None, "reject": reject}


def units(items: Sequence[Mapping[str, object]], batch_size: int) -> list[str]:
    """Batches of items as JSON, one per Ray Data row."""
    return [json.dumps(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]


def reward(
    run: RunDir,
    folder: str,
    app: str,
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    recipe: Recipe,
    on_batch: Callable[[int, int], None],
) -> tuple[dict[str, RewardRow], int]:
    """Rewards of these responses by one deployment: response id -> REWARD row, and the number of tokens read."""
    parts = Parts(run, folder, REWARD, "response_id")
    done = parts.ids()
    items = [
        ScoreItem(id=r["response_id"], messages=prompts[r["prompt_id"]]["messages"], response=r["text"])
        for r in responses
        if r["response_id"] not in done
    ]
    tokens = run_units(
        RewardWorker,
        (run, folder, app, recipe.sample.max_attempts),
        units(items, recipe.score.batch_size),
        stage="score",
        who=app,
        concurrency=recipe.score.concurrency,
        on_batch=on_batch,
    )
    ids = {r["response_id"] for r in responses}
    return {row["response_id"]: row for row in parts.read().to_pylist() if row["response_id"] in ids}, tokens
