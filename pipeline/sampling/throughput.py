"""What a token costs an engine in seconds. It is measured while sampling, and `fusechat plan` uses it.

The model of the time is: seconds per prefilled token x tokens prefilled + seconds per generated token x tokens
generated. Both costs are fitted by non-negative least squares on the intervals in which the engine was saturated. The
last answers of a pilot trickle in while the engine idles, and would make it look slow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TypedDict

import numpy as np

INTERVAL_S = 1.0
MIN_INTERVALS = 5


@dataclass(slots=True)
class ThroughputStats:
    """Sums over intervals, so that a run of days takes no more space than a run of a minute."""

    intervals: int = 0
    seconds: float = 0.0
    prefilled: float = 0.0
    """Prompt tokens computed, i.e. not found in the prefix cache."""
    generated: float = 0.0
    prompt: float = 0.0
    """Prompt tokens, including cached ones."""
    products: list[float] = field(default_factory=lambda: [0.0] * 5)
    """Sums of prefilled², prefilled x generated, generated², prefilled x seconds, generated x seconds."""

    def add(self, seconds: float, prefilled: float, generated: float) -> None:
        """Adds one interval in which the engine was saturated."""
        self.intervals += 1
        self.seconds += seconds
        self.prefilled += prefilled
        self.generated += generated
        products = (
            prefilled * prefilled,
            prefilled * generated,
            generated * generated,
            prefilled * seconds,
            generated * seconds,
        )
        self.products = [a + b for a, b in zip(self.products, products, strict=True)]

    def costs(self) -> tuple[float, float] | None:
        """Seconds per prefilled token and per generated token; None if too few intervals were measured."""
        from scipy.optimize import nnls

        if self.intervals < MIN_INTERVALS or not self.generated:
            return None
        pp, pg, gg, pt, gt = self.products
        normal = np.array([[pp, pg], [pg, gg]])
        if not pp or np.linalg.cond(normal) > 1e12:
            return 0.0, self.seconds / self.generated
        # Least squares from the sums alone: with normal = L L', |L'x - L^-1 b| has the same minimum.
        lower = np.linalg.cholesky(normal)
        fitted, _ = nnls(lower.T, np.linalg.solve(lower, np.array([pt, gt])))
        # The fit may leave some seconds unexplained, but a whole run takes them too.
        explained = fitted[0] * self.prefilled + fitted[1] * self.generated
        scale = self.seconds / explained if explained else 1.0
        return float(fitted[0] * scale), float(fitted[1] * scale)

    def as_json(self) -> dict[str, object]:
        """The file in the run directory."""
        return asdict(self)


class EngineCounters(TypedDict):
    """Counters of an engine since its start, in tokens."""

    replica: str
    """Which replica of the source they belong to."""
    prompt: float
    cached: float
    """Prompt tokens found in the prefix cache."""
    generation: float


class ThroughputRecorder:
    """Collects statistics from the counters of a source's engines, interval by interval and engine by engine."""

    def __init__(self) -> None:
        self.stats = ThroughputStats()
        self._last: dict[str, tuple[float, EngineCounters]] = {}

    def record(self, now: float, counters: EngineCounters, saturated: bool) -> None:
        """Takes a replica's counters at a moment.

        The interval since its last counters counts if the engine is saturated now and did not restart.
        """
        previous = self._last.get(counters["replica"])
        self._last[counters["replica"]] = (now, counters)
        if previous is None or not saturated:
            return
        then, earlier = previous
        prompt, cached, generated = (
            counters["prompt"] - earlier["prompt"],
            counters["cached"] - earlier["cached"],
            counters["generation"] - earlier["generation"],
        )
        if generated > 0 and prompt >= 0:
            self.stats.prompt += prompt
            self.stats.add(now - then, prompt - cached, generated)
