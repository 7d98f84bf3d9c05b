"""The interface of a source: how the batch worker and the REST service request samples."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from .messages import Generated, GenerateRequest
from .throughput import EngineCounters


class SamplingBackend(Protocol):
    """A way to sample from a source: serve_backend calls Ray Serve, openai_backend calls an endpoint over HTTP."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """Yields each requested sample once, as it finishes.

        Raises:
            EngineDiedError: the engine is gone and will be replaced. The missing samples may be requested again.
            RequestFailedError: the missing samples failed as often as they may.
            StageError: the source can't be used at all.
        """

    async def failure_reason(self) -> str:
        """Why the source may not be answering, in one line; empty if nothing is known."""

    async def counters(self) -> EngineCounters | None:
        """The engine's counters, or None if it has none or does not answer."""
