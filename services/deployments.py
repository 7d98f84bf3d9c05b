"""The deployments that are up: starts what fits, waits with a reason, gives places back."""

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


WATCH_S = 3.0
TOLD = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception): |Value error, ")
"""Begins the line of a trace that says what went wrong; pydantic puts its own words before and after that line."""


@dataclass(frozen=True, slots=True)
class Service:
    """One application that can be started."""

    name: str
    need: Need
    build: Callable[[], Application]
    """Called when the application starts, because building it imports vLLM."""
    route_prefix: str | None = None
    """Where HTTP reaches it; None if only handles do."""


def service_of(wanted: Deployable) -> Service:
    """The application of a service that the pipeline asks for.

    Raises:
        TypeError: it is of no known kind.
    """
    if isinstance(wanted, Service):
        return wanted
    if isinstance(wanted, SourceService):
        return Service(wanted.name, wanted.need, partial(_build_source, wanted))
    if isinstance(wanted, RewardService):
        return Service(wanted.name, wanted.need, partial(_build_reward, wanted))
    raise TypeError(f"no application for a {type(wanted).__name__}")


def _build_source(wanted: SourceService) -> Application:
    from .llm import build_source

    source, concurrency = wanted.source, wanted.concurrency
    return build_source(
        source.name,
        wanted.model,
        source.engine,
        source.placement.model_copy(update={"min_replicas": source.placement.replicas}),
        chat_template=wanted.chat_template,
        system=source.system,
        max_ongoing_requests=concurrency,
        # One request is a prompt with all its samples. At half of what fills one replica, another replica starts.
        target_ongoing_requests=max(1.0, concurrency / max(source.samples.values()) / 2),
    )


def _build_reward(wanted: RewardService) -> Application:
    from .reward_models import build_reward

    return build_reward(wanted.reward, wanted.model)


class ServeDeployments:
    """The applications that Ray Serve runs on one cluster; see pipeline/cluster/services.py.

    An application keeps running until its resources are needed.

    Args:
        nodes: resources of each node.
        reserved: what must stay free for the work that uses the deployments.
        say: gets one line for each start and stop.
    """

    def __init__(
        self,
        nodes: Sequence[Resources],
        reserved: Sequence[Need],
        say: Callable[[str], None],
        timeout_s: float = 900,
    ) -> None:
        self._nodes, self._reserved, self._say, self._timeout_s = list(nodes), list(reserved), say, timeout_s
        self._up: dict[str, Deployable] = {}
        # Serve's client is not thread-safe: reading a status while a deployment is built has raised out of pickling.
        self._serve = threading.Lock()
        self._ready: set[str] = set()
        self._started: dict[str, float] = {}
        self._start_s: dict[str, float] = {}

    def fits(self, service: Deployable, keep: Sequence[str]) -> bool:
        """Whether the service fits beside `keep` once all others are stopped."""
        needs = [self._up[k].need for k in keep if k in self._up and k != service.name]
        return place([*needs, service.need, *self._reserved], self._nodes)

    def start(self, service: Deployable, keep: Sequence[str] = ()) -> None:
        """Starts a service without waiting; stops the longest idle others where it needs their place.

        Raises:
            CapacityError: it doesn't fit beside `keep`.
        """
        from ray import serve
        from ray.serve.api import RunTarget

        if service.name in self._up:
            self._up[service.name] = self._up.pop(service.name)  # the longest unused comes first
            return
        if not self.fits(service, keep):
            raise CapacityError(service.name, service.need.total, describe_nodes(self._nodes), service.need.setting)
        for name in [n for n in self._up if n not in keep]:
            if place([*(s.need for s in self._up.values()), service.need, *self._reserved], self._nodes):
                break
            self.stop([name])
        self._say(f"{service.name}: starting")
        began = time.monotonic()
        with self._serve:
            application = service_of(service)
            target = RunTarget(application.build(), name=service.name, route_prefix=application.route_prefix)
            serve.run_many([target], wait_for_applications_running=False)
        self._up[service.name] = service
        self._started[service.name] = began

    def start_s(self, name: str) -> float:
        """Seconds from a service's start until it answered."""
        return self._start_s[name]

    def wait(self, name: str) -> None:
        """Returns when the service answers.

        Raises:
            StageError: it could not be started, with Serve's reason.
        """
        from ray import serve

        if name in self._ready:
            return
        began = time.monotonic()
        while True:
            with self._serve:
                app = serve.status().applications.get(name)
            status = "missing" if app is None else str(app.status.value)
            if status == "RUNNING":
                self._ready.add(name)
                self._start_s[name] = time.monotonic() - self._started.get(name, began)
                self._say(f"{name}: ready after {self._start_s[name]:.0f} s")
                return
            message = "" if app is None else _reason(app)
            if status in ("DEPLOY_FAILED", "missing"):
                raise StageError("serve", name, f"could not be started: {message}")
            if time.monotonic() - began > self._timeout_s:
                raise StageError("serve", name, f"not ready after {self._timeout_s:.0f} s: {message or status}")
            time.sleep(0.5)

    def stop(self, names: Iterable[str], why: str = "its place is needed") -> None:
        """Stops services together and waits until their places are free; nothing of those that are not up.

        Raises:
            StageError: one of them does not end.
        """
        from ray import serve

        services = [self._up.pop(name) for name in names if name in self._up]
        began = time.monotonic()
        for service in services:
            self._ready.discard(service.name)
            self._say(f"{service.name}: stopping, {why}")
            with self._serve:
                serve.delete(service.name, _blocking=False)
        while services:
            with self._serve:
                there = serve.status().applications
            for service in [s for s in services if s.name not in there]:
                services.remove(service)
                took = time.monotonic() - began
                self._say(f"{service.name}: gave back {describe_all([service.need])} in {took:.0f} s")
            if services and time.monotonic() - began > self._timeout_s:
                raise StageError("serve", services[0].name, f"not gone after {self._timeout_s:.0f} s")
            time.sleep(0.2 if services else 0)

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Says how many replicas the service has whenever that changes; services of others are not watched."""
        if name not in self._up:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(name, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, name: str, over: threading.Event) -> None:
        before = self._replicas(name)
        while not over.wait(WATCH_S):
            now = self._replicas(name)
            if now != before:
                self._say(f"{name}: {before} -> {now} replicas")
            before = now

    def _replicas(self, name: str) -> int:
        from ray import serve
        from ray.serve.schema import ReplicaState

        with self._serve:
            app = serve.status().applications.get(name)
        deployments = app.deployments.values() if app is not None else ()
        return sum(d.replica_states.get(ReplicaState.RUNNING, 0) for d in deployments)

    def make_room(self, need: Need) -> None:
        """Stops services until work of another kind fits.

        Raises:
            CapacityError: it does not fit on the empty cluster.
        """
        while not place([*(s.need for s in self._up.values()), need], self._nodes):
            if not self._up:
                raise CapacityError(need.name, need.total, describe_nodes(self._nodes), need.setting)
            self.stop([next(iter(self._up))])

    def close(self) -> None:
        """Stops what this fleet started; on a cluster that outlives the run, it would keep its place."""
        from ray import serve

        names = list(self._up)
        self._up.clear()
        self._ready.clear()
        with self._serve:
            for name in names:
                serve.delete(name, _blocking=False)


def _reason(app: object) -> str:
    """Why an application is not up, in one line."""
    messages = [str(getattr(app, "message", ""))]
    messages += [str(d.message) for d in getattr(app, "deployments", {}).values()]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if TOLD.match(line)] or [line for line in lines if "error" in line.lower()]
    return (telling or lines or [""])[-1][:500]
