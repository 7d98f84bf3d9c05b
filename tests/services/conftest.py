"""One REST service over a tiny model for all tests that call it; it begins with its model asleep."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil
import pytest
import serving
from clocks import ManualClock
from tiny_model import make_tokenizer, write_model

LONG = 900
"""Tokens that take seconds; more would hold up the requests that schemathesis makes up, of which many have no end."""
MAX_IN_FLIGHT = 40


@dataclass(frozen=True)
class Asleep:
    """What callers heard of a model that had no replica yet."""

    state: str
    chat: httpx.Response
    sample: httpx.Response


def engine(service: serving.Service) -> psutil.Process:
    """The process of vLLM's engine."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    (found,) = [p for p in children if "VLLM::Engine" in p.name() or "VLLM::Engine" in " ".join(p.cmdline())]
    return found


@contextmanager
def holding(process: psutil.Process) -> Iterator[None]:
    """The process does nothing until the end of the block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="package")
def woken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[serving.Service, Asleep]]:
    """`fusechat serve`, with a key of each role, whose model a first call has woken; and what that call heard."""
    model = tmp_path_factory.mktemp("tiny")
    write_model(model, make_tokenizer(), head_dim=32, max_position_embeddings=1024)
    source = {
        "name": "tiny",
        "model": {"path": str(model)},
        "engine": {"dtype": "float32", "max_model_len": 1024},
        "placement": {"num_cpus": 1.5, "min_replicas": 0, "max_replicas": 1},
    }
    settings = {"cold": "refuse", "max_in_flight": MAX_IN_FLIGHT, "max_body_bytes": 200_000}
    env = {"RAY_metrics_report_interval_ms": "500"}
    with serving.served(tmp_path_factory.mktemp("service"), source=source, env=env, **settings) as found:
        messages = [{"role": "user", "content": "Hi"}]
        with found.client() as http:
            heard = Asleep(
                found.state(),
                http.post("/v1/chat/completions", json={"model": "tiny", "messages": messages, "max_tokens": 1}),
                http.post("/v1/sample", json={"messages": messages}),
            )
        found.until_ready()
        yield found, heard


@pytest.fixture(scope="package")
def service(woken: tuple[serving.Service, Asleep]) -> serving.Service:
    """The service; its model is awake."""
    return woken[0]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()
