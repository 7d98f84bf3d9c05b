"""State of each served model, read from Ray Serve: for `/ready`, and for requests to a model without replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from . import APP
from .error_responses import unavailable, without_paths
from .schemas import ModelState
from .serve_errors import RESTART_S

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from ray.serve.schema import DeploymentStatusOverview

CACHE_S = 1.0
"""Seconds for which Serve's status is cached."""


class ModelStates:
    """States of the sources and reward models of the service.

    Args:
        sources: deployment of each served source.
        rewards: deployment of each reward model.
        wait_for_start: whether a request to a source without replicas waits until one has started.
    """

    def __init__(
        self,
        sources: Mapping[str, DeploymentHandle],
        rewards: Mapping[str, DeploymentHandle],
        *,
        wait_for_start: bool,
    ) -> None:
        self._sources, self._rewards, self._wait_for_start = sources, rewards, wait_for_start
        self._states: dict[str, ModelState] = {}
        self._read_at = -CACHE_S
        self._lock = asyncio.Lock()

    async def get(self) -> dict[str, ModelState]:
        """Returns the state of each model by name, at most `CACHE_S` old."""
        async with self._lock:
            if time.monotonic() - self._read_at > CACHE_S:
                status = await asyncio.to_thread(serve.status)
                app = status.applications.get(APP)
                deployments = {} if app is None else app.deployments
                for name, handle in self._sources.items():
                    self._states[name] = _model_state("source", deployments.get(handle.deployment_id.name))
                for name, handle in self._rewards.items():
                    self._states[name] = _model_state("reward", deployments.get(handle.deployment_id.name))
                self._read_at = time.monotonic()
            return self._states

    async def ensure_replica(self, source: str) -> None:
        """Returns when the source may be called.

        Raises:
            RefusedError: 503 if the source has no replica and the recipe says that requests don't wait for one
                (`serve.cold: refuse`). The replica is started anyway.
        """
        if self._wait_for_start:
            return
        if not (await self.get())[source].replicas:
            asyncio.create_task(_start_replica(self._sources[source]))  # noqa: RUF006 - nothing waits for it
            raise unavailable(source, "no replica is running; one is being started", RESTART_S)


def _model_state(kind: Literal["source", "reward"], deployment: DeploymentStatusOverview | None) -> ModelState:
    from ray.serve.schema import ReplicaState

    if deployment is None:
        return ModelState(kind=kind, state="failing", replicas=0, why="it is not deployed")
    replicas = deployment.replica_states
    running = replicas.get(ReplicaState.RUNNING, 0)
    status = str(getattr(deployment.status, "value", deployment.status))
    state: Literal["ready", "starting", "scaled_to_zero", "failing"] = "starting"
    if running:
        state = "ready"
    elif status in ("UNHEALTHY", "DEPLOY_FAILED"):
        state = "failing"
    elif not sum(replicas.values()):
        state = "scaled_to_zero"
    why = without_paths(deployment.message) if state in ("starting", "failing") else ""
    return ModelState(kind=kind, state=state, replicas=running, why=why)


async def _start_replica(handle: DeploymentHandle) -> None:
    """Makes a cheap call, on which Serve starts a replica."""
    try:
        await handle.options(stream=False).counters.remote()
    except (RayActorError, RayTaskError, DeploymentUnavailableError, ReplicaUnavailableError, BackPressureError):
        return  # /ready shows the state
