"""Runs tasks whose deployments don't all fit at once. Each deployment starts when its resources are free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from ..errors import FusechatError
from .services import Deployable, TaskDeployments


@dataclass(frozen=True, slots=True)
class DeploymentTask:
    """Work that needs one service or none."""

    name: str
    service: Deployable | None
    work: Callable[[], None]
    last: bool = False
    """Whether no task needs the service soon after. It is then stopped, because it would keep its memory."""


def run_tasks(tasks: Sequence[DeploymentTask], deployments: TaskDeployments) -> dict[str, FusechatError]:
    """Runs every task once its service is ready; in the given order, as many at the same time as fit.

    A failed task does not affect the others. Its resources become free for the next one.

    Returns:
        Name -> error of the tasks that failed.
    """
    waiting, failed = list(tasks), dict[str, FusechatError]()
    running: dict[Future[None], DeploymentTask] = {}

    def run(task: DeploymentTask) -> None:
        if task.service is not None:
            deployments.wait(task.service.name)
        task.work()

    threads = ThreadPoolExecutor(max_workers=max(len(tasks), 1))
    try:
        while waiting or running:
            busy = [task.service.name for task in running.values() if task.service is not None]
            for task in list(waiting):
                service = task.service
                # If no service is busy, none will become free: what does not fit now never will. `start` says why.
                if service is not None and busy and not deployments.fits(service, busy):
                    continue
                waiting.remove(task)
                if service is not None:
                    try:
                        deployments.start(service, keep=busy)
                    except FusechatError as error:
                        failed[task.name] = error
                        continue
                    busy.append(service.name)
                running[threads.submit(run, task)] = task
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                cause = future.exception()
                if isinstance(cause, FusechatError):
                    failed[task.name] = cause
                elif cause is not None:
                    raise cause
                elif task.last and task.service is not None:
                    deployments.stop([task.service.name], "done")
    except KeyboardInterrupt:  # Ctrl-C, or SIGTERM (see preemption)
        threads.shutdown(wait=False, cancel_futures=True)  # the process must end at once, so it waits for no task
        raise
    except BaseException:
        threads.shutdown()
        raise
    threads.shutdown()
    return failed
