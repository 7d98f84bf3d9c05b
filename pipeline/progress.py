"""What a user sees while a run works: stage, rows, tokens a second, time left."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

EVERY_S = 5.0


@dataclass(slots=True)
class _Bar:
    total: int
    unit: str
    began: float
    done: int = 0
    tokens: int = 0
    printed: float = field(default=0.0)


class Progress:
    """Lines on the terminal, one a few seconds for each thing under way; thread-safe.

    Plain lines serve terminals, logs and `kubectl logs` alike, and never mix with what Ray prints.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._lock = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        elapsed = _minutes(time.monotonic() - self._began)
        self._console.print(f"[dim]{elapsed:>6}[/dim] {escape(text)}")

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
        if due:
            self.say(f"{what}: {_line(bar, now)}")

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
    left = f", {_minutes((bar.total - bar.done) * seconds / bar.done)} left" if bar.done else ""
    rate = f" {bar.tokens / seconds:.0f} tokens/s" if bar.tokens else ""
    return f"{bar.done}/{bar.total} {bar.unit}{rate}{left}"


def _minutes(seconds: float) -> str:
    """As 12:05; rounded before it is split, so that there is never a minute of 60 seconds left over."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
