"""vLLM on a CPU as fusechat configures it, beside vLLM's own settings: prefill behind a shared prefix, and decoding.

`.venv/bin/python tests/bench/cpu_engine.py` asks the demo's Qwen2.5-Coder 64 math prompts of the demo behind its worked
examples, each with a seed of its own, in a fresh process for each configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from fusechat.pipeline.models import resolve
from fusechat.pipeline.recipe import Placement, Source, load
from fusechat.services.engine_args import cpu_env, engine_kwargs

NUM, STEPS = 64, 32
THEIRS = {"block_size": 128, "worker_cls": "auto"}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "vLLM's blocks and sampler": THEIRS,
    "small blocks": {**THEIRS, "block_size": 32},
    "small blocks, float32 noise (fusechat)": {},
}


def source() -> Source:
    """The demo's largest source."""
    return load.load(load.find("demo")).source("qwen2.5-coder-0.5b")


def measure(overrides: dict[str, Any]) -> dict[str, float]:
    """Tokens a second of one engine."""
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams

    asked = source()
    folder = resolve.resolve(asked.model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = load.find("demo").parent
    assert asked.chat_template is not None
    template = (base / asked.chat_template).read_text("utf-8")
    lines = (base / "demo" / "math.jsonl").read_text("utf-8").splitlines()[: NUM + 1]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": json.loads(line)["prompt"]}],
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        for line in lines
    ]
    shared = next(i for i, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    llm = LLM(str(folder), **{**engine_kwargs(asked.engine, 0), **overrides})

    def run(which: list[list[int]], max_tokens: int) -> float:
        params = [
            SamplingParams(temperature=0.6, max_tokens=max_tokens, ignore_eos=True, seed=i) for i in range(len(which))
        ]
        began = time.monotonic()
        llm.generate([{"prompt_token_ids": ids} for ids in which], params, use_tqdm=False)
        return time.monotonic() - began

    run(prompts[:1], 2)
    prefill = run(prompts[1:], 1)
    again = run(prompts[1:], 1)
    decode = run(prompts[1:], 1 + STEPS) - again
    suffix = sum(len(ids) - shared for ids in prompts[1:])
    return {"prefill_s": prefill, "prefill": suffix / prefill, "decode": NUM * STEPS / decode}


def main() -> None:
    """A row a configuration, as Markdown."""
    if len(sys.argv) > 1:
        print("\n" + json.dumps(measure(CONFIGURATIONS[sys.argv[1]])))
        return
    cores = len(os.sched_getaffinity(0))
    env = os.environ | cpu_env(Placement(num_cpus=cores))
    env |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    print(f"{source().name}, {cores} cores, {NUM} prompts\n")
    print("| configuration | prefill, s | prefill, new tokens/s | decoding, tokens/s |\n| --- | --- | --- | --- |")
    for name in CONFIGURATIONS:
        command = [sys.executable, __file__, name]
        output = subprocess.run(command, env=env, check=True, text=True, stdout=subprocess.PIPE).stdout
        found = json.loads(output.strip().splitlines()[-1])
        row = f"| {name} | {found['prefill_s']:.1f} | {found['prefill']:.0f} | {found['decode']:.0f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
