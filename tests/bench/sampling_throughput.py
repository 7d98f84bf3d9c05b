"""Tokens/s of the whole sampling stage over tokens/s of bare vLLM, with SmolLM2-135M on CPUs.

`.venv/bin/python tests/bench/sampling_throughput.py [--prompts 400] [--samples 2] [--rounds 2] [--windows 0]`

Both sides get the same engine settings, prompts, seeds and sampling parameters. Bare vLLM is its asynchronous engine
with all requests handed over at once. The stage is timed from the moment when its engine answers to the moment when
its last shard and its manifest are written; bare vLLM from the first request to the last answer.

`--windows N` compares the two at full load instead, on machines whose speed changes by the minute: both are started,
and take turns of 20 s, N each; each process of the one is stopped (SIGSTOP) while the other runs. Tokens are vLLM's
own counters of the last 15 s of a turn.
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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pausing
import small

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import requests
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts

NUM_SEQS = 64


class Clock(Progress):
    """Notes when the engine was ready."""

    ready = 0.0

    def log(self, text: str) -> None:
        """One line, noted."""
        super().log(text)
        if "ready after" in text:
            self.ready = time.monotonic()


def stage(path: Path) -> dict[str, float]:
    """The stage as users run it."""
    clock = Clock()
    run = Run(load(path), path.parent, clock)
    walk(run, ("prompts",))
    ended = 0.0

    class Ending(Run):
        def close(self) -> None:
            nonlocal ended
            ended = time.monotonic()
            super().close()

    walk(Ending(load(path), path.parent, clock), ("sample",))
    rows = Parts(run.dir, "sample", RESPONSE, "response_id").read(columns=["completion_tokens"]).to_pylist()
    return {"seconds": ended - clock.ready, "tokens": sum(r["completion_tokens"] for r in rows), "samples": len(rows)}


async def bare(path: Path) -> dict[str, float]:
    """vLLM alone: every request handed over at once."""
    from transformers import AutoTokenizer
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    from fusechat.services.engine_args import engine_kwargs

    run = Run(load(path), path.parent, Progress())
    source = run.recipe.served[0]
    folder = run.model(source.model, source.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = AsyncEngineArgs(model=str(folder), **engine_kwargs(source.engine, 0))
    config = arguments.create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"
    engine = AsyncLLM.from_vllm_config(config)
    wanted = requests(run.pinned_sources[0], run.train_prompts, set())

    async def one(ids: list[int], params: dict[str, Any], identity: str, seed: int) -> int:
        found = SamplingParams(**params, seed=seed, output_kind=RequestOutputKind.FINAL_ONLY)
        async for output in engine.generate({"prompt_token_ids": ids}, found, identity):
            last = output
        return len(last.outputs[0].token_ids)

    if os.environ.get("FUSECHAT_BENCH_WATCH"):
        threading.Thread(target=tell, args=(generated,), daemon=True).start()
    warm = SamplingParams(max_tokens=1)
    async for _ in engine.generate({"prompt_token_ids": [1, 2, 3]}, warm, "warm"):
        pass
    began = time.monotonic()
    work = []
    for request, _ in wanted:
        ids = tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        work += [one(ids, request["params"], s["response_id"], s["seed"]) for s in request["samples"]]
    counts = await asyncio.gather(*work)
    seconds = time.monotonic() - began
    engine.shutdown()
    return {"seconds": seconds, "tokens": sum(counts), "samples": len(counts)}


def written(folder: Path, prompts: int, samples: int) -> Path:
    """The recipe that both sides run."""
    return small.recipe(
        folder,
        small.prompts(prompts),
        samples=samples,
        source={
            "engine": {"dtype": "bfloat16", "max_model_len": 1024, "options": {"max_num_seqs": NUM_SEQS}},
            "sampling": {"temperature": 0.8, "max_tokens": 128},
        },
        sample={"concurrency": NUM_SEQS + NUM_SEQS // 2},
    )


def generated() -> float:
    """Tokens that the engine behind this process has generated, by vLLM's counter."""
    from prometheus_client import REGISTRY

    samples = (s for m in REGISTRY.collect() for s in m.samples)
    return sum(s.value for s in samples if s.name == "vllm:generation_tokens_total")


def tell(count: Callable[[], float]) -> None:
    """Prints time and count, once a second."""
    while True:
        print("tokens", time.time(), count(), flush=True)
        time.sleep(1)


def watch(address: str) -> None:
    """Prints the count of the stage's engine."""
    import ray
    from ray import serve

    ray.init(address=address, namespace="serve", log_to_driver=False, logging_level="ERROR")
    handle = serve.get_app_handle("smollm2")
    tell(lambda: handle.counters.remote().result()["generation"])


