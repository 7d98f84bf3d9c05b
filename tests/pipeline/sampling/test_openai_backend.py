"""A source over HTTP: asked as it wants to be, its limits kept, each way of failing ends in its own reject."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import clocks
import pytest
from endpoints import Reply, Service, good

from fusechat.pipeline.errors import RequestFailedError, StageError
from fusechat.pipeline.recipe import EndpointSource
from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling import openai_backend, rate_limit
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest, SampleSeed
from fusechat.pipeline.sampling.openai_backend import OpenAIBackend
from fusechat.pipeline.sampling.rate_limit import RateLimit, retry_after
from fusechat.pipeline.sampling.retry import RetryingClient


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_backend.random, "uniform", lambda low, high: 0.01)


def source(service: Service, **changes: Any) -> EndpointSource:
    tree = {
        "kind": "endpoint",
        "name": "far",
        "url": service.url,
        "model": "m",
        "samples": {"math": 2},
        "max_attempts": 3,
        "timeout_s": 300,
    }
    return EndpointSource.model_validate({**tree, **changes})


def request(num: int = 2, **params: Any) -> GenerateRequest:
    neutral = {"temperature": 0.5, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    return GenerateRequest(
        messages=[Message(role="system", content="Be brief."), Message(role="user", content="2+2?")],
        params={**neutral, "max_tokens": 64, "stop": [], **params},
        samples=[SampleSeed(response_id=f"r{i}", seed=100 + i) for i in range(num)],
    )


def asked(found: EndpointSource, wanted: GenerateRequest) -> list[Generated]:
    async def main() -> list[Generated]:
        return [g async for g in pickle.loads(pickle.dumps(OpenAIBackend(found))).generate(wanted)]

    return asyncio.run(main())


def test_each_sample_is_a_request_with_its_own_seed_and_every_token_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", "secret")
    found = asked(source(service, api_key_env="FAR_KEY"), request(stop=["\n"]))
    assert sorted(g["response_id"] for g in found) == ["r0", "r1"]
    assert [(g["text"], g["finish_reason"], g["reject"]) for g in found] == [("four", "stop", "")] * 2
    assert [(g["prompt_tokens"], g["completion_tokens"]) for g in found] == [(7, 5)] * 2
    assert sorted(b["seed"] for b in service.bodies) == [100, 101]
    body = service.bodies[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("m", 0.5, 0.9, 64)
    assert body["stop"] == ["\n"]
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert not {"top_k", "min_p", "repetition_penalty", "stop_token_ids"} & body.keys()
    assert service.headers[0]["authorization"] == "Bearer secret"


def test_what_only_vllm_knows_is_sent_where_it_says_something(service: Service) -> None:
    asked(source(service, system="merge"), request(1, top_k=20, stop_token_ids=[3]))
    assert (service.bodies[0]["top_k"], service.bodies[0]["stop_token_ids"]) == (20, [3])
    assert service.bodies[0]["messages"] == [{"role": "user", "content": "Be brief.\n\n2+2?"}]


def test_hostile_text_arrives_as_it_is_and_lone_surrogates_become_storable(service: Service) -> None:
    service.replies = [good("<script>\u0000\x1b[2J" + "\ud800")]
    (found,) = asked(source(service), request(1))
    assert found["text"] == "<script>\u0000\x1b[2J?"


def test_an_answer_cut_at_max_tokens_says_so_and_one_without_usage_counts_nothing(service: Service) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "fo"}, "finish_reason": "length"}
    service.replies = [good(choices=[choice], usage=None)]
    (found,) = asked(source(service), request(1))
    assert (found["finish_reason"], found["prompt_tokens"], found["completion_tokens"]) == ("length", 0, 0)


@pytest.mark.parametrize(
    "bad",
    [
        (429, {"retry-after": "0"}, b'{"error": {"message": "slow down"}}'),
        (500, {}, b"oops"),
        (503, {}, b"{}"),
        (200, {}, b"{not json"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": null}]}'),
        (200, {}, b'{"choices": 7}'),
        (200, {}, b"[]"),
    ],
)
def test_a_failure_that_may_pass_is_tried_again(service: Service, bad: Reply) -> None:
    service.replies = [bad, bad, good()]
    (found,) = asked(source(service), request(1))
    assert found["text"] == "four"
    assert len(service.bodies) == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((429, {}, b"{}"), "rate_limited: the endpoint answered 429"),
        ((500, {}, b'{"error": "ooh\\n\\u001b[2J"}'), "endpoint_error: 500"),
        ((200, {}, b"{not json"), "endpoint_error: "),
        ((200, {}, b"{}"), "endpoint_error: the answer holds no choice"),
    ],
)
def test_tries_are_bounded(service: Service, bad: Reply, reason: str) -> None:
    service.replies = [bad]
    with pytest.raises(RequestFailedError) as error:
        asked(source(service), request(1))
    assert str(error.value).startswith(reason)
    assert str(error.value).isprintable()
    assert len(service.bodies) == 3


def test_an_endpoint_that_never_answers_is_left_after_its_time(service: Service) -> None:
    service.replies = [(200, {}, None)]
    with pytest.raises(RequestFailedError, match=r"endpoint_timeout: no answer in 0.2 s"):
        asked(source(service, timeout_s=0.2, max_attempts=2), request(1))
    assert len(service.bodies) <= 2


def test_nobody_listening_is_a_bounded_failure() -> None:
    found = EndpointSource.model_validate(
        {
            "kind": "endpoint",
            "name": "far",
            "url": "http://127.0.0.1:9/v1",
            "model": "m",
            "samples": {"math": 1},
            "max_attempts": 2,
        }
    )
    with pytest.raises(RequestFailedError, match="endpoint_error: Connection error"):
        asked(found, request(1))


def test_retry_after_holds_all_requests_of_the_source(service: Service) -> None:
    service.replies = [(429, {"retry-after": "0.5"}, b"{}"), good()]

    async def main() -> None:
        far = OpenAIBackend(source(service))
        first = asyncio.create_task(_drain(far, 1))
        while not far._not_before:  # until it has been refused
            await asyncio.sleep(0.01)
        await asyncio.gather(first, _drain(far, 1))

    asyncio.run(main())
    assert len(service.times) == 3
    assert min(service.times[1:]) - service.times[0] >= 0.5


async def _drain(far: OpenAIBackend, num: int) -> list[Generated]:
    return [g async for g in far.generate(request(num))]


def test_a_request_that_is_at_fault_is_a_reject_and_not_asked_again(service: Service) -> None:
    service.replies = [(400, {}, b'{"error": {"message": "context\\n\\u001b[31m too long"}}')]
    (found,) = asked(source(service), request(1))
    assert found["reject"].startswith("endpoint_refused: 400")
    assert "too long" in found["reject"]
    assert found["reject"].isprintable()
    assert len(service.bodies) == 1


@pytest.mark.parametrize(("status", "setting"), [(401, "api_key_env"), (403, "api_key_env"), (404, "url or model")])
def test_an_endpoint_that_is_set_up_wrongly_stops_the_source(service: Service, status: int, setting: str) -> None:
    service.replies = [(status, {}, b'{"error": {"message": "no"}}')]
    with pytest.raises(StageError, match=f"stage sample, far: the endpoint answered {status}.*change {setting}"):
        asked(source(service), request(1))


def test_a_key_that_is_not_set_is_said(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAR_KEY", raising=False)
    with pytest.raises(StageError, match=r"environment variable FAR_KEY \(api_key_env\) is not set"):
        asked(source(service, api_key_env="FAR_KEY"), request(1))
    assert service.bodies == []


def test_one_sample_that_fails_leaves_the_others_of_its_prompt(service: Service) -> None:
    service.replies = lambda body: (500, {}, b"{}") if body["seed"] == 101 else good()
    found = []

    async def main() -> None:
        async for g in OpenAIBackend(source(service)).generate(request(3)):
            found.append(g["response_id"])

    with pytest.raises(RequestFailedError):
        asyncio.run(main())
    assert sorted(found) == ["r0", "r2"]


def pumped(service: Service, num: int) -> list[dict[str, Any]]:
    """Through the pump, as a run does it."""
    kept: list[dict[str, Any]] = []

    async def main() -> None:
        pump = RetryingClient("far", OpenAIBackend(source(service)), 8, 3, kept.append)
        await pump.run_all(
            [
                ({**request(1), "samples": [SampleSeed(response_id=f"s{i}", seed=i)]}, [{"response_id": f"s{i}"}])
                for i in range(num)
            ]
        )

    asyncio.run(main())
    return kept


def test_a_prompt_that_the_endpoint_always_fails_on_is_a_reject(service: Service) -> None:
    service.replies = lambda body: (500, {}, b"boom") if body["seed"] == 3 and body["max_tokens"] > 1 else good()
    kept = {row["response_id"]: row["reject"] for row in pumped(service, 6)}
    assert kept.pop("s3").startswith("endpoint_error: 500")
    assert set(kept.values()) == {""}


def test_an_endpoint_that_is_down_is_given_up_and_nothing_is_a_reject(service: Service) -> None:
    service.replies = [(503, {}, b"down")]
    with pytest.raises(StageError, match="stage sample, far: given up: endpoint_error: 503"):
        pumped(service, 6)
    assert len(service.bodies) <= 7 * 3


# --- limits


def test_no_window_holds_more_than_the_limit() -> None:
    times: list[float] = []

    async def main() -> None:
        window = RateLimit(3, seconds=0.3)

        async def one() -> None:
            await window.acquire(1)
            times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(one() for _ in range(10)))

    clocks.run(main, openai_backend, rate_limit)
    assert times == pytest.approx([0, 0, 0, 0.3, 0.3, 0.3, 0.6, 0.6, 0.6, 0.9], abs=0.01)


def test_tokens_that_were_not_used_are_given_back() -> None:
    async def main() -> float:
        window = RateLimit(100, seconds=30)
        await window.acquire(90)
        window.adjust(-80)
        await window.acquire(80)
        return asyncio.get_running_loop().time()

    assert clocks.run(main, openai_backend, rate_limit) < 0.01


def test_a_request_larger_than_the_limit_waits_for_an_empty_window_and_goes() -> None:
    async def main() -> float:
        window = RateLimit(10, seconds=0.2)
        await window.acquire(5)
        await window.acquire(50)
        return asyncio.get_running_loop().time()

    assert clocks.run(main, openai_backend, rate_limit) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("header", "low", "high"), [(None, 0, 0), ("2", 2, 2), ("-1", 0, 0), ("soon", 0, 0)])
def test_retry_after_is_seconds(header: str | None, low: float, high: float) -> None:
    assert low <= retry_after(header) <= high


def test_retry_after_may_be_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    from email.utils import formatdate

    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    assert retry_after(formatdate(1_700_000_005, usegmt=True)) == 5
