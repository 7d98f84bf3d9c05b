"""Verdicts on math answers and code, computed with Ray Data in the verifier's worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from ..cluster.ray_data import ResultColumns, UnitBatch, UnitResult, run_batch, run_units
from ..identities import digest
from ..recipe import VERIFIED_DOMAINS, Domain, Recipe, Verify
from ..records import VERDICT, PromptRow, ResponseRow, VerdictRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from ..verify.tasks import VERSION
from .rewards import units


class CheckItem(TypedDict):
    """A check as it is sent to the worker. The keys are those of CheckTask, and `response_id`."""

    response_id: str
    id: str
    domain: Domain
    response: str
    gold: str | None
    tests: str | None
    entry_point: str | None
    prompt: str


class VerificationWorker:
    """Ray Data's worker: computes verdicts in sandboxed processes that can be killed."""

    def __init__(self, run: RunDir, folder: str, config: Verify) -> None:
        from ..verify import VerifierPool

        self._parts = Parts(run, folder, VERDICT, "check_id")
        self._pool = VerifierPool(config.num_workers, timeout_s=config.timeout_s, sandbox=config.sandbox)
        self._pool.__enter__()

    def __call__(self, batch: UnitBatch) -> ResultColumns:
        """Ray Data's calling convention: takes a column of units, returns columns of `UnitResult`."""
        return run_batch(batch, self._verify)

    def _verify(self, text: str) -> UnitResult:
        from ..verify import CheckTask

        items: list[dict[str, str]] = json.loads(text)
        responses = {item["id"]: item.pop("response_id") for item in items}
        rows = [
            {
                "response_id": responses[i],
                "correct": v.correct,
                "verdict": v.reason,
                "detail": v.summary,
                "check_id": i,
            }
            for i, v in self._pool.run([CheckTask(**item) for item in items])
        ]
        self._parts.write(0, rows)
        return UnitResult(rows=len(rows), tokens=0, error="")


def check_id(response: str, prompt: PromptRow) -> str:
    """Identity of a check: the response, and everything that it is checked against."""
    return digest(response, prompt["domain"], prompt["gold"], prompt["tests"], prompt["entry_point"])


def verify(
    run: RunDir,
    folder: str,
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    recipe: Recipe,
    on_batch: Callable[[int, int], None],
    say: Callable[[str], None],
    *,
    keep_unmarked: bool = False,
) -> dict[str, VerdictRow]:
    """Verdicts on all responses to prompts of the verified domains: response id -> VERDICT row.

    A verdict is valid for the gold answer, tests, entry point and domain that it was computed with, for the time limit,
    and for the verifier's version. Verdicts of early versions do not say what they were computed with.

    Args:
        say: takes a line about verdicts that are computed again.
        keep_unmarked: uses verdicts of early versions, because the folder's name depends on gold answers and tests.
    """
    folder = f"{folder}/{recipe.score.verify.timeout_s:g}s-v{VERSION}"
    parts = Parts(run, folder, VERDICT, "check_id")
    checks = {
        r["response_id"]: check_id(r["response_id"], prompts[r["prompt_id"]])
        for r in responses
        if prompts[r["prompt_id"]]["domain"] in VERIFIED_DOMAINS and not r["reject"]
    }
    stored: list[VerdictRow] = parts.read(unique=False).to_pylist()
    done = _valid(stored, checks, keep_unmarked)
    items: list[CheckItem] = []
    for r in responses:
        if r["response_id"] in checks and r["response_id"] not in done:
            prompt = prompts[r["prompt_id"]]
            items.append(
                {
                    "response_id": r["response_id"],
                    "id": checks[r["response_id"]],
                    "domain": prompt["domain"],
                    "response": r["text"],
                    "gold": prompt["gold"],
                    "tests": prompt["tests"],
                    "entry_point": prompt["entry_point"],
                    "prompt": prompt["messages"][-1]["content"],
                }
            )
    if not items:
        return done
    again = {row["response_id"] for row in stored}
    if num := sum(item["response_id"] in again for item in items):
        say(f"verify: {num} responses again: their gold, tests, entry point or domain changed, or were not recorded")
    run_units(
        VerificationWorker,
        (run, folder, recipe.score.verify),
        units(items, 64),
        stage="score",
        who="verification",
        concurrency=1,
        on_batch=on_batch,
    )
    return _valid(parts.read(unique=False).to_pylist(), checks, keep_unmarked)


def _valid(rows: Sequence[VerdictRow], checks: Mapping[str, str], keep_unmarked: bool) -> dict[str, VerdictRow]:
    """Response id -> its verdict by the check that is asked for (`checks`: response id -> check id)."""
    found: dict[str, VerdictRow] = {}
    if keep_unmarked:
        found = {r["response_id"]: r for r in rows if r.get("check_id") is None and r["response_id"] in checks}
    return found | {r["response_id"]: r for r in rows if checks.get(r["response_id"], "") == r.get("check_id")}
