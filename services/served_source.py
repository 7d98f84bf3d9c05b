"""A source on Ray Serve, as `/v1/sample` calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fusechat.pipeline.sampling.messages import Generated, GenerateRequest
from fusechat.pipeline.sampling.serve_backend import ServeBackend
from fusechat.pipeline.sampling.throughput import EngineCounters

from . import APP
from .model_states import ModelStates
from .serve_errors import translate_serve_errors

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ServedSource:
    """A served source as `/v1/sample` calls it (see sampling/batch_worker.SamplingBackend)."""

    def __init__(self, name: str, handle: DeploymentHandle, states: ModelStates) -> None:
        self._name, self._states = name, states
        self._served = ServeBackend(APP, handle)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See SamplingBackend."""
        await self._states.ensure_replica(self._name)
        with translate_serve_errors(self._name):
            async for generated in self._served.generate(request):
                yield generated

    async def failure_reason(self) -> str:
        """See SamplingBackend."""
        return await self._served.failure_reason()

    async def counters(self) -> EngineCounters | None:
        """See SamplingBackend."""
        return await self._served.counters()
