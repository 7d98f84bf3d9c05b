"""Work over deployments that don't all fit at once: each starts when its place is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from ..errors import FusechatError
from .services import Deployable


class TaskDeployments(Protocol):
    """The part of `Deployments` that tasks need."""

    def fits(self, service: Deployable, keep: Sequence[str]) -> bool:
        """See Deployments."""

    def start(self, service: Deployable, keep: Sequence[str] = ()) -> None:
        """See Deployments."""

    def wait(self, name: str) -> None:
        """See Deployments."""

    def stop(self, names: Iterable[str], why: str) -> None:
        """See Deployments."""


@dataclass(frozen=True, slots=True)
class DeploymentTask:
    """Work that needs one service, or none."""

    name: str
    service: Deployable | None
    work: Callable[[], None]
    last: bool = False
    """Whether nobody asks the service soon after: it would keep its memory."""


def run_tasks(jobs: Sequence[DeploymentTask], deployments: TaskDeployments) -> dict[str, FusechatError]:
    """Runs every job once its service is up; as many at the same time as fit, in the order given.

    A job that fails gives its place to the next and harms no other.

    Returns:
        Name -> error of the jobs that failed.
    """
    waiting, failed = list(jobs), dict[str, FusechatError]()
    running: dict[Future[None], DeploymentTask] = {}

    def run(job: DeploymentTask) -> None:
        if job.service is not None:
            deployments.wait(job.service.name)
        job.work()

    threads = ThreadPoolExecutor(max_workers=max(len(jobs), 1))
    try:
        while waiting or running:
            busy = [job.service.name for job in running.values() if job.service is not None]
            for job in list(waiting):
                service = job.service
                # With nothing up there is nothing to wait for: what doesn't fit now never will; start says why.
                if service is not None and busy and not deployments.fits(service, busy):
                    continue
                waiting.remove(job)
                if service is not None:
                    try:
                        deployments.start(service, keep=busy)
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
                    deployments.stop([job.service.name], "done")
    except KeyboardInterrupt:  # Ctrl-C, or SIGTERM as run.preemption has it
        threads.shutdown(wait=False, cancel_futures=True)  # who must go at once waits for nobody
        raise
    except BaseException:
        threads.shutdown()
        raise
    threads.shutdown()
    return failed
