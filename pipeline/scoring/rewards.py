"""Scoring: verdicts for math and code, rewards for what selection can use, and one number of several rewards."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fusechat.pipeline.cluster.ray_data import Done, attempts, drive, each
from fusechat.pipeline.recipe import COMBINED, VERIFIED_DOMAINS, Combination, Recipe, Select, Verify
from fusechat.pipeline.records import OBJECTIVES, REWARD, SCORE, VERDICT
from fusechat.pipeline.sampling.messages import Rated, ScoreItem
from fusechat.pipeline.storage.run_dir import Parts, RunDir

Rows = list[dict[str, Any]]


class Verifier:
    """Ray Data's worker: verdicts from killable, confined processes."""

    def __init__(self, run: RunDir, folder: str, config: Verify) -> None:
        from fusechat.pipeline.verify import VerifierPool

        self._parts = Parts(run, folder, VERDICT, "response_id")
        self._pool = VerifierPool(config.num_workers, timeout_s=config.timeout_s, sandbox=config.sandbox)
        self._pool.__enter__()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Ray Data's calling convention: a column of units in, a column of results out."""
        return each(batch, self._verify)

    def _verify(self, text: str) -> Done:
        from fusechat.pipeline.verify import CheckTask

        tasks = [CheckTask(**item) for item in json.loads(text)]
        rows = [
            {"response_id": i, "correct": v.correct, "verdict": v.reason, "detail": v.summary}
            for i, v in self._pool.run(tasks)
        ]
        self._parts.write(0, rows)
        return Done(rows=len(rows), tokens=0, error="")


class Scorer:
    """Ray Data's worker: rewards from one reward model's deployment."""

    def __init__(self, run: RunDir, folder: str, app: str, max_attempts: int) -> None:
        from ray import serve

        self._parts = Parts(run, folder, REWARD, "response_id")
        self._handle = serve.get_app_handle(app)
        self._max_attempts = max_attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Ray Data's calling convention: a column of units in, a column of results out."""
        return each(batch, self._score)

    def _score(self, text: str) -> Done:
        items: list[ScoreItem] = json.loads(text)
        ratings: list[Rated] = attempts(lambda: self._handle.score.remote(items).result(), self._max_attempts)
        by_id = {r["id"]: r for r in ratings if "id" in r}
        rows = [reward_row(item["id"], by_id.get(item["id"])) for item in items]
        self._parts.write(0, rows)
        return Done(rows=len(rows), tokens=sum(r.get("tokens", 0) for r in ratings), error="")


def reward_row(response_id: str, rated: Rated | None) -> dict[str, Any]:
    """A REWARD row; an answer that is missing or no finite number is a reject, never a score."""
    if rated is None:
        return {
            "response_id": response_id,
            "score": None,
            "reject": "no_answer: the reward model left it out",
        }
    score, reject = rated.get("score"), rated.get("reject")
    if reject:
        return {"response_id": response_id, "score": None, "reject": reject}
    largest = sys.float_info.max  # integers may lie above it, and comparing takes NaN out too
    if isinstance(score, bool) or not isinstance(score, int | float) or not -largest <= score <= largest:
        return {"response_id": response_id, "score": None, "reject": f"not_finite: {score!r}"[:100]}
    row: dict[str, Any] = {"response_id": response_id, "score": float(score), "reject": ""}
    for column in ("objectives", "gate"):
        values: Any = rated.get(column)
        if values:
            row[column] = [float(values[name]) for name in OBJECTIVES]
    return row


