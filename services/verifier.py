"""Verification as a Ray Serve deployment: one replica runs the pipeline's worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from fusechat.pipeline.recipe import Verify
from fusechat.pipeline.verify import CheckTask, VerifierPool

if TYPE_CHECKING:
    from ray.serve import Application


class VerifierItem(TypedDict):
    """One response to verify: see pipeline/verify/pool.CheckTask."""

    response: str
    gold: str | None
    tests: str | None
    entry_point: str | None
    prompt: str


class VerifierVerdict(TypedDict):
    """One verdict: see schemas.VerifyResult."""

    correct: bool | None
    verdict: str
    detail: str
    extracted: str
    seconds: float
    memory_bytes: int
    findings: list[str]


class VerifierServer:
    """Verifies responses in killable, sandboxed processes. They start with the first request."""

    def __init__(self, config: Verify) -> None:
        self._pool = VerifierPool(config.num_workers, timeout_s=config.timeout_s, sandbox=config.sandbox)
        self._pool.__enter__()
        self._lock = asyncio.Lock()

    async def verify(self, items: Sequence[VerifierItem], domains: Sequence[str]) -> list[VerifierVerdict]:
        """Returns one verdict per item, in order.

        Args:
            domains: `math` or `code` for each item.
        """
        tasks = [CheckTask(id=str(i), domain=d, **item) for i, (item, d) in enumerate(zip(items, domains, strict=True))]
        async with self._lock:
            by_id = await asyncio.to_thread(lambda: dict(self._pool.run(tasks)))
        verdicts = [by_id[task.id] for task in tasks]
        return [
            VerifierVerdict(
                correct=v.correct,
                verdict=v.reason,
                detail=v.detail,
                extracted=v.extracted,
                seconds=v.seconds,
                memory_bytes=v.memory_bytes,
                findings=list(v.findings),
            )
            for v in verdicts
        ]


def build_verifier(config: Verify, max_queued_requests: int) -> Application:
    """Builds the verifier's Serve application."""
    from ray import serve

    deployment = serve.deployment(
        name="verifier",
        max_ongoing_requests=4,
        max_queued_requests=max_queued_requests,
        ray_actor_options={"num_cpus": 0},
    )(VerifierServer)
    return deployment.bind(config)
