"""Verification as a Ray Serve deployment: the pipeline's worker processes, behind one replica."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusechat.pipeline.recipe import Verify
from fusechat.pipeline.verify import CheckTask, VerifierPool

if TYPE_CHECKING:
    from ray.serve import Application


class Verifier:
    """Verdicts from killable, confined processes, which start with the first request."""

    def __init__(self, config: Verify) -> None:
        self._pool = VerifierPool(config.num_workers, timeout_s=config.timeout_s, sandbox=config.sandbox)
        self._pool.__enter__()
        self._turn = asyncio.Lock()

    async def verify(self, items: Sequence[Mapping[str, Any]], domains: Sequence[str]) -> list[dict[str, Any]]:
        """A verdict an item (`correct`, `verdict`, `detail` and what else it carries), in their order.

        Args:
            items: `response`, and `gold` or `tests` with `entry_point` (and `prompt`).
        """
        tasks = [CheckTask(id=str(i), domain=d, **item) for i, (item, d) in enumerate(zip(items, domains, strict=True))]
        async with self._turn:
            found = await asyncio.to_thread(lambda: dict(self._pool.run(tasks)))
        verdicts = [found[task.id] for task in tasks]
        kept = ("detail", "extracted", "seconds", "memory_bytes", "findings")
        return [{"correct": v.correct, "verdict": v.reason} | {k: getattr(v, k) for k in kept} for v in verdicts]


def build_verifier(config: Verify, max_queued_requests: int) -> Application:
    """The Serve application of the verifier."""
    from ray import serve

    deployment = serve.deployment(
        name="verifier",
        max_ongoing_requests=4,
        max_queued_requests=max_queued_requests,
        ray_actor_options={"num_cpus": 0},
    )(Verifier)
    return deployment.bind(config)
