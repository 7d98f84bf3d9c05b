"""How much a key may call: requests and tokens a minute, and requests in flight."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from .auth import Key

SLACK_S = 1e-6
"""Seconds that the sums of a bucket may be wrong by."""

Rate = Literal["requests", "tokens"]


class LimitError(Exception):
    """A key has used what it may; another try makes sense after `retry_after_s` seconds, at least 1."""

    def __init__(self, reason: Rate | Literal["in_flight"], wait_s: float) -> None:
        self.reason, self.retry_after_s = reason, max(1, math.ceil(wait_s - SLACK_S))
        what = "in flight" if reason == "in_flight" else f"{reason} a minute"
        super().__init__(f"the key's limit of {what} is reached; try again in {self.retry_after_s} s")


@dataclass(slots=True)
class Use:
    """What a key uses: requests under way, and when each of its buckets will be full again (monotonic seconds)."""

    in_flight: int = 0
    full_at: dict[Rate, float] = field(default_factory=dict)


class Limits:
    """What each key uses of its limits; for one event loop, not for several threads.

    Requests and tokens have a token bucket each, which holds a minute's worth and refills continuously. It is kept as
    the moment when it will be full again, as the generic cell rate algorithm does (ITU-T I.371): a limit that changes
    in the file needs no care, and a key that uses nothing needs no state.

    Args:
        share: gateway replicas that the limits are divided by (rounded down, at least 1), since each counts for itself.
        clock: monotonic seconds.
    """

    def __init__(self, share: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._uses: dict[str, Use] = {}

    def admit(self, key: Key, tokens: int) -> Ticket:
        """Lets a request in that will use about so many tokens; more than a minute's worth needs a full bucket.

        Raises:
            LimitError: it may not come in; nothing was taken.
        """
        use, now = self._use(key.name), self._clock()
        if key.max_in_flight is not None and use.in_flight >= self._part(key.max_in_flight):
            raise LimitError("in_flight", 1)
        wanted: dict[Rate, float] = {}  # seconds of refill that the request takes from each bucket
        if key.requests_per_minute is not None:
            wanted["requests"] = 60 / self._part(key.requests_per_minute)
        token_s = 0.0 if key.tokens_per_minute is None else 60 / self._part(key.tokens_per_minute)
        if token_s:
            wanted["tokens"] = max(0, tokens) * token_s
        waits = {rate: use.full_at.get(rate, now) - now - max(0.0, 60 - taken) for rate, taken in wanted.items()}
        longest = max(waits, key=waits.__getitem__, default=None)
        if longest is not None and waits[longest] > SLACK_S:
            raise LimitError(longest, waits[longest])
        for rate, taken in wanted.items():
            self._take(key.name, rate, taken)
        use.in_flight += 1
        return Ticket(self, key.name, max(0, tokens), token_s)

    def _take(self, name: str, rate: Rate, seconds: float) -> None:
        full_at, now = self._use(name).full_at, self._clock()
        full_at[rate] = max(full_at.get(rate, now), now) + seconds

    def _use(self, name: str) -> Use:
        """A key's state; a new one takes the place of those that say nothing, so that keys that left the file go."""
        if name not in self._uses:
            now = self._clock()
            self._uses = {
                n: u for n, u in self._uses.items() if u.in_flight or any(t > now for t in u.full_at.values())
            }
            self._uses[name] = Use()
        return self._uses[name]

    def _part(self, limit: int) -> int:
        return max(1, limit // self._share)


class Ticket:
    """A request that was let in; as a context manager it gives its place in flight back at the end.

    Args:
        tokens: the estimate.
        token_s: seconds of refill that one token takes; 0 where the key's tokens have no limit.
    """

    def __init__(self, limits: Limits, name: str, tokens: int, token_s: float) -> None:
        self._limits, self._name, self._tokens, self._token_s = limits, name, tokens, token_s
        self._open = True

    def settle(self, tokens_used: int) -> None:
        """Puts what was used in the place of the estimate; a bucket that owes tokens refuses until it has them."""
        self._limits._take(self._name, "tokens", (tokens_used - self._tokens) * self._token_s)
        self._tokens = tokens_used

    def close(self) -> None:
        """Gives the place in flight back, the first time that it is called."""
        if self._open:
            self._open = False
            self._limits._use(self._name).in_flight -= 1

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()
