"""Tokens/s of the whole sampling stage over tokens/s of bare vLLM, with SmolLM2-135M on CPUs.

`.venv/bin/python tests/bench/sampling_throughput.py [--prompts 400] [--samples 2] [--rounds 2]`

Both sides get the same engine settings, prompts, seeds and sampling parameters. Bare vLLM is its asynchronous engine
with all requests handed over at once. The stage is timed from the moment when its engine answers to the moment when
its last shard and its manifest are written; bare vLLM from the first request to the last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import small

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import requests
from fusechat.pipeline.shards import Parts

NUM_SEQS = 64


class Clock(Progress):
    """Notes when the engine was ready."""

    ready = 0.0

    def say(self, text: str) -> None:
        """One line, noted."""
        super().say(text)
        if "ready after" in text:
            self.ready = time.monotonic()


def stage(path: Path) -> dict[str, float]:
    """The stage as users run it."""
    clock = Clock()
    run = Run(load(path), path.parent, clock)
    run.walk(("prompts",))
    ended = 0.0

    class Ending(Run):
        def _close(self) -> None:
            nonlocal ended
            ended = time.monotonic()
            super()._close()

    Ending(load(path), path.parent, clock).walk(("sample",))
    rows = Parts(run.dir, "sample", RESPONSE, "response_id").read(columns=["completion_tokens"]).to_pylist()
    return {"seconds": ended - clock.ready, "tokens": sum(r["completion_tokens"] for r in rows), "samples": len(rows)}


async def bare(path: Path) -> dict[str, float]:
    """vLLM alone: every request handed over at once."""
    from transformers import AutoTokenizer
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    from fusechat.services.sources import engine_kwargs

    run = Run(load(path), path.parent, Progress())
    source = run.recipe.served[0]
    folder = run.model(source.model, source.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = AsyncEngineArgs(model=str(folder), **engine_kwargs(source.engine, 0))
    config = arguments.create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"
    engine = AsyncLLM.from_vllm_config(config)
    wanted = requests(run.asked[0], run.train_prompts, set())

    async def one(ids: list[int], params: dict[str, Any], identity: str, seed: int) -> int:
        found = SamplingParams(**params, seed=seed, output_kind=RequestOutputKind.FINAL_ONLY)
        async for output in engine.generate({"prompt_token_ids": ids}, found, identity):
            last = output
        return len(last.outputs[0].token_ids)

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


def main() -> None:
    """Prints the ratio of each round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=("stage", "bare"))
    parser.add_argument("--recipe", type=Path)
    options = parser.parse_args()
    if options.side:
        found = stage(options.recipe) if options.side == "stage" else asyncio.run(bare(options.recipe))
        print(json.dumps(found))
        return
    from fusechat.services.sources import cpu_env

    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    print("| round | bare vLLM, tokens/s | whole stage, tokens/s | ratio |\n| --- | --- | --- | --- |")
    for number in range(1, options.rounds + 1):
        rates = {}
        for side in ("bare", "stage"):
            with tempfile.TemporaryDirectory() as folder:
                path = small.recipe(
                    Path(folder),
                    small.prompts(options.prompts),
                    samples=options.samples,
                    source={
                        "engine": {
                            "dtype": "bfloat16",
                            "max_model_len": 1024,
                            "options": {"max_num_seqs": NUM_SEQS},
                        },
                        "sampling": {"temperature": 0.8, "max_tokens": 128},
                    },
                    sample={"concurrency": NUM_SEQS + NUM_SEQS // 2},
                )
                if side == "bare":  # the stage has its prompts from its own first stage
                    Run(load(path), path.parent, Progress()).walk(("prompts",))
                command = [sys.executable, __file__, "--side", side, "--recipe", str(path)]
                env = os.environ | (cpu_env(1.5) if side == "bare" else {})
                out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
                found = json.loads(out.splitlines()[-1])
                rates[side] = found["tokens"] / found["seconds"]
                print(f"{side}: {found}", file=sys.stderr)
        print(f"| {number} | {rates['bare']:.0f} | {rates['stage']:.0f} | {rates['stage'] / rates['bare']:.3f} |")


if __name__ == "__main__":
    main()
