"""Samples from a source that Ray Serve hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayError

from ..errors import EngineDiedError, last_line
from .messages import Generated, GenerateRequest
from .throughput import Reading


class ServeBackend:
    """A source that Ray Serve hosts.

    Args:
        handle: of its deployment; else the application of that name is asked.
    """

    def __init__(self, app: str, handle: Any = None) -> None:
        self._app = app
        self._handle = None if handle is None else handle.options(stream=True)

    async def ask(self, request: GenerateRequest) -> AsyncIterator[Generated]:
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
        except EngineDiedError as error:  # through Ray, which puts its whole trace into the message
            raise EngineDiedError(str(getattr(error, "cause", error))) from error
        finally:
            answers.cancel()  # who asked may have left

    async def counters(self) -> Reading | None:
        """See SamplingBackend."""
        from ray import serve

        try:
            reading: Reading = await serve.get_app_handle(self._app).counters.remote()
            return reading
        except (RayError, RuntimeError):  # it is being replaced; the next reading will do
            return None

    async def trouble(self) -> str:
        """See SamplingBackend."""
        from ray import serve

        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self._app)
        if app is None:
            return "it is no longer deployed"
        said = [str(app.message), *(str(d.message) for d in app.deployments.values())]
        return last_line("\n".join(said))
