"""What the training benchmarks share: a random Llama, rows of given lengths, trainers without Ray, peak memory."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import small

from fusechat.pipeline.machine.hardware import allocator_env, num_cores
from fusechat.pipeline.recipe import Optimization
from fusechat.training.driver import TrainingJob
from fusechat.training.mfu import peak_memory_gib

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "smollm2-6": {  # SmolLM2-135M with 6 of its 30 layers
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}
"""Sizes of random models, as their makers' configurations have them."""


def configuration(shape: str) -> Any:
    """A Llama of that shape."""
    from transformers import LlamaConfig

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaConfig(**SHAPES[shape], **ids, max_position_embeddings=4096)


def model(shape: str, device: str = "cpu") -> Any:
    """A Llama with random float32 weights."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        return LlamaForCausalLM(configuration(shape))


def tokenizer() -> Any:
    """Enough of a tokenizer for a trainer whose rows come tokenized."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def lengths(num: int, run: Path | None, limit: int) -> tuple[list[tuple[int, int]], str]:
    """Tokens of prompt and response of `num` rows, and where they are from: a run's responses where one is given, else
    those of response_lengths.py."""
    if run is not None:
        import pyarrow.parquet as pq

        files = sorted((run / "sample").rglob("*.parquet"))
        rows = [row for f in files for row in pq.read_table(f).to_pylist() if row["finish_reason"] == "stop"]
        found = [(int(row["prompt_tokens"]), int(row["completion_tokens"])) for row in rows]
        where = f"{len(found)} responses of {run}"
    else:
        file = Path(__file__).with_name("response_lengths.json")
        found = [(prompt, response) for prompt, response in json.loads(file.read_text())]
        where = f"{len(found)} responses of SmolLM2-135M"
    draw = random.Random(0)
    fitting = [(p, r) for p, r in found if p + 4 <= limit]
    return [(p, min(r, limit - p)) for p, r in (draw.choice(fitting) for _ in range(num))], where


def ids(num: int, vocabulary: int, draw: random.Random) -> list[int]:
    """Random token ids, none of them special."""
    return [draw.randrange(3, vocabulary) for _ in range(num)]


def arguments(trainer: dict[str, Any]) -> dict[str, Any]:
    """The product's arguments of a trainer, for a measurement: nothing is saved, nothing is printed."""
    return trainer | {"save_strategy": "no", "logging_steps": 1_000_000, "output_dir": tempfile.gettempdir()}


def job(stage: str, config: Optimization, output: str, *, use_gpu: bool = False) -> TrainingJob:
    """A training of one worker, as the product's own steps take it.

    Args:
        output: folder of the reference log-probabilities, which SFT has none of.
    """
    return TrainingJob(
        stage=stage,
        model="",
        output=output,
        config=config,
        num_workers=1,
        accumulation=config.global_batch_size // config.micro_batch_size,
        use_gpu=use_gpu,
        chat_template=None,
        seed=0,
    )


def timed_steps(trainer: Any) -> dict[str, float]:
    """Trains to the end; seconds, steps and tokens (no padding) after the first step, which warms up, and the peak
    memory of the process in GiB."""
    import time

    from transformers import PrinterCallback, TrainerCallback

    marks: list[tuple[float, int]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.monotonic(), trainer._total_train_tokens))

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.train()
    (began, seen), (ended, all_seen) = marks[0], marks[-1]
    return {
        "seconds": ended - began,
        "steps": len(marks) - 1,
        "tokens": all_seen - seen,
        "peak_gib": peak_memory_gib(False),
    }


def side(script: str, name: str, options: list[str]) -> dict[str, float]:
    """Runs one side in a process of its own, under the allocator that both sides get."""
    import os

    env = os.environ | allocator_env() | {"OMP_NUM_THREADS": str(num_cores()), "TRANSFORMERS_VERBOSITY": "error"}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, script, "--side", name, *options]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rounds(
    script: str, text: str | None, measure: Callable[[argparse.Namespace], dict[str, float]], *, micro: int, rounds: int
) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """What TRL's side and fusechat's measured, by rounds; nothing in a side's own process, which measures and prints.

    Args:
        script, text: the benchmark's file and docstring.
        measure: one side, `args.side`.
        micro, rounds: defaults of the options.
    """
    options = argparse.ArgumentParser(description=text)
    options.add_argument("--shape", choices=SHAPES, default="smollm2-6")
    options.add_argument("--micro", type=int, default=micro, help="rows a forward pass")
    options.add_argument("--batch", type=int, default=8, help="rows a step")
    options.add_argument("--steps", type=int, default=1, help="timed steps; one more warms up")
    options.add_argument("--max-length", type=int, default=1024)
    options.add_argument("--run", type=Path, default=None, help="a run directory whose responses give the lengths")
    options.add_argument("--rounds", type=int, default=rounds)
    options.add_argument("--side", default=None, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.side:
        print(json.dumps(measure(args)))
        return
    print(small.machine(), "| lengths:", lengths(args.batch, args.run, args.max_length)[1])
    for _ in range(args.rounds):
        yield side(script, "trl", sys.argv[1:]), side(script, "fusechat", sys.argv[1:])
