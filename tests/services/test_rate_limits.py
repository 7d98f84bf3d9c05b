"""RateLimiter on a clock that the test moves: what is admitted, what is refused and for how long, and refunds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from clocks import ManualClock

from fusechat.services.auth import Key
from fusechat.services.rate_limits import LimitError, RateLimiter


def key(name: str = "ci", **limits: Any) -> Key:
    return Key.model_validate({"name": name, "role": "sample", "sha256": "0" * 64, **limits})


def refused(limits: RateLimiter, one: Key, tokens: int = 0) -> tuple[str, int]:
    with pytest.raises(LimitError) as caught:
        limits.admit(one, tokens)
    return caught.value.reason, caught.value.retry_after_s


def test_a_key_without_limits_has_none(clock: ManualClock) -> None:
    limits = RateLimiter(clock=clock)
    for _ in range(1000):
        limits.admit(key(), 10**9).settle(10**9)


def test_a_minutes_requests_come_at_once_and_then_one_by_one(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(requests_per_minute=6)
    for _ in range(6):
        limits.admit(one, 0)
    assert refused(limits, one) == ("requests", 10)
    clock.now += 9.5
    assert refused(limits, one) == ("requests", 1)
    clock.now += 0.5
    limits.admit(one, 0)
    assert refused(limits, one) == ("requests", 10)
    clock.now += 3600  # no more than a minute's worth gathers
    for _ in range(6):
        limits.admit(one, 0)
    assert refused(limits, one) == ("requests", 10)


@pytest.mark.parametrize("per_minute", [1, 7, 10, 60, 999])
@pytest.mark.parametrize("start", [988.708, 123456.789])  # where sums of floats are a little off
def test_who_waits_as_long_as_told_is_let_in(clock: ManualClock, start: float, per_minute: int) -> None:
    limits, one = RateLimiter(clock=clock), key(requests_per_minute=per_minute)
    clock.now = start
    for _ in range(per_minute):
        limits.admit(one, 0)
    for _ in range(50):
        _, wait_s = refused(limits, one)
        assert 1 <= wait_s <= math.ceil(60 / per_minute)
        clock.now += wait_s
        limits.admit(one, 0)
        while True:  # what the rounding up left over
            try:
                limits.admit(one, 0)
            except LimitError:
                break


def test_tokens_are_settled_to_what_was_used(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(tokens_per_minute=600)
    ticket = limits.admit(one, 600)
    assert refused(limits, one, 1) == ("tokens", 1)
    ticket.settle(100)
    ticket.settle(100)  # counts once
    assert refused(limits, one, 501) == ("tokens", 1)
    limits.admit(one, 500)


def test_more_than_the_estimate_is_owed(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(tokens_per_minute=60)
    limits.admit(one, 10).settle(160)
    assert refused(limits, one) == ("tokens", 100)
    clock.now += 100
    limits.admit(one, 0)
    assert refused(limits, one, 1) == ("tokens", 1)


def test_more_than_a_minutes_worth_needs_a_full_bucket_and_is_taken_whole(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(tokens_per_minute=60)
    ticket = limits.admit(one, 300)
    assert refused(limits, one, 1) == ("tokens", 241)
    ticket.settle(70)  # gives 230 back, not more than was taken
    assert refused(limits, one, 1) == ("tokens", 11)


def test_what_is_given_back_never_fills_beyond_a_minutes_worth(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(tokens_per_minute=60)
    ticket = limits.admit(one, 60)
    clock.now += 50
    ticket.settle(0)
    limits.admit(one, 60)
    assert refused(limits, one, 1) == ("tokens", 1)


def test_a_negative_estimate_gives_nothing(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(tokens_per_minute=60)
    limits.admit(one, 60)
    limits.admit(one, -1000)
    assert refused(limits, one, 60) == ("tokens", 60)


def test_a_place_in_flight_is_given_back_once(clock: ManualClock) -> None:
    limits, one = RateLimiter(clock=clock), key(max_in_flight=2)
    first, second = limits.admit(one, 0), limits.admit(one, 0)
    assert refused(limits, one) == ("in_flight", 1)
    first.close()
    first.close()
    limits.admit(one, 0)
    assert refused(limits, one) == ("in_flight", 1)
    second.close()
    with pytest.raises(RuntimeError, match="went wrong"), limits.admit(one, 0):
        assert refused(limits, one) == ("in_flight", 1)
        raise RuntimeError("went wrong")
    limits.admit(one, 0)


def test_a_refusal_takes_nothing(clock: ManualClock) -> None:
    limits = RateLimiter(clock=clock)
    one = key(requests_per_minute=2, tokens_per_minute=60, max_in_flight=1)
    ticket = limits.admit(one, 30)
    for _ in range(10):
        assert refused(limits, one, 30)[0] == "in_flight"
    ticket.close()
    for _ in range(10):
        assert refused(limits, one, 31) == ("tokens", 1)
    limits.admit(one, 30).close()  # both buckets had just enough
    assert refused(limits, one, 1) == ("requests", 30)
    clock.now += 30
    for _ in range(10):
        assert refused(limits, one, 60) == ("tokens", 30)
    limits.admit(one, 30)


def test_the_longest_wait_is_told(clock: ManualClock) -> None:
    limits = RateLimiter(clock=clock)
    limits.admit(one := key(requests_per_minute=1, tokens_per_minute=60), 10)
    assert refused(limits, one, 60) == ("requests", 60)
    limits.admit(two := key("two", requests_per_minute=60, tokens_per_minute=1), 1)
    assert refused(limits, two, 1) == ("tokens", 60)


def test_the_limits_are_shared_among_replicas(clock: ManualClock) -> None:
    limits, one = RateLimiter(share=3, clock=clock), key(requests_per_minute=7, tokens_per_minute=60, max_in_flight=2)
    ticket = limits.admit(one, 20)
    assert refused(limits, one) == ("in_flight", 1)  # 2 // 3 would let nobody in
    ticket.close()
    assert refused(limits, one, 1) == ("tokens", 3)
    limits.admit(one, 0).close()
    assert refused(limits, one) == ("requests", 30)


def test_keys_have_limits_of_their_own_which_may_change(clock: ManualClock) -> None:
    limits = RateLimiter(clock=clock)
    limits.admit(key(requests_per_minute=1), 0)
    limits.admit(key("other", requests_per_minute=1), 0)
    assert refused(limits, key(requests_per_minute=1)) == ("requests", 60)
    assert refused(limits, key(requests_per_minute=2)) == ("requests", 30)
    limits.admit(key(), 0)
    limits.admit(key(), 0)


def test_only_keys_in_use_have_a_state(clock: ManualClock) -> None:
    limits = RateLimiter(clock=clock)
    under_way = limits.admit(key("under-way", requests_per_minute=60), 0)
    for i in range(1000):  # names that come and leave the file
        limits.admit(key(f"k{i}", requests_per_minute=60), 0).close()
        clock.now += 1
    assert set(limits._usage) == {"under-way", "k999"}
    under_way.settle(5)
    under_way.close()
    clock.now += 60
    limits.admit(key("next"), 0)
    assert set(limits._usage) == {"next"}
