"""The batch worker: every sample once, whatever dies; a bad prompt is rejected, a bad source is given up."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clocks
import pyarrow as pa
import pytest
from example_rows import make_generated, prompt_row

from fusechat.pipeline.errors import EngineDiedError, RunDirectoryError, StageError
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import Sample, Source
from fusechat.pipeline.records import PROMPT, RESPONSE
from fusechat.pipeline.sampling import batch_worker, retry
from fusechat.pipeline.sampling.batch_worker import BatchWorker, ResponseWriter
from fusechat.pipeline.sampling.concurrency import ConcurrencyLimit
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest
from fusechat.pipeline.sampling.plan import plan, requests, wanted_ids
from fusechat.pipeline.sampling.retry import MAX_DEATHS_ALONE, MAX_SHARED_DEATHS, RetryingClient
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir


@dataclass
class Engine:
    """A stand-in for vLLM: answers after a moment, and dies with all requests in flight at a poisonous prompt."""

    poison: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    dies_at: frozenset[int] = frozenset()
    broken: str = ""
    seconds: float = 0.002
    asked: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    deaths: int = 0
    now: int = 0
    most: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    def die(self) -> EngineDiedError:
        self.deaths += 1
        self.dead.set()
        self.dead = asyncio.Event()
        return EngineDiedError("the engine's process is gone")

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        text, left = request["messages"][0]["content"], len(request["samples"])
        self.asked.append(text)
        self.now += left
        self.most = max(self.most, self.now)
        dead = self.dead
        try:
            if self.broken == "dies":
                await asyncio.sleep(self.seconds)
                raise self.die()
            if self.broken == "fails" or text in self.refused:
                raise RuntimeError("worker trace\nCUDA error: unspecified launch failure")
            if self.broken == "hangs":
                await asyncio.Event().wait()
            if text in self.poison:
                await asyncio.sleep(self.seconds / 2)
                raise self.die()
            for sample in request["samples"]:
                try:
                    await asyncio.wait_for(dead.wait(), 0.5 if text in self.slow else self.seconds)
                except TimeoutError:
                    pass
                else:
                    raise EngineDiedError("the engine's process is gone")
                self.finished.append(sample["response_id"])
                if len(self.finished) in self.dies_at:
                    raise self.die()
                self.now -= 1
                left -= 1
                yield make_generated(sample["response_id"], f"echo of {text}")
        finally:
            self.now -= left

    async def failure_reason(self) -> str:
        return "it sleeps"

    async def counters(self) -> None:
        return None


def asked(samples: int = 3) -> PinnedSource:
    source = Source.model_validate({"name": "a", "model": {"path": "a"}, "samples": {"math": samples}})
    return PinnedSource(source=source, revision="r", template="model/keep", seed=0)


def prompts(num: int) -> pa.Table:
    rows = [prompt_row(i, f"q{i}", "math") for i in range(num)]
    return pa.Table.from_pylist(rows, schema=PROMPT).sort_by("prompt_id")


def pumped(engine: Engine, num: int, concurrency: int = 12, samples: int = 3) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []

    async def main() -> None:
        pump = RetryingClient("a", engine, concurrency, 2, kept.append)
        await pump.run_all(requests(asked(samples), prompts(num), set()))

    clocks.run(main, batch_worker, retry)
    return kept


def test_every_sample_comes_once_and_no_more_are_in_flight_than_allowed() -> None:
    engine = Engine()
    kept = pumped(engine, 40, concurrency=10)
    assert sorted(r["response_id"] for r in kept) == sorted(wanted_ids([asked()], prompts(40)))
    assert engine.most <= 10
    assert engine.most >= 9  # and the engine is kept busy
    assert len(engine.asked) == 40  # all samples of a prompt in one request


def test_a_prompt_of_more_samples_than_slots_runs_by_itself() -> None:
    engine = Engine()
    assert len(pumped(engine, 3, concurrency=2)) == 9
    assert engine.most == 3


def test_one_slow_prompt_holds_nobody() -> None:
    engine = Engine(slow=frozenset({"q0"}), seconds=0.001)
    pumped(engine, 60, concurrency=6, samples=1)
    rows = [r for _, found in requests(asked(1), prompts(60), set()) for r in found]
    assert engine.finished[-1] == next(r["response_id"] for r in rows if _text(r) == "q0")


def _text(row: dict[str, Any]) -> str:
    table = prompts(60)
    place = table.column("prompt_id").to_pylist().index(row["prompt_id"])
    return str(table.column("messages")[place].as_py()[0]["content"])


def test_an_engine_that_dies_loses_nothing_and_no_finished_sample_is_asked_for_again() -> None:
    engine = Engine(dies_at=frozenset({20, 50}))
    kept = pumped(engine, 40)
    assert engine.deaths == 2
    assert sorted(r["response_id"] for r in kept) == sorted(wanted_ids([asked()], prompts(40)))
    assert not any(r["reject"] for r in kept)
    again = len(engine.finished) - len(kept)
    assert again == 2  # the one that was finishing at each death


def test_poison_becomes_a_reject_and_everyone_else_is_sampled() -> None:
    engine = Engine(poison=frozenset({"q7"}))
    kept = pumped(engine, 40)
    rejects = [r for r in kept if r["reject"]]
    assert {_text(r) for r in rejects} == {"q7"}
    assert len(rejects) == 3
    assert all(r["reject"] == "engine_died: the engine's process is gone" for r in rejects)
    assert sorted(r["response_id"] for r in kept) == sorted(wanted_ids([asked()], prompts(40)))
    assert engine.deaths == MAX_SHARED_DEATHS + MAX_DEATHS_ALONE
    assert "Hello" in engine.asked  # nobody is blamed before the source showed that it works


def test_a_source_that_only_dies_is_given_up_and_blames_no_prompt() -> None:
    kept: list[dict[str, Any]] = []
    engine = Engine(broken="dies")

    async def main() -> None:
        pump = RetryingClient("a", engine, 12, 2, kept.append)
        await pump.run_all(requests(asked(), prompts(40), set()))

    with pytest.raises(StageError, match=r"stage sample, a: given up: engine_died: .*a harmless prompt failed too"):
        clocks.run(main, batch_worker, retry)
    assert kept == []
    assert engine.deaths <= 16  # a few waves of four prompts, and the harmless one


def test_a_prompt_that_fails_alone_is_a_reject_with_the_telling_line() -> None:
    kept = pumped(Engine(refused=frozenset({"q3"})), 10)
    rejects = [r for r in kept if r["reject"]]
    assert {(_text(r), r["reject"]) for r in rejects} == {
        ("q3", "engine_error: CUDA error: unspecified launch failure")
    }
    assert len(kept) == 30


def test_a_source_that_fails_always_is_given_up() -> None:
    with pytest.raises(StageError, match="given up: engine_error: CUDA error"):
        pumped(Engine(broken="fails"), 10)


def test_a_source_that_never_answers_is_given_up() -> None:
    with pytest.raises(StageError, match=rf"given up: no sample finished for {retry.STALL_S:.0f} s: it sleeps"):
        pumped(Engine(broken="hangs"), 5)


def test_a_turn_alone_waits_for_all_and_lets_nobody_in() -> None:
    async def main() -> list[str]:
        slots, said = ConcurrencyLimit(4), list[str]()
        await slots.acquire(3, exclusive=False)

        async def alone() -> None:
            await slots.acquire(2, exclusive=True)
            said.append(f"alone with {slots.in_use}")
            await asyncio.sleep(0.01)
            slots.release(2)
            slots.end_exclusive()

        async def other() -> None:
            await slots.acquire(1, exclusive=False)
            said.append("other")
            slots.release(1)

        work = [asyncio.create_task(alone()), asyncio.create_task(other())]
        await asyncio.sleep(0.01)
        assert said == []  # first come, first served: the other waits behind the one that wants to be alone
        slots.release(3)
        await asyncio.gather(*work)
        return said

    assert asyncio.run(main()) == ["alone with 2", "other"]


# --- durability


@pytest.fixture(autouse=True)
def _keep_the_priority_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusechat.pipeline.sampling.batch_worker.lower_priority", lambda: None)


def feeder(path: Path, engine: Engine, num: int = 20) -> tuple[BatchWorker, RunDir]:
    run = RunDir(str(path))
    Parts(run, "prompts/train", PROMPT, "prompt_id").write_all(prompts(num).to_pylist(), 2)
    config = Sample(buckets=2, concurrency=8)
    return BatchWorker(run, "prompts/train", "sample", asked(), engine, config, 8), run


def fed(path: Path, engine: Engine) -> list[str]:
    worker, run = feeder(path, engine)
    (found,) = plan([asked()], Parts(run, "prompts/train", PROMPT, "prompt_id"), _parts(run), 2)

    async def main() -> list[str]:
        units = [{"unit": [json.dumps(u)]} for u in found.units]
        answers = await asyncio.gather(*(worker(u) for u in units))
        return [a["error"][0] for a in answers]

    return asyncio.run(main())


def _parts(run: RunDir) -> Parts:
    return Parts(run, "sample", RESPONSE, "response_id")


def test_a_unit_is_done_when_its_samples_are_durable_and_nothing_is_asked_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_worker, "FLUSH_S", 0.05)
    assert set(fed(tmp_path, Engine())) == {""}
    run = RunDir(str(tmp_path))
    assert _parts(run).ids() == wanted_ids([asked()], prompts(20))
    again = Engine()
    assert fed(tmp_path, again) == []
    assert again.asked == []


def test_a_unit_that_is_sent_again_counts_as_it_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, "FLUSH_S", 0.05)
    dies, run = feeder(tmp_path, Engine())
    (found,) = plan([asked()], Parts(run, "prompts/train", PROMPT, "prompt_id"), _parts(run), 2)
    units = [{"unit": [json.dumps(u)]} for u in found.units]
    asyncio.run(dies(units[0]))  # and its answer is lost with it
    engine = Engine()
    successor, _ = feeder(tmp_path, engine)

    async def main() -> int:
        return sum([(await successor(u))["rows"][0] for u in units])

    assert asyncio.run(main()) == found.missing == 60
    assert len(engine.finished) == 60 - found.units[0]["missing"]


def test_what_finished_before_a_source_was_given_up_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, "FLUSH_S", 0.05)
    monkeypatch.setattr(retry, "STALL_S", 0.3)

    class Stops(Engine):
        async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
            if len(self.finished) > 20:
                self.broken = "hangs"
            async for generated in super().generate(request):
                yield generated

    engine, seconds = Stops(), itertools.count(1)
    # Time passes once the engine hangs, however long that takes.
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)) if engine.broken else 0.0)
    for module in (batch_worker, retry):
        monkeypatch.setattr(module, "time", clock)
    errors = fed(tmp_path, engine)
    assert any("given up: no sample finished" in e for e in errors)
    durable = _parts(RunDir(str(tmp_path))).ids()
    assert len(durable) >= 20
    assert durable <= set(engine.finished)


def ledger(path: Path, work: Callable[[ResponseWriter], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await work(ResponseWriter(Parts(RunDir(str(path)), "sample", RESPONSE, "response_id"), 2))

    asyncio.run(main())


def row(index: int) -> dict[str, Any]:
    from fusechat.pipeline.sampling.plan import response, wanted_responses

    _, rows = next(wanted_responses(asked(), prompts(1)))
    return response(rows[index], make_generated(rows[index]["response_id"]))


def test_a_finished_sample_is_durable_within_the_promised_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, "FLUSH_S", 0.1)
    real, waits = asyncio.sleep, list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def work(books: ResponseWriter) -> None:
        books.add(row(0))
        while not _parts(RunDir(str(tmp_path))).ids():  # nobody asks for it
            await real(0.01)
        assert waits == [0.1]

    ledger(tmp_path, work)


def test_a_full_disk_is_said_and_the_rows_are_kept_for_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_worker, "FLUSH_S", 0.01)
    real, full = Parts.write_all, [True]

    def write_all(self: Parts, rows: Any, num_buckets: int) -> None:
        if full[0]:
            raise RunDirectoryError("no space left")
        real(self, rows, num_buckets)

    monkeypatch.setattr(Parts, "write_all", write_all)

    async def work(books: ResponseWriter) -> None:
        books.add(row(0))
        with pytest.raises(RunDirectoryError, match="no space left"):
            await books.wait_until_durable()
        full[0] = False
        books.add(row(1))
        await books.wait_until_durable()
        assert len(_parts(RunDir(str(tmp_path))).ids()) == 2

    ledger(tmp_path, work)
