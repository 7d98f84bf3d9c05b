"""Verdicts on math answers and code, computed with Ray Data in the verifier's worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from ..cluster.ray_data import ResultColumns, UnitBatch, UnitResult, run_batch, run_units
from ..recipe import VERIFIED_DOMAINS, Recipe, Verify
from ..records import VERDICT, PromptRow, ResponseRow, VerdictRow
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from ..verify.tasks import VERSION
from .rewards import units


class VerificationWorker:
    """Ray Data's worker: computes verdicts in sandboxed processes that can be killed."""

    def __init__(self, run: RunDir, folder: str, config: Verify) -> None:
        from ..verify import VerifierPool

        self._parts = Parts(run, folder, VERDICT, "response_id")
        self._pool = VerifierPool(config.num_workers, timeout_s=config.timeout_s, sandbox=config.sandbox)
        self._pool.__enter__()

    def __call__(self, batch: UnitBatch) -> ResultColumns:
        """Ray Data's calling convention: takes a column of units, returns columns of `UnitResult`."""
        return run_batch(batch, self._verify)

    def _verify(self, text: str) -> UnitResult:
        from ..verify import CheckTask

        tasks = [CheckTask(**item) for item in json.loads(text)]
        rows = [
            {"response_id": i, "correct": v.correct, "verdict": v.reason, "detail": v.summary}
            for i, v in self._pool.run(tasks)
        ]
        self._parts.write(0, rows)
        return UnitResult(rows=len(rows), tokens=0, error="")


def verify(
    run: RunDir,
    folder: str,
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    recipe: Recipe,
    on_batch: Callable[[int, int], None],
) -> dict[str, VerdictRow]:
    """Verdicts on all responses of the verified domains: response id -> VERDICT row.

    They depend on the time limit and on the verifier's version.
    """
    folder = f"{folder}/{recipe.score.verify.timeout_s:g}s-v{VERSION}"
    parts = Parts(run, folder, VERDICT, "response_id")
    verifiable = [r for r in responses if r["domain"] in VERIFIED_DOMAINS and not r["reject"]]
    done = parts.ids()
    items = []
    for r in verifiable:
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
    run_units(
        VerificationWorker,
        (run, folder, recipe.score.verify),
        units(items, 64),
        stage="score",
        who="verification",
        concurrency=1,
        on_batch=on_batch,
    )
    ids = {r["response_id"] for r in verifiable}
    return {row["response_id"]: row for row in parts.read().to_pylist() if row["response_id"] in ids}
