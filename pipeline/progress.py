"""What a user sees while a run works: stage, rows, tokens per second, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

EVERY_S = 5.0
MIN_TASK_SHARE = 0.1
"""Share of a task that must be done before its pace counts in the estimate for the whole run."""
MIN_RUN_SHARE = 0.05
"""Share of a run's expected work that must be done before its pace is used for the rest of the run."""


@dataclass(slots=True)
class _Bar:
    total: int
    unit: str
    began: float
    done: int = 0
    tokens: int = 0
    printed: float = field(default=0.0)


@dataclass(slots=True)
class _RunEstimate:
    """Time estimate of a run of several stages."""

    expected: dict[str, float]
    """Stage to run -> seconds, or any other unit that is the same for all stages."""
    in_seconds: bool
    stage: str = ""
    began: float = 0.0
    took: dict[str, float] = field(default_factory=dict)
    """Finished stage -> seconds."""

    def left(self, now: float, tasks_left: float | None) -> float | None:
        """Seconds until the last stage ends; None while the speed of this machine is unknown.

        Args:
            tasks_left: seconds until the current tasks end, at their pace so far.
        """
        if self.stage not in self.expected:
            return None
        elapsed, stage_units = now - self.began, self.expected[self.stage]
        units, seconds = sum(self.expected[s] for s in self.took), sum(self.took.values())
        if self.in_seconds:  # the expected pace counts as much as a minute of measured work
            pace = (seconds + 60) / (units + 60)
        elif units >= MIN_RUN_SHARE * sum(self.expected.values()):
            pace = seconds / units
        elif tasks_left is not None:
            pace = (elapsed + tasks_left) / stage_units
        else:
            return None
        later_units = sum(units for stage, units in self.expected.items() if stage not in (*self.took, self.stage))
        return max(tasks_left or 0.0, stage_units * pace - elapsed) + later_units * pace


class Progress:
    """Lines on the terminal, one every few seconds for each task; thread-safe.

    Plain lines work on terminals, in logs and in `kubectl logs`, and do not mix with what Ray prints.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._lock = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        self._estimate: _RunEstimate | None = None
        self._began = time.monotonic()

    def log(self, text: str) -> None:
        """Prints one line."""
        elapsed = _minutes(time.monotonic() - self._began)
        self._console.print(f"[dim]{elapsed:>6}[/dim] {escape(text)}")

    def plan_stages(self, expected: Mapping[str, float], in_seconds: bool) -> None:
        """A run of these stages begins.

        Args:
            expected: stage -> expected time, in seconds or in any unit that is the same for all stages.
        """
        self._estimate = _RunEstimate(dict(expected), in_seconds) if len(expected) > 1 else None

    def skip_stage(self, stage: str) -> None:
        """A planned stage has nothing to do."""
        if self._estimate is not None:
            self._estimate.expected.pop(stage, None)

    def start_stage(self, stage: str) -> None:
        """A planned stage starts."""
        if self._estimate is not None:
            self._estimate.stage, self._estimate.began = stage, time.monotonic()

    def finish_stage(self, stage: str) -> None:
        """A planned stage is done."""
        if self._estimate is not None and self._estimate.stage == stage:
            self._estimate.took[stage] = time.monotonic() - self._estimate.began
            self._estimate.stage = ""

    def _run_progress(self, now: float) -> str:
        """Share done and time left of the whole run; empty for a single stage or while nothing is known."""
        if self._estimate is None:
            return ""
        # The first rows are slow, because the engine warms up; they don't show the pace of the rows that follow.
        tasks = [_left(bar, now) for bar in self._bars.values() if bar.done and bar.done >= MIN_TASK_SHARE * bar.total]
        if (left := self._estimate.left(now, max(tasks, default=None))) is None:
            return ""
        done = sum(self._estimate.took.values()) + now - self._estimate.began
        return f"; run {100 * done / (done + left):.0f}%, about {_minutes(left)} left"

    def begin(self, what: str, total: int, done: int = 0, unit: str = "rows") -> None:
        """A task of `total` rows (or another unit) starts. `done` of them were done before."""
        with self._lock:
            now = time.monotonic()
            self._bars[what] = _Bar(total=total - done, unit=unit, began=now, printed=now)
        already = f", {done} were done before" if done else ""
        self.log(f"{what}: {total} {unit}{already}")

    def advance(self, what: str, rows: int, tokens: int = 0) -> None:
        """Adds rows and tokens that were just done."""
        with self._lock:
            bar = self._bars[what]
            bar.done += rows
            bar.tokens += tokens
            now = time.monotonic()
            due = now - bar.printed >= EVERY_S
            if due:
                bar.printed = now
                run_progress = self._run_progress(now)
        if due:
            self.log(f"{what}: {_line(bar, now)}{run_progress}")

    def end(self, what: str) -> None:
        """A task is done."""
        with self._lock:
            bar = self._bars.pop(what)
        if bar.done:
            seconds = time.monotonic() - bar.began
            rate = f", {bar.tokens / seconds:.0f} tokens/s" if bar.tokens and seconds > 0 else ""
            self.log(f"{what}: {bar.done} {bar.unit} in {seconds:.0f} s{rate}")


def _line(bar: _Bar, now: float) -> str:
    seconds = max(now - bar.began, 1e-9)
    left = f", {_minutes(_left(bar, now))} left" if bar.done else ""
    rate = f" {bar.tokens / seconds:.0f} tokens/s" if bar.tokens else ""
    return f"{bar.done}/{bar.total} {bar.unit}{rate}{left}"


def _left(bar: _Bar, now: float) -> float:
    """Seconds until the task ends, at its pace so far."""
    return (bar.total - bar.done) * (now - bar.began) / bar.done


def _minutes(seconds: float) -> str:
    """Minutes and seconds, e.g. 12:05. Rounds before splitting, so that the seconds are never 60."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
