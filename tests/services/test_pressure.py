"""The REST service when its model is asleep, when it is full, and when it loses its engine."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import serving

from .conftest import LONG, MAX_IN_FLIGHT, Asleep, engine, holding

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "Count to a hundred."}], "max_tokens": 16}


def test_a_sleeping_model_is_woken(woken: tuple[serving.Service, Asleep]) -> None:
    service, heard = woken
    assert heard.state == "scaled_to_zero"
    assert heard.chat.status_code == 503, heard.chat.text
    assert int(heard.chat.headers["retry-after"]) >= 1
    assert "being started" in heard.chat.json()["error"]["message"]
    assert heard.sample.status_code == 503
    with service.client() as http:
        assert http.post(CHAT, json=BODY).status_code == 200


def test_more_than_may_come_in_are_refused_at_once(service: serving.Service) -> None:
    async def call() -> None:
        headers = {"Authorization": f"Bearer {service.keys['admin']}"}
        unlimited = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=300, limits=unlimited) as http:
            with holding(engine(service)):
                calls = [asyncio.create_task(http.post(CHAT, json=BODY)) for _ in range(MAX_IN_FLIGHT + 12)]
                for refused in list(asyncio.as_completed(calls))[:12]:
                    found = await refused
                    assert (found.status_code, found.headers["retry-after"]) == (503, "1"), found.text
            codes = [(await c).status_code for c in calls]
            assert sorted(codes) == [200] * MAX_IN_FLIGHT + [503] * 12

    asyncio.run(call())


def test_an_engine_that_dies_is_replaced(service: serving.Service) -> None:
    process = engine(service)
    body = BODY | {"max_tokens": LONG, "ignore_eos": True, "stream": True}
    with service.client() as http, http.stream("POST", CHAT, json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        process.kill()
        rest = "\n".join(lines)
    assert '"error"' in rest
    assert rest.rstrip().endswith("data: [DONE]")
    assert "Traceback" not in rest
    serving.wait_for(lambda: service.state() != "ready")
    with service.client() as http:
        assert http.post(CHAT, json=BODY).status_code == 503
        service.until_ready()
        assert http.post(CHAT, json=BODY).status_code == 200
