"""Tokens/s, MFU and peak memory of fusechat's own training steps on one device: no Ray, no weights, no prompts.

    python tests/bench/gpu_train.py [--shape llama-3.2-1b] [--length 2048] [--micro 4] [--batch 32] [--steps 8]
    python tests/bench/gpu_train.py --shape llama-3.1-8b --micro 1 --checkpointing     # 160 GB and more
    python tests/bench/gpu_train.py --shape llama-3.1-8b --micro 1 --checkpointing --lora 16     # 80 GB

Random weights in the shape of Llama-3.2-1B on a GPU; a tiny shape on the CPU, where nothing else is asked for. All
weights are trained, or with `--lora` matrices of that rank beside them; what the plan says can't fit the device is
refused. SFT packs `--micro` rows of `--length` / `--micro` tokens into each pass; DPO takes pairs of two responses of
that length.

MFU counts 6 operations a parameter and token (4 where it is not trained), and those of causal attention, against the
device's dense bfloat16 peak; what gradient checkpointing computes a second time does not count.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from typing import Any

import small
import trainers


def _measure(args: argparse.Namespace, stage: str) -> dict[str, Any]:
    import torch
    from datasets import Dataset

    from fusechat.pipeline.planning import memory as needed
    from fusechat.pipeline.recipe import Dpo, Lora, Optimization, Sft, Training
    from fusechat.training import dpo, mfu, sft, worker

    gpu = torch.cuda.is_available()
    common: dict[str, Any] = {
        "learning_rate": 1e-6,
        "num_epochs": 1,
        "global_batch_size": args.batch,
        "micro_batch_size": args.micro,
        "max_length": args.length,
        "gradient_checkpointing": args.checkpointing,
        "lora": Lora(r=args.lora) if args.lora else None,
    }
    config: Optimization = Sft(**common, packing=True) if stage == "sft" else Dpo(**common, beta=10)
    if gpu:
        memory = float(torch.cuda.get_device_properties(0).total_memory)
        shape = needed.shape(trainers.configuration(args.shape))
        a_pass = config.model_copy(update={"micro_batch_size": 1})  # its rows together have --length tokens
        needed.check(stage, shape, a_pass, Training(num_gpus=1), memory, mfu.device_name(gpu))
    net = trainers.model(args.shape, "cuda" if gpu else "cpu")
    if args.lora:
        net = net.to(torch.bfloat16)  # as the product loads what is not trained
    draw, vocabulary = random.Random(0), net.config.vocab_size
    size, prompt = args.length // args.micro, args.length // args.micro // 4
    rows: list[dict[str, list[int]]] = []
    for _ in range(args.batch * (args.steps + 1)):
        ids = trainers.ids(2 * size - prompt, vocabulary, draw)
        if stage == "sft":
            rows.append({"input_ids": ids[:size], "labels": [-100] * prompt + ids[prompt:size]})
        else:
            rows.append({"prompt_ids": ids[:prompt], "chosen_ids": ids[prompt:size], "rejected_ids": ids[size:]})
    with tempfile.TemporaryDirectory() as folder:
        job = trainers.job(stage, config, folder, use_gpu=gpu)
        arguments = trainers.arguments(worker.training_arguments(job))
        make = sft.make_trainer if stage == "sft" else dpo.make_trainer
        trainer = make(job, arguments, net, trainers.tokenizer(), Dataset.from_list(rows))
        found = trainers.timed_steps(trainer)
    sequences = args.batch * int(found["steps"]) * (1 if stage == "sft" else 2)
    name = mfu.device_name(gpu)
    peak = mfu.peak_flops(name)
    speed = mfu.training_flops(net.config, mfu.matmul_parameters(trainer.model), [size] * sequences) / found["seconds"]
    return {
        "stage": stage,
        "device": name,
        "shape": args.shape,
        "step_s": round(found["seconds"] / found["steps"], 4),
        "tokens_per_s": round(sequences * size / found["seconds"], 1),
        "tflops": round(speed / 1e12, 4),
        "mfu": round(speed / peak, 4) if peak else None,
        "peak_gib": round(mfu.peak_memory_gib(gpu), 2),
    }


def main() -> None:
    """Prints a JSON line a stage."""
    import torch

    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=trainers.SHAPES, default="llama-3.2-1b" if gpu else "tiny")
    parser.add_argument("--length", type=int, default=2048 if gpu else 128, help="tokens a packed pass")
    parser.add_argument("--micro", type=int, default=4, help="rows a pass")
    parser.add_argument("--batch", type=int, default=32 if gpu else 8, help="rows a step")
    parser.add_argument("--steps", type=int, default=8 if gpu else 2, help="timed steps; one more warms up")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="LoRA in place of all weights")
    parser.add_argument("--stage", choices=("sft", "dpo"), action="append", help="both where none is named")
    args = parser.parse_args()
    print(small.machine(), file=sys.stderr)
    for stage in args.stage or ("sft", "dpo"):
        print(json.dumps(_measure(args, stage)), flush=True)


if __name__ == "__main__":
    main()
