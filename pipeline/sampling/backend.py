"""The interface of a source: what the batch worker and the REST service ask for samples."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from .messages import Generated, GenerateRequest
from .throughput import Reading


class SamplingBackend(Protocol):
    """A way to ask a source (services/llm.py hosts them, endpoint.py calls one over HTTP)."""

    def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """Yields each wanted sample once, as it finishes.

        Raises:
            EngineDiedError: what answers is gone and will be replaced; what is missing may be asked for again.
            AskFailedError: what is missing was asked for as often as it may be.
            StageError: the source can't be used at all.
        """

    async def trouble(self) -> str:
        """Why nothing may be coming, in one line; empty where nothing is known."""

    async def counters(self) -> Reading | None:
        """The engine's own counters, where it has some and answers."""
