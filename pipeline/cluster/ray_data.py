"""Ray Data as the pipeline uses it: small units of work, each durable before it counts as done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict, TypeVar

from ..errors import FusechatError, StageError, last_line

if TYPE_CHECKING:
    from ray.data import DataContext

T = TypeVar("T")

WORKER_CPUS = 0.05
"""CPUs of the Ray actor that runs the units. It waits for replies nearly all the time."""
FLUSH_S = 1.0
"""Seconds until a finished sample is durable."""


class UnitResult(TypedDict):
    """The result of one unit; `error` says why it failed."""

    rows: int
    tokens: int
    error: str


class ResultColumns(TypedDict):
    """`UnitResult` of several units, in columns, as Ray Data takes it."""

    rows: list[int]
    tokens: list[int]
    error: list[str]


class UnitBatch(TypedDict):
    """What Ray Data passes to a worker: a column of units."""

    unit: Sequence[str]


class UnitError(Exception):
    """A unit failed in every attempt."""


def run_units(
    worker: type,
    args: tuple[object, ...],
    units: Sequence[str],
    *,
    stage: str,
    who: str,
    concurrency: int,
    on_batch: Callable[[int, int], None],
) -> int:
    """Runs units in one Ray Data actor, `concurrency` at a time; returns the number of tokens.

    Args:
        worker: a class whose instances map {"unit": [...]} to columns of `UnitResult`.
        args: arguments of its constructor.
        on_batch: receives the rows and tokens of each unit that finishes.

    Raises:
        StageError: a unit failed. The results of other units are kept.
    """
    import ray

    if not units:
        return 0
    _hide_progress(ray.data.DataContext.get_current())
    data = ray.data.from_items([{"unit": u} for u in units], override_num_blocks=len(units))
    results = data.map_batches(
        worker,
        fn_constructor_args=args,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=1,
            max_tasks_in_flight_per_actor=2 * concurrency,
            max_concurrent_calls_per_actor=concurrency,
            # Without this Ray Data runs one call at a time, whatever the previous argument says.
            enable_true_multi_threading=True,
        ),
        num_cpus=WORKER_CPUS,
    )
    tokens, error = 0, ""
    for result in results.iter_rows():
        tokens += result["tokens"]
        error = error or result["error"]
        if result["error"]:
            break
        on_batch(result["rows"], result["tokens"])
    if error:
        raise StageError(stage, who, f"{error}; the same command again resumes")
    return tokens


def _hide_progress(context: DataContext) -> None:
    """Keeps Ray Data's messages in its log file; the terminal shows fusechat's own progress."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def run_batch(batch: UnitBatch, work: Callable[[str], UnitResult]) -> ResultColumns:
    """Runs `work` on each unit of a batch, for a worker's `__call__`. Failures become the result's `error`."""
    results = []
    for unit in batch["unit"]:
        try:
            results.append(work(unit))
        except (UnitError, FusechatError) as error:
            results.append(UnitResult(rows=0, tokens=0, error=str(error)))
    return as_columns(results)


def as_columns(results: Sequence[UnitResult]) -> ResultColumns:
    """The results of several units, as Ray Data takes them."""
    return {
        "rows": [r["rows"] for r in results],
        "tokens": [r["tokens"] for r in results],
        "error": [r["error"] for r in results],
    }


def call_with_retries(call: Callable[[], T], num: int) -> T:
    """Calls up to `num` times until the call succeeds. Ray Serve restarts dead replicas in the meantime.

    Raises:
        UnitError: every attempt failed.
    """
    from ray.exceptions import RayError

    for attempt in range(1, num + 1):
        try:
            return call()
        except (RayError, RuntimeError) as error:
            if attempt == num:
                raise UnitError(f"given up after {num} tries: {last_line(error)}") from error
            time.sleep(2.0**attempt)
    raise AssertionError("num is at least 1")
