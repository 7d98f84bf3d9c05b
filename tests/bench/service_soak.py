"""The REST service at saturation for half an hour: callers that leave, an engine that is killed, memory, what is left.

`.venv/bin/python tests/bench/service_soak.py [--minutes 30] [--callers 48]`

Each caller sends one request after the other, of a kind drawn at random: chat and completions, whole and streaming,
/v1/sample (whole, and streaming with rewards), /v1/score, /v1/verify. One in twenty cuts its connection at a random
moment. In the middle the engine's process gets SIGKILL. A request ends in an answer, in a clean error (OpenAI's error
object with a status that allows it, or as the last event of a stream), or cut by its caller; anything else is broken.
Memory is the gateway's (proportional set size) after five minutes, or a sixth of the time, and at the end. After the
load nothing may be under way: neither by the engine's own gauge, nor by its count of generated tokens, which must stand
still. Exits 1 where a request broke, memory grew by more than a tenth, or a generation was left running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import serving
import small

CUT = 0.05
"""Share of the requests whose caller leaves."""
GROWTH = 0.10
CLEAN = {429, 503, 504}
"""Statuses that a good request may be refused with."""
QUESTION = "What is {a} + {b}? End with the line: The answer is <number>."


def request(generator: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Kind, route and body of the next request."""
    a, b = generator.randrange(1000), generator.randrange(1000)
    question = QUESTION.format(a=a, b=b)
    asked = [{"role": "user", "content": question}]
    limits = {"model": "smollm2", "max_tokens": generator.choice([8, 32, 64]), "ignore_eos": True}
    sample = {"messages": asked, "domain": "math", "n": 2, "verify": {"gold": str(a + b)}}
    answer = f"The answer is {a + b}."
    code = {"response": f"```python\ndef f():\n    return {a}\n```", "tests": f"assert f() == {a}", "entry_point": "f"}
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("chat", "/v1/chat/completions", {**limits, "messages": asked}),
        ("chat, streaming", "/v1/chat/completions", {**limits, "messages": asked, "stream": True}),
        ("completions", "/v1/completions", {**limits, "prompt": question}),
        ("completions, streaming", "/v1/completions", {**limits, "prompt": question, "stream": True}),
        ("sample", "/v1/sample", sample),
        ("sample, streaming", "/v1/sample", {**sample, "score": True, "stream": True, "deltas": True}),
        ("score", "/v1/score", {"items": [{"messages": asked, "response": answer}]}),
        ("verify", "/v1/verify", {"items": [{"response": answer, "gold": str(a + b)}, code]}),
    ]
    return generator.choices(kinds, weights=[6, 6, 2, 2, 2, 2, 2, 1])[0]


async def call(session: aiohttp.ClientSession, generator: random.Random) -> tuple[str, str]:
    """Kind, and how it ended: `answered`, `cut`, `refused STATUS`, `error in the stream` or `broken: ...`."""
    kind, route, body = request(generator)
    cut_after = generator.uniform(0.01, 5.0) if generator.random() < CUT else None
    try:
        async with asyncio.timeout(cut_after):
            async with session.post(route, json=body) as found:
                text = await found.text()
    except TimeoutError:
        return kind, "cut" if cut_after is not None else "broken: no answer in time"
    except aiohttp.ClientError as error:
        return kind, f"broken: {type(error).__name__}: {error}"[:200]
    return kind, ended(found.status, text, streaming=bool(body.get("stream")))


def ended(status: int, text: str, *, streaming: bool) -> str:
    """How a request ended that was not cut."""
    if status != 200:
        try:
            told = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            return f"broken: {status} without an error object"
        return f"refused {status}" if status in CLEAN and told["message"] else f"broken: {status} {told}"[:200]
    if not streaming:
        try:
            found = json.loads(text)
        except ValueError:
            return "broken: the answer is no JSON"
        return "error in the answer" if found.get("errors") else "answered"
    events = [line for line in text.splitlines() if line.strip()]
    if '"error"' in text or "event: error" in text:
        return "error in the stream"
    whole = bool(events) and (events[-1] == "data: [DONE]" or "event: done" in events[-2:])
    return "answered" if whole else f"broken: the stream ends with {events[-1:]}"[:200]


