"""The REST service beside vLLM's own OpenAI server: requests/s and time to first token, whole and streaming.

`.venv/bin/python tests/bench/service_throughput.py [--rounds 2] [--callers 16,64]`

Both serve SmolLM2-135M with the same engine settings and the same environment. Each caller sends its next request when
it has the last answer: 64 greedy tokens for a prompt that no other request has. They take turns, each stopped (SIGSTOP)
with all its processes while the other is measured, because the speed of small machines changes by the minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import httpx
import pausing
import serving
import small

from fusechat.pipeline.cluster.connect import free_port
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import Placement
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.run import Run
from fusechat.services.engine_args import cpu_env, engine_kwargs

TOKENS = 64
NUM_SEQS = 64
REQUESTS_A_CALLER = {16: 8, 64: 4}


@contextmanager
def bare(recipe: Path) -> Iterator[tuple[str, int]]:
    """vLLM's own server over the same weights; its address and process."""
    run = Run(load(recipe), recipe.parent, Progress())
    (source,) = run.recipe.served
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--model", str(run.model(source.model, source.name)), "--served-model-name", source.name]
    for key, value in engine_kwargs(source.engine, 0).items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            command.append(f"--{name}" if value else f"--no-{name}")
        else:
            command += [f"--{name}", str(value)]
    command += ["--distributed-executor-backend", "uni"]
    env = os.environ | cpu_env(Placement(num_cpus=1.5)) | {"VLLM_LOGGING_LEVEL": "WARNING"}
    with (recipe.parent / "vllm.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError((recipe.parent / "vllm.log").read_text()[-2000:])
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(1)
        yield url, process.pid
    finally:
        pausing.resume(process.pid)
        pausing.send(process.pid, signal.SIGTERM)
        process.wait(30)


async def load_of(url: str, key: str, callers: int, *, stream: bool, salt: str) -> tuple[float, float]:
    """Requests/s, and the median time to the first token in seconds (of whole answers: to the answer)."""
    first: list[float] = []
    prompts = iter(small.prompts(callers * REQUESTS_A_CALLER[callers]))

    async def caller(session: aiohttp.ClientSession) -> None:
        for row in prompts:  # shared: each takes the next one
            messages = [{"role": "user", "content": f"{salt} {row['prompt'][:400]}"}]
            body = {"model": "smollm2", "messages": messages, "max_tokens": TOKENS, "temperature": 0}
            body |= {"ignore_eos": True, "stream": stream}
            began, told = time.monotonic(), False
            async with session.post(f"{url}/v1/chat/completions", json=body) as found:
                if found.status != 200:
                    raise RuntimeError(f"{found.status}: {await found.text()}")
                if not stream:
                    count = json.loads(await found.read())["usage"]["completion_tokens"]
                    assert count == TOKENS, count
                async for line in found.content:
                    if stream and not told and b'"content":"' in line and b'"content":""' not in line:
                        first.append(time.monotonic() - began)
                        told = True
            if not stream:
                first.append(time.monotonic() - began)

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        began = time.monotonic()
        await asyncio.gather(*(caller(session) for _ in range(callers)))
        seconds = time.monotonic() - began
    return len(first) / seconds, statistics.median(first)


def main() -> None:
    """Prints a table: a line for each number of callers and each kind of answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--callers", default="16,64")
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    source = {"engine": {"dtype": "bfloat16", "max_model_len": 1024, "options": {"max_num_seqs": NUM_SEQS}}}
    with tempfile.TemporaryDirectory() as folder, serving.served(Path(folder), source=source) as ours:
        pausing.pause(ours.process.pid)
        with bare(ours.recipe) as (url, pid):
            sides = {"vLLM": (url, "", pid), "fusechat": (ours.url, ours.keys["sample"], ours.process.pid)}
            pausing.pause(pid)
            try:
                table(sides, [int(c) for c in options.callers.split(",")], options.rounds)
            finally:
                pausing.resume(ours.process.pid)


def table(sides: dict[str, tuple[str, str, int]], numbers: list[int], rounds: int) -> None:
    """Measures and prints."""
    print("| callers | answers | vLLM, requests/s | fusechat, requests/s | ratio | first token, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for callers in numbers:
        for stream in (False, True):
            rates: dict[str, list[float]] = {name: [] for name in sides}
            firsts: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(rounds + 1):  # the first round warms both up
                for name, (url, key, pid) in sides.items():
                    pausing.resume(pid)
                    time.sleep(1)
                    salt = f"{name} {number} {stream} {callers}"
                    rate, first = asyncio.run(load_of(url, key, callers, stream=stream, salt=salt))
                    pausing.pause(pid)
                    if number:
                        rates[name].append(rate)
                        firsts[name].append(first)
            theirs, mine = (statistics.mean(rates[n]) for n in ("vLLM", "fusechat"))
            early, late = (statistics.mean(firsts[n]) for n in ("vLLM", "fusechat"))
            kind = "streaming" if stream else "whole"
            token = f"{early:.2f} against {late:.2f} | {late / early:.2f}" if stream else "- | -"
            print(f"| {callers} | {kind} | {theirs:.2f} | {mine:.2f} | {mine / theirs:.2f} | {token} |", flush=True)


if __name__ == "__main__":
    main()
