"""Work over deployments that don't all fit at once: each starts when its place is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from fusechat.pipeline.errors import FusechatError


class Fleet(Protocol):
    """What the pipeline asks of the deployments (services/deployments.py; a list of names in tests)."""

    def fits(self, service: Any, keep: Sequence[str]) -> bool:
        """Whether the service fits beside `keep`."""

    def start(self, service: Any, keep: Sequence[str] = ()) -> None:
        """Starts without waiting; whatever is not in `keep` may be stopped for it.

        Raises:
            FusechatError: it doesn't fit, or can't be made.
        """

    def wait(self, name: str) -> None:
        """Returns when the service answers."""

    def stop(self, names: Iterable[str], why: str) -> None:
        """Stops services and waits until their places are free."""


class Named(Protocol):
    """A service, as far as turns are concerned."""

    @property
    def name(self) -> str:
        """Of its deployment."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work that needs one service, or none."""

    name: str
    service: Named | None
    work: Callable[[], None]
    last: bool = False
    """Whether nobody asks the service soon after: it would keep its memory."""


def take_turns(jobs: Sequence[Job], fleet: Fleet) -> dict[str, FusechatError]:
    """Runs every job once its service is up; as many at the same time as fit, in the order given.

    A job that fails gives its place to the next and harms no other.

    Returns:
        Name -> error of the jobs that failed.
    """
    waiting, failed = list(jobs), dict[str, FusechatError]()
    running: dict[Future[None], Job] = {}

    def run(job: Job) -> None:
        if job.service is not None:
            fleet.wait(job.service.name)
        job.work()

    threads = ThreadPoolExecutor(max_workers=max(len(jobs), 1))
    try:
        while waiting or running:
            busy = [job.service.name for job in running.values() if job.service is not None]
            for job in list(waiting):
                service = job.service
                # With nothing up there is nothing to wait for: what doesn't fit now never will; start says why.
                if service is not None and busy and not fleet.fits(service, busy):
                    continue
                waiting.remove(job)
                if service is not None:
                    try:
                        fleet.start(service, keep=busy)
                    except FusechatError as error:
                        failed[job.name] = error
                        continue
                    busy.append(service.name)
                running[threads.submit(run, job)] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                cause = future.exception()
                if isinstance(cause, FusechatError):
                    failed[job.name] = cause
                elif cause is not None:
                    raise cause
                elif job.last and job.service is not None:
                    fleet.stop([job.service.name], "done")
    except KeyboardInterrupt:  # Ctrl-C, or SIGTERM as run.preemption has it
        threads.shutdown(wait=False, cancel_futures=True)  # who must go at once waits for nobody
        raise
    except BaseException:
        threads.shutdown()
        raise
    threads.shutdown()
    return failed