class Side:
    """One of the two, with all its processes; what it prints is read as it comes."""

    def __init__(self, *commands: list[str], env: dict[str, str]) -> None:
        self.counts: list[tuple[float, float]] = []
        self.processes: list[subprocess.Popen[str]] = []
        for command in commands:
            self.add(command, env)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("tokens "):
                at, count = map(float, line.split()[1:])
                self.counts.append((at, count))

    def add(self, command: list[str], env: dict[str, str]) -> None:
        """Another process of this side."""
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        self.processes.append(process)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def signal(self, number: int) -> None:
        """To every process of this side."""
        for process in self.processes:
            pausing.send(process.pid, number)

    def window(self, seconds: float) -> float:
        """Runs for so long; tokens/s of all but the first quarter."""
        self.signal(signal.SIGCONT)
        began = time.time()
        time.sleep(seconds)
        self.signal(signal.SIGSTOP)
        inside = [c for c in list(self.counts) if c[0] > began + seconds / 4]
        (first, before), (last, after) = inside[0], inside[-1]
        return (after - before) / (last - first)

    def wait(self, tokens: float) -> None:
        """Until so many tokens were generated."""
        while not self.counts or self.counts[-1][1] < tokens:
            if any(p.poll() is not None for p in self.processes):
                raise SystemExit(f"a process ended: {[p.args for p in self.processes if p.poll() is not None]}")
            time.sleep(1)


def windows(path: Path, num: int) -> list[tuple[float, float]]:
    """Tokens/s of bare vLLM and of the stage in each of their turns."""
    from fusechat.pipeline.recipe import Placement
    from fusechat.services.engine_args import cpu_env

    me = [sys.executable, __file__, "--recipe", str(path), "--side"]
    env = dict(os.environ, FUSECHAT_BENCH_WATCH="1")
    bare_side = Side([*me, "bare"], env=env | cpu_env(Placement(num_cpus=1.5)))
    bare_side.wait(2000)
    bare_side.signal(signal.SIGSTOP)
    stage_side = Side([*me, "stage"], env=env)
    time.sleep(45)  # until there is a cluster to watch
    stage_side.add([sys.executable, __file__, "--watch", "auto"], env)
    stage_side.wait(4000)
    stage_side.signal(signal.SIGSTOP)
    try:
        return [(bare_side.window(20), stage_side.window(20)) for _ in range(num)]
    finally:
        for side in (bare_side, stage_side):
            side.signal(signal.SIGCONT)
            side.signal(signal.SIGTERM)
            time.sleep(3)
            side.signal(signal.SIGKILL)


def main() -> None:
    """Prints the ratio of each round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--windows", type=int, default=0)
    parser.add_argument("--watch")
    parser.add_argument("--side", choices=("stage", "bare"))
    parser.add_argument("--recipe", type=Path)
    options = parser.parse_args()
    if options.watch:
        watch(options.watch)
    if options.side:
        found = stage(options.recipe) if options.side == "stage" else asyncio.run(bare(options.recipe))
        print(json.dumps(found))
        return
    from fusechat.pipeline.recipe import Placement
    from fusechat.services.engine_args import cpu_env

    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    if options.windows:
        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(folder), 100 * options.windows + 300, options.samples)
            walk(Run(load(path), path.parent, Progress()), ("prompts",))
            rates = windows(path, options.windows)
        print("| turn | bare vLLM, tokens/s | stage at full load, tokens/s | ratio |\n| --- | --- | --- | --- |")
        for number, (alone, whole) in enumerate(rates, 1):
            print(f"| {number} | {alone:.0f} | {whole:.0f} | {whole / alone:.3f} |")
        mean = [statistics.mean(side) for side in zip(*rates, strict=True)]
        print(f"| mean | {mean[0]:.0f} | {mean[1]:.0f} | {mean[1] / mean[0]:.3f} |")
        return
    print("| round | bare vLLM, tokens/s | whole stage, tokens/s | ratio |\n| --- | --- | --- | --- |")
    for number in range(1, options.rounds + 1):
        rates = {}
        for side in ("bare", "stage"):
            with tempfile.TemporaryDirectory() as folder:
                path = written(Path(folder), options.prompts, options.samples)
                if side == "bare":  # the stage has its prompts from its own first stage
                    walk(Run(load(path), path.parent, Progress()), ("prompts",))
                command = [sys.executable, __file__, "--side", side, "--recipe", str(path)]
                env = os.environ | (cpu_env(Placement(num_cpus=1.5)) if side == "bare" else {})
                out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
                found = json.loads(out.splitlines()[-1])
                rates[side] = found["tokens"] / found["seconds"]
                print(f"{side}: {found}", file=sys.stderr)
        print(f"| {number} | {rates['bare']:.0f} | {rates['stage']:.0f} | {rates['stage'] / rates['bare']:.3f} |")


if __name__ == "__main__":
    main()
