"""Ray Data as the pipeline uses it: small units of work, each durable before it counts as done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from ..errors import FusechatError, StageError, last_line

T = TypeVar("T")

WORKER_CPUS = 0.05
"""CPUs of the Ray actor that drives one flow; it waits for replies nearly all the time."""


FLUSH_S = 1.0
"""Seconds until a finished sample is durable."""


class Done(TypedDict):
    """What came of one unit; `error` says why nothing did."""

    rows: int
    tokens: int
    error: str


class DoneColumns(TypedDict):
    """`Done` of several units, in columns, as Ray Data takes it."""

    rows: list[int]
    tokens: list[int]
    error: list[str]


class UnitBatch(TypedDict):
    """What Ray Data hands to a worker: a column of units."""

    unit: Sequence[str]


class UnitError(Exception):
    """A unit that failed as often as it may."""


def drive(
    worker: type,
    args: tuple[object, ...],
    units: Sequence[str],
    *,
    stage: str,
    who: str,
    concurrency: int,
    on_batch: Callable[[int, int], None],
) -> int:
    """Runs units through one Ray Data actor, `concurrency` at a time; returns the tokens that they took.

    Args:
        worker: a class whose instances map {"unit": [...]} to columns of `Done`.
        args: of its constructor.
        on_batch: gets rows and tokens of each unit as it ends.

    Raises:
        StageError: a unit failed; what other units brought is kept.
    """
    import ray

    if not units:
        return 0
    _quiet(ray.data.DataContext.get_current())
    data = ray.data.from_items([{"unit": u} for u in units], override_num_blocks=len(units))
    results = data.map_batches(
        worker,
        fn_constructor_args=args,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=1,
            max_tasks_in_flight_per_actor=2 * concurrency,
            max_concurrent_calls_per_actor=concurrency,
            # Without it Ray Data runs one call at a time, whatever the line above says.
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


def _quiet(context: Any) -> None:
    """Our own progress stands on the terminal; Ray Data keeps its messages in its log file."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def each(batch: UnitBatch, work: Callable[[str], Done]) -> DoneColumns:
    """A worker's `__call__`: each unit of the batch, an error where it failed for good."""
    results = []
    for unit in batch["unit"]:
        try:
            results.append(work(unit))
        except (UnitError, FusechatError) as error:
            results.append(Done(rows=0, tokens=0, error=str(error)))
    return columns(results)


def columns(results: Sequence[Done]) -> DoneColumns:
    """What came of the units, as Ray Data takes it."""
    return {
        "rows": [r["rows"] for r in results],
        "tokens": [r["tokens"] for r in results],
        "error": [r["error"] for r in results],
    }


def attempts(call: Callable[[], T], num: int) -> T:
    """Calls until it works: a replica that died is restarted by Ray Serve meanwhile.

    Raises:
        UnitError: it failed `num` times.
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
