"""Limits of an API key: requests and tokens per minute, and requests in flight."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from .auth import Key

SLACK_S = 1e-6
"""Rounding error in seconds that sums of floats may have."""

Rate = Literal["requests", "tokens"]


class LimitError(Exception):
    """A limit of the key is reached. Another try may succeed after `retry_after_s` seconds, at least 1."""

    def __init__(self, reason: Rate | Literal["in_flight"], wait_s: float) -> None:
        self.reason, self.retry_after_s = reason, max(1, math.ceil(wait_s - SLACK_S))
        what = "in flight" if reason == "in_flight" else f"{reason} a minute"
        super().__init__(f"the key's limit of {what} is reached; try again in {self.retry_after_s} s")


@dataclass(slots=True)
class KeyUsage:
    """What a key uses: requests in flight, and when each of its buckets will be full again (monotonic seconds)."""

    in_flight: int = 0
    full_at: dict[Rate, float] = field(default_factory=dict)


class RateLimiter:
    """Enforces the limits of every key. For one event loop, not thread-safe.

    Requests and tokens have one token bucket each, which holds a minute's worth and refills continuously. Each bucket
    is stored as the time when it will be full again, as in the generic cell rate algorithm (ITU-T I.371). So a limit
    that changes in the key file needs no conversion, and a key that uses nothing needs no state.

    Args:
        share: gateway replicas. Each enforces its share of the limits (rounded down, at least 1) on its own.
        clock: returns monotonic seconds.
    """

    def __init__(self, share: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._usage: dict[str, KeyUsage] = {}

    def admit(self, key: Key, tokens: int) -> Ticket:
        """Admits a request that will use about `tokens` tokens. More than a minute's worth needs a full bucket.

        Raises:
            LimitError: the request is refused. Nothing is charged.
        """
        usage, now = self._usage_of(key.name), self._clock()
        if key.max_in_flight is not None and usage.in_flight >= self._share_of(key.max_in_flight):
            raise LimitError("in_flight", 1)
        charges: dict[Rate, float] = {}  # seconds of refill that the request takes from each bucket
        if key.requests_per_minute is not None:
            charges["requests"] = 60 / self._share_of(key.requests_per_minute)
        token_s = 0.0 if key.tokens_per_minute is None else 60 / self._share_of(key.tokens_per_minute)
        if token_s:
            charges["tokens"] = max(0, tokens) * token_s
        waits = {rate: usage.full_at.get(rate, now) - now - max(0.0, 60 - charge) for rate, charge in charges.items()}
        longest = max(waits, key=waits.__getitem__, default=None)
        if longest is not None and waits[longest] > SLACK_S:
            raise LimitError(longest, waits[longest])
        for rate, charge in charges.items():
            self._charge(key.name, rate, charge)
        usage.in_flight += 1
        return Ticket(self, key.name, max(0, tokens), token_s)

    def _charge(self, name: str, rate: Rate, seconds: float) -> None:
        full_at, now = self._usage_of(name).full_at, self._clock()
        full_at[rate] = max(full_at.get(rate, now), now) + seconds

    def _usage_of(self, name: str) -> KeyUsage:
        """Returns a key's state. Creating one drops idle states, so keys removed from the file don't accumulate."""
        if name not in self._usage:
            now = self._clock()
            self._usage = {
                n: u for n, u in self._usage.items() if u.in_flight or any(t > now for t in u.full_at.values())
            }
            self._usage[name] = KeyUsage()
        return self._usage[name]

    def _share_of(self, limit: int) -> int:
        return max(1, limit // self._share)


class Ticket:
    """An admitted request. As a context manager it closes itself at the end.

    Args:
        tokens: the estimate that was charged.
        token_s: seconds of refill that one token takes; 0 if the key's tokens are not limited.
    """

    def __init__(self, limiter: RateLimiter, name: str, tokens: int, token_s: float) -> None:
        self._limiter, self._name, self._tokens, self._token_s = limiter, name, tokens, token_s
        self._open = True

    def settle(self, tokens_used: int) -> None:
        """Replaces the estimate by the actual use. A bucket in debt refuses requests until it has refilled."""
        self._limiter._charge(self._name, "tokens", (tokens_used - self._tokens) * self._token_s)
        self._tokens = tokens_used

    def close(self) -> None:
        """Ends the request in flight. Further calls have no effect."""
        if self._open:
            self._open = False
            self._limiter._usage_of(self._name).in_flight -= 1

    def __enter__(self) -> Self:
        """Returns the ticket."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the ticket."""
        self.close()