def units(items: Sequence[Any], batch_size: int) -> list[str]:
    """Batches as Ray Data rows."""
    return [json.dumps(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]


def verify(
    run: RunDir,
    folder: str,
    responses: Rows,
    prompts: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    on_batch: Callable[[int, int], None],
) -> dict[str, dict[str, Any]]:
    """Verdicts of all responses of the verified domains; response id -> VERDICT row. They hold for one time limit."""
    folder = f"{folder}/{recipe.score.verify.timeout_s:g}s"
    parts = Parts(run, folder, VERDICT, "response_id")
    wanted = [r for r in responses if r["domain"] in VERIFIED_DOMAINS and not r["reject"]]
    done = parts.ids()
    items = []
    for r in wanted:
        if r["response_id"] not in done:
            prompt = prompts[r["prompt_id"]]
            item = {
                "id": r["response_id"],
                "domain": r["domain"],
                "response": r["text"],
                "gold": prompt["gold"],
                "tests": prompt["tests"],
                "entry_point": prompt["entry_point"],
                "prompt": prompt["messages"][-1]["content"],
            }
            items.append(item)
    drive(
        Verifier,
        (run, folder, recipe.score.verify),
        units(items, 64),
        stage="score",
        who="verification",
        concurrency=1,
        on_batch=on_batch,
    )
    ids = {r["response_id"] for r in wanted}
    return {row["response_id"]: row for row in parts.read().to_pylist() if row["response_id"] in ids}


def reward(
    run: RunDir,
    folder: str,
    app: str,
    responses: Rows,
    prompts: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    on_batch: Callable[[int, int], None],
) -> tuple[dict[str, dict[str, Any]], int]:
    """Rewards of these responses by one deployment; response id -> REWARD row, and the tokens read."""
    parts = Parts(run, folder, REWARD, "response_id")
    done = parts.ids()
    items = [
        ScoreItem(id=r["response_id"], messages=prompts[r["prompt_id"]]["messages"], response=r["text"])
        for r in responses
        if r["response_id"] not in done
    ]
    tokens = drive(
        Scorer,
        (run, folder, app, recipe.sample.max_attempts),
        units(items, recipe.score.batch_size),
        stage="score",
        who=app,
        concurrency=recipe.score.concurrency,
        on_batch=on_batch,
    )
    ids = {r["response_id"] for r in responses}
    return {row["response_id"]: row for row in parts.read().to_pylist() if row["response_id"] in ids}, tokens


def not_scored(responses: Rows, verdicts: Mapping[str, Mapping[str, Any]], rules: Select) -> dict[str, str]:
    """Responses that no rule of the recipe could select, with the reason: they need no reward."""
    right = {r["response_id"] for r in responses if verdicts.get(r["response_id"], {}).get("correct")}
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
            reasons[r["response_id"]] = "unpaired"  # SFT takes right ones, a pair both sides of one source
    return reasons


def combine(
    scores: Mapping[str, float], rejects: Mapping[str, str], terms: Mapping[str, float]
) -> tuple[float | None, str]:
    """One score of several: the weighted sum; or none, with its reason, where one of them is missing.

    Args:
        scores: reward model -> score.
        rejects: reward model -> why it has none.
        terms: reward model -> weight.
    """
    if not terms:
        return None, "no_reward: the recipe names no reward model for this domain"
    if missing := [name for name in terms if name not in scores]:
        return None, f"missing_component: {missing[0]}: {rejects.get(missing[0], 'not scored')}"
    total = sum(weight * scores[name] for name, weight in terms.items())
    return (total, "") if math.isfinite(total) else (None, f"not_finite: {total}")


def merge(
    responses: Rows,
    verdicts: Mapping[str, Mapping[str, Any]],
    rewards: Mapping[str, Mapping[str, Mapping[str, Any]]],
    reasons: Mapping[str, str],
    rule: str | Combination = "auto",
) -> pa.Table:
    """The SCORE table: a row a response, whatever became of it.

    Where the recipe combines reward models, their number is a further reward, COMBINED.
    """
    rows = []
    for r in responses:
        identity = r["response_id"]
        verdict = verdicts.get(identity)
        mine = {name: table[identity] for name, table in rewards.items() if identity in table}
        rejects = {name: row["reject"] for name, row in mine.items() if row["reject"]}
        if identity in reasons:
            rejects.setdefault("all", f"not_scored: {reasons[identity]}")
        scores = {name: row["score"] for name, row in mine.items() if row["score"] is not None}
        if isinstance(rule, Combination) and identity not in reasons:
            number, reject = combine(scores, rejects, rule.terms(r["domain"]))
            if number is None:
                rejects[COMBINED] = reject
            else:
                scores[COMBINED] = number
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
                **{c: _of_each(mine, c) for c in ("objectives", "gate")},
            }
        )
    return pa.Table.from_pylist(rows, schema=SCORE).sort_by("response_id")


def _of_each(rewards: Mapping[str, Mapping[str, Any]], column: str) -> list[tuple[str, list[float]]] | None:
    return [(name, row[column]) for name, row in rewards.items() if row.get(column)] or None
