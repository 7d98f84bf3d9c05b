"""Work over deployments that don't all fit at once: each starts when its place is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from fusechat.pipeline.errors import FusechatError


class Fleet(Protocol):
    """What the pipeline asks of the deployments (services/fleet.py; a list of names in tests)."""

    def fits(self, service: Any, keep: Sequence[str]) -> bool:
        """Whether the service fits beside `keep`."""

    def start(self, service: Any, keep: Sequence[str] = ()) -> None:
        """Starts without waiting; whatever is not in `keep` may be stopped for it.

        Raises:
            FusechatError: it doesn't fit, or can't be made.
        """

    def wait(self, name: str) -> None:
        """Returns when the service answers."""


class Named(Protocol):
    """A service, as far as turns are concerned."""

    @property
    def name(self) -> str:
        """Of its deployment."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work that needs one service."""

    service: Named
    work: Callable[[], None]


def take_turns(jobs: Sequence[Job], fleet: Fleet) -> dict[str, FusechatError]:
    """Runs every job once its service is up; as many at the same time as fit, in the order given.

    A job that fails gives its place to the next and harms no other.

    Returns:
        Service name -> error of the jobs that failed.
    """
    waiting, failed = list(jobs), dict[str, FusechatError]()
    running: dict[Future[None], str] = {}

    def run(job: Job) -> None:
        fleet.wait(job.service.name)
        job.work()

    with ThreadPoolExecutor(max_workers=max(len(jobs), 1)) as threads:
        while waiting or running:
            busy = list(running.values())
            for job in list(waiting):
                # With nothing running there is nothing to wait for: what doesn't fit now never will; start says why.
                if busy and not fleet.fits(job.service, busy):
                    continue
                waiting.remove(job)
                try:
                    fleet.start(job.service, keep=busy)
                except FusechatError as error:
                    failed[job.service.name] = error
                    continue
                running[threads.submit(run, job)] = job.service.name
                busy.append(job.service.name)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                cause = future.exception()
                if isinstance(cause, FusechatError):
                    failed[name] = cause
                elif cause is not None:
                    raise cause
    return failed
