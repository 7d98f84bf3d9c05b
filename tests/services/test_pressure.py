"""The REST service when it is small, asleep, full, or losing its engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
BODY = {"model": "smollm2", "messages": [{"role": "user", "content": "Count to a hundred."}], "max_tokens": 16}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Service]:
    """One that may put its model to sleep, and lets four requests in."""
    source = {"placement": {"num_cpus": 1.5, "min_replicas": 0, "max_replicas": 1}}
    folder = tmp_path_factory.mktemp("small")
    with serving.served(folder, source=source, cold="refuse", max_in_flight=4) as found:
        yield found


def state(service: serving.Service) -> str:
    """What /ready says of the model."""
    models = httpx.get(f"{service.url}/ready", timeout=30, trust_env=False).json()["models"]
    found: str = models["smollm2"]["state"]
    return found


def until_ready(service: serving.Service, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while state(service) != "ready":
        assert time.monotonic() < deadline, state(service)
        time.sleep(1)


def test_a_sleeping_model_is_woken(small: serving.Service) -> None:
    assert state(small) == "scaled_to_zero"
    with small.client() as http:
        found = http.post("/v1/chat/completions", json=BODY)
        assert found.status_code == 503, found.text
        assert int(found.headers["retry-after"]) >= 1
        assert "being started" in found.json()["error"]["message"]
        sampled = http.post("/v1/sample", json={"messages": BODY["messages"]})
        assert sampled.status_code == 503
        until_ready(small)
        assert http.post("/v1/chat/completions", json=BODY).status_code == 200


def test_more_than_may_come_in_are_refused_at_once(small: serving.Service) -> None:
    until_ready(small)
    found: list[httpx.Response] = []

    def call() -> None:
        with small.client() as http:
            found.append(http.post("/v1/chat/completions", json=BODY | {"max_tokens": 100, "ignore_eos": True}))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [f.status_code for f in found]
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 4
    assert all(f.headers["retry-after"] == "1" for f in found if f.status_code == 503)


def test_an_engine_that_dies_is_replaced(small: serving.Service) -> None:
    until_ready(small)
    children = psutil.Process(small.process.pid).children(recursive=True)
    (engine,) = [p for p in children if "VLLM::Engine" in p.name() or "VLLM::Engine" in " ".join(p.cmdline())]
    body = BODY | {"max_tokens": 220, "ignore_eos": True, "stream": True}
    with small.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        engine.kill()
        rest = "\n".join(lines)
    assert '"error"' in rest
    assert rest.rstrip().endswith("data: [DONE]")
    assert "Traceback" not in rest
    deadline = time.monotonic() + 30
    while state(small) == "ready":
        assert time.monotonic() < deadline, "nobody saw that the engine is gone"
        time.sleep(0.5)
    with small.client() as http:
        assert http.post("/v1/chat/completions", json=BODY).status_code == 503
        until_ready(small)
        assert http.post("/v1/chat/completions", json=BODY).status_code == 200