def gateway(service: serving.Service) -> psutil.Process:
    """The process of the gateway's replica."""
    for process in psutil.Process(service.process.pid).children(recursive=True):
        words = " ".join([process.name(), *process.cmdline()])
        if "ServeReplica" in words and "gateway" in words:
            return process
    raise SystemExit("the gateway's process was not found")


def mebibytes(process: psutil.Process) -> float:
    """Proportional set size."""
    return float(process.memory_full_info().pss) / 2**20


def gauge(service: serving.Service, name: str) -> float:
    """Sum of one of the exported metrics over its tags."""
    return sum(float(line.split()[-1]) for line in service.metrics() if line.startswith(f"{name}{{"))


def kill_engine(service: serving.Service) -> None:
    """SIGKILL to vLLM's engine process."""
    for process in psutil.Process(service.process.pid).children(recursive=True):
        if process.name().startswith("VLLM::Engine"):
            process.kill()
            return
    raise SystemExit("the engine's process was not found")


async def load(service: serving.Service, minutes: float, callers: int) -> tuple[Counter[tuple[str, str]], list[float]]:
    """How requests ended, and the gateway's memory, MiB: after the first sixth, and at the end."""
    found: Counter[tuple[str, str]] = Counter()
    memory: list[float] = []
    began, process = time.monotonic(), gateway(service)
    end = began + 60 * minutes

    async def caller(number: int, session: aiohttp.ClientSession) -> None:
        generator = random.Random(number)
        while time.monotonic() < end:
            kind, how = await call(session, generator)
            found[kind, how] += 1
            if how.startswith("refused"):
                await asyncio.sleep(1)  # what Retry-After says at least

    async def watch() -> None:
        for at, what in ((min(5.0, minutes / 6), "early"), (minutes / 2, "kill"), (minutes, "end")):
            await asyncio.sleep(max(0.0, began + 60 * at - time.monotonic()))
            memory.append(await asyncio.to_thread(mebibytes, process))
            print(
                f"  {(time.monotonic() - began) / 60:.1f} min: gateway {memory[-1]:.0f} MiB, {found.total()} requests"
            )
            if what == "kill":
                await asyncio.to_thread(kill_engine, service)

    headers = {"Authorization": f"Bearer {service.keys['admin']}"}
    connector, timeout = aiohttp.TCPConnector(limit=0, force_close=False), aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(service.url, connector=connector, timeout=timeout, headers=headers) as session:
        await asyncio.gather(watch(), *(caller(n, session) for n in range(callers)))
    return found, memory


def left_running(service: serving.Service) -> tuple[float, float]:
    """A quarter of a minute after the load: requests by the engine's gauge, and tokens generated in 10 s more."""
    time.sleep(15)
    running = gauge(service, "ray_vllm_num_requests_running") + gauge(service, "ray_vllm_num_requests_waiting")
    before = gauge(service, "ray_vllm_generation_tokens_total")
    time.sleep(10)
    return running, gauge(service, "ray_vllm_generation_tokens_total") - before


def main() -> None:
    """Prints how the requests ended, the gateway's memory, and what was left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--callers", type=int, default=48)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    source = {"engine": {"dtype": "bfloat16", "max_model_len": 512}}
    with tempfile.TemporaryDirectory() as folder, serving.served(Path(folder), source=source) as service:
        found, memory = asyncio.run(load(service, options.minutes, options.callers))
        running, tokens = left_running(service)
        with service.client() as http:
            body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
            afterwards = http.post("/v1/chat/completions", json=body).status_code
    hows = sorted({how for _, how in found})
    print(f"\n| request | {' | '.join(hows)} |\n| --- |{' --- |' * len(hows)}")
    for kind in sorted({kind for kind, _ in found}):
        print(f"| {kind} | {' | '.join(str(found[kind, how]) for how in hows)} |")
    early, _, late = memory
    print(f"\ngateway: {early:.0f} MiB early, {late:.0f} MiB at the end: {100 * (late / early - 1):+.1f}%")
    print(f"left running: {running:.0f} requests, {tokens:.0f} tokens in 10 s; then a request got {afterwards}")
    broken = sum(num for (_, how), num in found.items() if how.startswith("broken"))
    sys.exit(bool(broken or late > early * (1 + GROWTH) or running or tokens or afterwards != 200))


if __name__ == "__main__":
    main()
