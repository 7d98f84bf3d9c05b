"""What an engine needs for a token: measured while sampling, for `fusechat plan` to reckon with.

Time is taken to be prefill seconds a token times tokens prefilled plus decode seconds a token times tokens generated.
Both are fitted (non-negative least squares) on intervals in which the engine had as much to do as it may have; a
pilot's last answers, which trickle in while the engine idles, would make it look slow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TypedDict

import numpy as np

INTERVAL_S = 1.0
MIN_INTERVALS = 5


@dataclass(slots=True)
class Meter:
    """Sums over intervals, so that a run of days takes no more room than a minute's."""

    intervals: int = 0
    seconds: float = 0.0
    prefilled: float = 0.0
    """Prompt tokens computed, i.e. not found in the prefix cache."""
    generated: float = 0.0
    prompt: float = 0.0
    """Prompt tokens, cached ones too."""
    products: list[float] = field(default_factory=lambda: [0.0] * 5)
    """Sums of prefilled², prefilled x generated, generated², prefilled x seconds, generated x seconds."""

    def add(self, seconds: float, prefilled: float, generated: float) -> None:
        """One interval in which the engine was full."""
        self.intervals += 1
        self.seconds += seconds
        self.prefilled += prefilled
        self.generated += generated
        more = (
            prefilled * prefilled,
            prefilled * generated,
            generated * generated,
            prefilled * seconds,
            generated * seconds,
        )
        self.products = [a + b for a, b in zip(self.products, more, strict=True)]

    def costs(self) -> tuple[float, float] | None:
        """Seconds a prefilled and a generated token; none where too little was seen."""
        from scipy.optimize import nnls

        if self.intervals < MIN_INTERVALS or not self.generated:
            return None
        pp, pg, gg, pt, gt = self.products
        normal = np.array([[pp, pg], [pg, gg]])
        if not pp or np.linalg.cond(normal) > 1e12:
            return 0.0, self.seconds / self.generated
        # Least squares from the sums alone: with normal = L L', |L'x - L^-1 b| has the same minimum.
        lower = np.linalg.cholesky(normal)
        found, _ = nnls(lower.T, np.linalg.solve(lower, np.array([pt, gt])))
        # The fit may leave some seconds unexplained; a whole run has to spend them too.
        explained = found[0] * self.prefilled + found[1] * self.generated
        scale = self.seconds / explained if explained else 1.0
        return float(found[0] * scale), float(found[1] * scale)

    def as_json(self) -> dict[str, object]:
        """For the run directory."""
        return asdict(self)


class Reading(TypedDict):
    """Counters of an engine since its start, in tokens."""

    replica: str
    """Which engine they are of, where a source has several."""
    prompt: float
    cached: float
    """Of `prompt`, those found in the prefix cache."""
    generation: float


class Watch:
    """Feeds a meter with the counters of a source's engines, an interval of one of them at a time."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._last: dict[str, tuple[float, Reading]] = {}

    def read(self, now: float, reading: Reading, full: bool) -> None:
        """A reading at a moment; an interval counts when the engine was full at its end and it did not restart."""
        before = self._last.get(reading["replica"])
        self._last[reading["replica"]] = (now, reading)
        if before is None or not full:
            return
        then, earlier = before
        prompt, cached, generated = (
            reading["prompt"] - earlier["prompt"],
            reading["cached"] - earlier["cached"],
            reading["generation"] - earlier["generation"],
        )
        if generated > 0 and prompt >= 0:
            self.meter.prompt += prompt
            self.meter.add(now - then, prompt - cached, generated)
