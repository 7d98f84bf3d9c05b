"""A source on Ray Serve, as `/v1/sample` calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fusechat.pipeline.sampling.batch_worker import Served
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest
from fusechat.pipeline.sampling.throughput import Reading
from fusechat.services import APP
from fusechat.services.model_states import ModelStates
from fusechat.services.serve_errors import translate_serve_errors

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ServedSource:
    """A served source as `/v1/sample` calls it (see sampling/batch_worker.Asker)."""

    def __init__(self, name: str, handle: DeploymentHandle, states: ModelStates) -> None:
        self._name, self._states = name, states
        self._served = Served(APP, handle)

    async def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See Asker."""
        await self._states.ensure_replica(self._name)
        with translate_serve_errors(self._name):
            async for generated in self._served.ask(request):
                yield generated

    async def trouble(self) -> str:
        """See Asker."""
        return await self._served.trouble()

    async def counters(self) -> Reading | None:
        """See Asker."""
        return await self._served.counters()
