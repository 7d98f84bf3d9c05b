"""Starts and stops Ray Serve applications so that they fit on the cluster, and reports why a start fails."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fusechat.pipeline.cluster.placement import Need, Resources, describe_all, describe_nodes, place
from fusechat.pipeline.cluster.services import Deployable, RewardService, SourceService
from fusechat.pipeline.errors import CapacityError, StageError

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.schema import ApplicationStatusOverview


WATCH_S = 3.0
"""Seconds between two looks at the number of replicas."""
ERROR_LINE = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception): |Value error, ")
"""Start of the line of a traceback that contains the error. pydantic adds further lines before and after it."""


@dataclass(frozen=True, slots=True)
class Service:
    """An application that can be started."""

    name: str
    need: Need
    build: Callable[[], Application]
    """Builds the application. It is called only when the application starts, because it imports vLLM."""
    route_prefix: str | None = None
    """Path of its HTTP routes; None if it is called only through handles."""


def service_of(requested: Deployable) -> Service:
    """The application for a service that the pipeline requests.

    Raises:
        TypeError: there is no application for this type of service.
    """
    if isinstance(requested, Service):
        return requested
    if isinstance(requested, SourceService):
        return Service(requested.name, requested.need, partial(_build_source, requested))
    if isinstance(requested, RewardService):
        return Service(requested.name, requested.need, partial(_build_reward, requested))
    raise TypeError(f"no application for a {type(requested).__name__}")


def _build_source(service: SourceService) -> Application:
    from .llm import build_source

    source, concurrency = service.source, service.concurrency
    return build_source(
        source.name,
        service.model,
        source.engine,
        source.placement.model_copy(update={"min_replicas": source.placement.replicas}),
        chat_template=service.chat_template,
        system=source.system,
        max_ongoing_requests=concurrency,
        # A request is a prompt with all its samples. Another replica starts at half of the load that fills one replica.
        target_ongoing_requests=max(1.0, concurrency / max(source.samples.values()) / 2),
    )


def _build_reward(service: RewardService) -> Application:
    from .reward_models import build_reward

    return build_reward(service.reward, service.model)


class ServeDeployments:
    """The applications of one run on a Ray Serve cluster; implements `pipeline.cluster.services.Deployments`.

    An application keeps running until its resources are needed.

    Args:
        nodes: resources of each node.
        reserved: resources that must stay free for the work that uses the deployments.
        say: gets one line for each start and stop.
        timeout_s: limit for the start and the stop of an application.
    """

    def __init__(
        self,
        nodes: Sequence[Resources],
        reserved: Sequence[Need],
        say: Callable[[str], None],
        timeout_s: float = 900,
    ) -> None:
        self._nodes, self._reserved, self._say, self._timeout_s = list(nodes), list(reserved), say, timeout_s
        self._running: dict[str, Deployable] = {}  # the least recently used first
        # Serve's client is not thread-safe: reading a status while a deployment is pickled has raised errors.
        self._serve_lock = threading.Lock()
        self._ready: set[str] = set()
        self._started: dict[str, float] = {}
        self._start_s: dict[str, float] = {}

    def fits(self, service: Deployable, keep: Sequence[str]) -> bool:
        """Whether the service fits beside `keep` once all others are stopped."""
        needs = [self._running[k].need for k in keep if k in self._running and k != service.name]
        return place([*needs, service.need, *self._reserved], self._nodes)

    def start(self, service: Deployable, keep: Sequence[str] = ()) -> None:
        """Starts a service without waiting. To make room, stops services that are not in `keep`, the least recently
        used first.

        Raises:
            CapacityError: it doesn't fit beside `keep`.
        """
        from ray import serve
        from ray.serve.api import RunTarget

        if service.name in self._running:
            self._running[service.name] = self._running.pop(service.name)  # now the most recently used
            return
        if not self.fits(service, keep):
            raise CapacityError(service.name, service.need.total, describe_nodes(self._nodes), service.need.setting)
        for name in [n for n in self._running if n not in keep]:
            if place([*(s.need for s in self._running.values()), service.need, *self._reserved], self._nodes):
                break
            self.stop([name])
        self._say(f"{service.name}: starting")
        began = time.monotonic()
        with self._serve_lock:
            application = service_of(service)
            target = RunTarget(application.build(), name=service.name, route_prefix=application.route_prefix)
            serve.run_many([target], wait_for_applications_running=False)
        self._running[service.name] = service
        self._started[service.name] = began

    def start_s(self, name: str) -> float:
        """Seconds from a service's start until it answered."""
        return self._start_s[name]

    def wait(self, name: str) -> None:
        """Returns when the service answers.

        Raises:
            StageError: it could not be started; the message contains Serve's reason.
        """
        from ray import serve

        if name in self._ready:
            return
        began = time.monotonic()
        while True:
            with self._serve_lock:
                app = serve.status().applications.get(name)
            status = "missing" if app is None else str(app.status.value)
            if status == "RUNNING":
                self._ready.add(name)
                self._start_s[name] = time.monotonic() - self._started.get(name, began)
                self._say(f"{name}: ready after {self._start_s[name]:.0f} s")
                return
            message = "" if app is None else failure_reason(app)
            if status in ("DEPLOY_FAILED", "missing"):
                raise StageError("serve", name, f"could not be started: {message}")
            if time.monotonic() - began > self._timeout_s:
                raise StageError("serve", name, f"not ready after {self._timeout_s:.0f} s: {message or status}")
            time.sleep(0.5)

    def stop(self, names: Iterable[str], why: str = "its resources are needed") -> None:
        """Stops services together and waits until their resources are free. Ignores services that are not running.

        Raises:
            StageError: one of them does not stop in time.
        """
        from ray import serve

        services = [self._running.pop(name) for name in names if name in self._running]
        began = time.monotonic()
        for service in services:
            self._ready.discard(service.name)
            self._say(f"{service.name}: stopping, {why}")
            with self._serve_lock:
                serve.delete(service.name, _blocking=False)
        while services:
            with self._serve_lock:
                remaining = serve.status().applications
            for service in [s for s in services if s.name not in remaining]:
                services.remove(service)
                seconds = time.monotonic() - began
                self._say(f"{service.name}: released {describe_all([service.need])} in {seconds:.0f} s")
            if services and time.monotonic() - began > self._timeout_s:
                raise StageError("serve", services[0].name, f"did not stop within {self._timeout_s:.0f} s")
            time.sleep(0.2 if services else 0)

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Reports each change in the service's number of replicas. Ignores services that this did not start."""
        if name not in self._running:
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(name, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, name: str, done: threading.Event) -> None:
        before = self._replicas(name)
        while not done.wait(WATCH_S):
            now = self._replicas(name)
            if now != before:
                self._say(f"{name}: {before} -> {now} replicas")
            before = now

    def _replicas(self, name: str) -> int:
        from ray import serve
        from ray.serve.schema import ReplicaState

        with self._serve_lock:
            app = serve.status().applications.get(name)
        deployments = app.deployments.values() if app is not None else ()
        return sum(d.replica_states.get(ReplicaState.RUNNING, 0) for d in deployments)

    def make_room(self, need: Need) -> None:
        """Stops services until other work fits, the least recently used first.

        Raises:
            CapacityError: it does not fit on the empty cluster.
        """
        while not place([*(s.need for s in self._running.values()), need], self._nodes):
            if not self._running:
                raise CapacityError(need.name, need.total, describe_nodes(self._nodes), need.setting)
            self.stop([next(iter(self._running))])

    def close(self) -> None:
        """Stops everything that was started. On a cluster that outlives the run, it would keep its resources."""
        from ray import serve

        names = list(self._running)
        self._running.clear()
        self._ready.clear()
        with self._serve_lock:
            for name in names:
                serve.delete(name, _blocking=False)


def failure_reason(app: ApplicationStatusOverview) -> str:
    """Why an application does not run, in one line."""
    messages = [str(app.message), *(str(d.message) for d in app.deployments.values())]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)] or [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1][:500]
