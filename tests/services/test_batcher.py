"""Batches across callers: bounded in tokens and padding, whoever asked; one caller's trouble is not another's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.services import batcher as batcher_module
from fusechat.services.batcher import WINDOW, Batcher
from fusechat.services.reward_inputs import Conversation, RewardInput, RewardScore, batches


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 2000))
def test_every_item_is_in_one_batch_within_both_bounds(lengths: list[int], max_tokens: int) -> None:
    found = list(batches(range(len(lengths)), lengths, max_tokens))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        longest, held = max(lengths[i] for i in batch), sum(lengths[i] for i in batch)
        area = longest * len(batch)
        assert area <= max_tokens or len(batch) == 1
        assert area - held <= 0.1 * area


class Counting:
    """A network whose score is a row's length; it can be held up, and fails on rows of 13 tokens."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.begun = 0
        self.go = threading.Event()
        self.go.set()

    def encode(self, conversation: Conversation) -> RewardInput | RewardScore:
        num = len(conversation)
        return RewardInput([1] * num) if num else RewardScore(reject="no_response: empty")

    def rate(self, rows: Sequence[RewardInput]) -> list[RewardScore]:
        self.begun += 1
        self.go.wait()
        lengths = [len(row.ids) for row in rows]
        self.passes.append(lengths)
        if 13 in lengths:
            raise RuntimeError("out of luck")
        return [RewardScore(reward=float(n), tokens=n) for n in lengths]


def said(*lengths: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": "x"}] * n for n in lengths]


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


def test_concurrent_callers_share_batches_and_get_their_own_scores_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "WAIT_S", 3600)  # the first row waits for the others, however long they take
    model = Counting()

    async def ask() -> tuple[Any, Batcher]:
        batcher = Batcher(model, 1000)
        asked = (batcher.score(said(*lengths)) for lengths in ((50, 10, 0, 20), (21, 51), (9,), ()))
        found = asyncio.gather(*asked)
        await until(lambda: len(batcher._waiting) == 6)
        assert model.passes == []
        batcher._enough.set()
        return await found, batcher

    found, batcher = asyncio.run(ask())
    assert [[s.reward for s in scores] for scores in found] == [[50, 10, None, 20], [21, 51], [9], []]
    assert found[0][2].reject == "no_response: empty"
    assert model.passes == [[9, 10], [20, 21], [50, 51]]
    assert (batcher.num_tokens, batcher.num_computed) == (161, 20 + 42 + 102)


def test_what_comes_during_a_pass_makes_one_batch_and_the_oldest_window_goes_first() -> None:
    model = Counting()

    async def ask() -> None:
        batcher = Batcher(model, 10)
        model.go.clear()
        first = asyncio.create_task(batcher.score(said(10)))
        await until(lambda: model.begun == 1)
        more = [asyncio.create_task(batcher.score(said(n))) for n in (10,) * WINDOW + (1,)]
        await until(lambda: len(batcher._waiting) == len(more))
        model.go.set()
        await asyncio.gather(first, *more)

    asyncio.run(ask())
    assert model.passes == [[10]] * (1 + WINDOW) + [[1]], "the short one came after a full window"


def test_a_failed_pass_is_the_callers_of_its_batch_alone() -> None:
    model = Counting()

    async def ask() -> Any:
        batcher = Batcher(model, 1000)
        found = await asyncio.gather(batcher.score(said(13, 100)), batcher.score(said(101)), return_exceptions=True)
        return found, await batcher.score(said(5))

    (bad, good), later = asyncio.run(ask())
    assert isinstance(bad, RuntimeError)
    assert (good[0].reward, later[0].reward) == (101, 5)


def test_a_caller_who_left_costs_no_pass() -> None:
    model = Counting()

    async def ask() -> None:
        batcher = Batcher(model, 10)
        model.go.clear()
        first = asyncio.create_task(batcher.score(said(4)))
        await until(lambda: model.begun == 1)
        gone = asyncio.create_task(batcher.score(said(7)))
        await until(lambda: len(batcher._waiting) == 1)
        gone.cancel()
        await asyncio.sleep(0)
        model.go.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await gone
        await batcher.score(said(3))

    asyncio.run(ask())
    assert model.passes == [[4], [3]]
