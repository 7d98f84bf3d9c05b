"""What a user sees while a run works: stage, rows, tokens a second, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

EVERY_S = 5.0
TOLD = 0.1
"""Share of what is under way that must be done before the whole run's figure goes by it."""
ENOUGH = 0.05
"""Share of a run, by what was foreseen, that must be done before its pace is taken for the whole run's."""


@dataclass(slots=True)
class _Bar:
    total: int
    unit: str
    began: float
    done: int = 0
    tokens: int = 0
    printed: float = field(default=0.0)


@dataclass(slots=True)
class _Whole:
    """A run of several stages, as far as it can be foreseen."""

    expected: dict[str, float]
    """Stage that is to be done -> seconds, or another unit that is the same for all."""
    in_seconds: bool
    stage: str = ""
    began: float = 0.0
    took: dict[str, float] = field(default_factory=dict)
    """Stage that was done -> seconds."""

    def left(self, now: float, bars_left: float | None) -> float | None:
        """Seconds until the last stage's end; none while nothing tells how fast this machine is.

        Args:
            bars_left: seconds until what is under way ends, at the pace it had so far.
        """
        if self.stage not in self.expected:
            return None
        elapsed, mine = now - self.began, self.expected[self.stage]
        units, seconds = sum(self.expected[s] for s in self.took), sum(self.took.values())
        if self.in_seconds:  # what was foreseen is believed until a minute has shown otherwise
            pace = (seconds + 60) / (units + 60)
        elif units >= ENOUGH * sum(self.expected.values()):
            pace = seconds / units
        elif bars_left is not None:
            pace = (elapsed + bars_left) / mine
        else:
            return None
        later = sum(units for stage, units in self.expected.items() if stage not in (*self.took, self.stage))
        return max(bars_left or 0.0, mine * pace - elapsed) + later * pace


class Progress:
    """Lines on the terminal, one a few seconds for each thing under way; thread-safe.

    Plain lines serve terminals, logs and `kubectl logs` alike, and never mix with what Ray prints.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._lock = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        self._whole: _Whole | None = None
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        elapsed = _minutes(time.monotonic() - self._began)
        self._console.print(f"[dim]{elapsed:>6}[/dim] {escape(text)}")

    def plan(self, expected: Mapping[str, float], in_seconds: bool) -> None:
        """A run of these stages begins.

        Args:
            expected: stage -> how long it is thought to take, in seconds or in shares of any size.
        """
        self._whole = _Whole(dict(expected), in_seconds) if len(expected) > 1 else None

    def leave_out(self, stage: str) -> None:
        """A stage of the plan has nothing to do."""
        if self._whole is not None:
            self._whole.expected.pop(stage, None)

    def start(self, stage: str) -> None:
        """A stage of the plan starts."""
        if self._whole is not None:
            self._whole.stage, self._whole.began = stage, time.monotonic()

    def finish(self, stage: str) -> None:
        """It is done."""
        if self._whole is not None and self._whole.stage == stage:
            self._whole.took[stage] = time.monotonic() - self._whole.began
            self._whole.stage = ""

    def _run(self, now: float) -> str:
        """The whole run: what is done, what is left; empty where there is one stage or nothing is known yet."""
        if self._whole is None:
            return ""
        # The first rows come late, when an engine warms up, and say nothing of those that follow.
        bars = [_left(bar, now) for bar in self._bars.values() if bar.done and bar.done >= TOLD * bar.total]
        if (left := self._whole.left(now, max(bars, default=None))) is None:
            return ""
        done = sum(self._whole.took.values()) + now - self._whole.began
        return f"; run {100 * done / (done + left):.0f}%, about {_minutes(left)} left"

    def begin(self, what: str, total: int, done: int = 0, unit: str = "rows") -> None:
        """Something of `total` rows (or another unit) starts, `done` of them before now."""
        with self._lock:
            now = time.monotonic()
            self._bars[what] = _Bar(total=total - done, unit=unit, began=now, printed=now)
        already = f", {done} were done before" if done else ""
        self.say(f"{what}: {total} {unit}{already}")

    def advance(self, what: str, rows: int, tokens: int = 0) -> None:
        """Rows and tokens that were just done."""
        with self._lock:
            bar = self._bars[what]
            bar.done += rows
            bar.tokens += tokens
            now = time.monotonic()
            due = now - bar.printed >= EVERY_S
            if due:
                bar.printed = now
                whole = self._run(now)
        if due:
            self.say(f"{what}: {_line(bar, now)}{whole}")

    def end(self, what: str) -> None:
        """It is done."""
        with self._lock:
            bar = self._bars.pop(what)
        if bar.done:
            seconds = time.monotonic() - bar.began
            rate = f", {bar.tokens / seconds:.0f} tokens/s" if bar.tokens and seconds > 0 else ""
            self.say(f"{what}: {bar.done} {bar.unit} in {seconds:.0f} s{rate}")


def _line(bar: _Bar, now: float) -> str:
    seconds = max(now - bar.began, 1e-9)
    left = f", {_minutes(_left(bar, now))} left" if bar.done else ""
    rate = f" {bar.tokens / seconds:.0f} tokens/s" if bar.tokens else ""
    return f"{bar.done}/{bar.total} {bar.unit}{rate}{left}"


def _left(bar: _Bar, now: float) -> float:
    """Seconds until it ends at the pace it had so far."""
    return (bar.total - bar.done) * (now - bar.began) / bar.done


def _minutes(seconds: float) -> str:
    """As 12:05; rounded before it is split, so that there is never a minute of 60 seconds left over."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
