"""Samples from a source that Ray Serve hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ray.exceptions import RayError

from ..errors import EngineDiedError, last_line
from .messages import Generated, GenerateRequest
from .throughput import EngineCounters

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ServeBackend:
    """A source that Ray Serve hosts.

    Args:
        app: name of its application.
        handle: handle of its deployment; by default the handle of the application.
    """

    def __init__(self, app: str, handle: DeploymentHandle | None = None) -> None:
        self._app = app
        self._handle = None if handle is None else handle.options(stream=True)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See SamplingBackend."""
        from ray import serve
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

        if self._handle is None:
            self._handle = serve.get_app_handle(self._app).options(stream=True)
        gone = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)
        answers = self._handle.generate.remote(request)
        try:
            async for generated in answers:
                yield generated
        except gone as error:
            raise EngineDiedError(last_line(error)) from error
        except EngineDiedError as error:  # raised in the replica; Ray adds the whole trace to its message
            raise EngineDiedError(str(getattr(error, "cause", error))) from error
        finally:
            answers.cancel()  # the caller may have left

    async def counters(self) -> EngineCounters | None:
        """See SamplingBackend."""
        from ray import serve

        try:
            counters: EngineCounters = await serve.get_app_handle(self._app).counters.remote()
            return counters
        except (RayError, RuntimeError):  # the replica is being replaced; the next call will do
            return None

    async def failure_reason(self) -> str:
        """See SamplingBackend."""
        from ray import serve

        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self._app)
        if app is None:
            return "it is no longer deployed"
        messages = [str(app.message), *(str(d.message) for d in app.deployments.values())]
        return last_line("\n".join(messages))
