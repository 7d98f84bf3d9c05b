"""Scoring tokens/s of a reward model's deployment code against a plain loop over the same rows.

    python tests/bench/scoring.py [--rows 256] [--rounds 3]

A random Llama classifier (8 layers of width 512) on CPU rates prompts of `../shared/prompts`, where they are, else of
the demo, with responses whose lengths are log-normal: median 120 tokens, sigma 0.8, between 8 and 900, a long tail as
chat models have it. The plain loop takes the rows as they come, 16 in a batch, padded to the longest. The batcher
takes the same rows from 8 callers at once, 32 in a request, in batches of no more tokens than the loop's mean batch
holds. Tokens are those of the rows, padding not counted; both sides take turns. `--rounds 0` counts the padding alone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import small
import torch
from tiny_reward import WORDS, write_classifier

from fusechat.services import classifier
from fusechat.services.batcher import Batcher
from fusechat.services.classifier import Classifier
from fusechat.services.reward_inputs import RewardInput, batches

BATCH, REQUEST, CALLERS = 16, 32, 8
SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}


def conversations(num: int) -> list[list[dict[str, str]]]:
    """Real prompts, a token a word here, with responses of random words."""
    draw = random.Random(0)
    found = []
    for row in draw.sample(small.prompts(num), num):
        length = int(min(900, max(8, draw.lognormvariate(4.787, 0.8))))
        response = " ".join(draw.choices(WORDS, k=length // 2))  # a word and its blank are two tokens
        found.append([{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": response}])
    return found


def area(passes: Iterable[list[RewardInput]]) -> int:
    """Tokens with padding."""
    return sum(len(batch) * max(len(row.ids) for row in batch) for batch in passes)


def plain(model: Classifier, rows: list[RewardInput]) -> tuple[float, int]:
    """Seconds, and tokens with padding, of a loop in arrival order."""
    began, computed = time.perf_counter(), 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        model.rate(batch)
        computed += len(batch) * max(len(row.ids) for row in batch)
    return time.perf_counter() - began, computed


def collected(model: Classifier, talks: list[list[dict[str, str]]], max_tokens: int) -> tuple[float, int]:
    """The same of the batcher, tokenizing included, asked by several callers at once."""

    async def ask() -> tuple[float, int]:
        batcher = Batcher(model, max_tokens)
        requests = [talks[start : start + REQUEST] for start in range(0, len(talks), REQUEST)]

        async def caller() -> None:
            while requests:
                await batcher.score(requests.pop(0))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return time.perf_counter() - began, batcher.num_computed

    return asyncio.run(ask())


def main() -> None:
    """Prints a line a turn and the ratio of the totals."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_classifier(Path(folder), **SIZES)
        model = classifier.load(Path(folder), dtype="float32", max_length=4096)
    talks = conversations(arguments.rows)
    rows = [row for talk in talks if isinstance(row := model.encode(talk), RewardInput)]
    assert len(rows) == len(talks), "every conversation can be rated"
    tokens = sum(len(row.ids) for row in rows)
    padded = area([rows[start : start + BATCH] for start in range(0, len(rows), BATCH)])
    max_tokens = padded * BATCH // len(rows)
    sorted_ = area(batches(rows, [len(row.ids) for row in rows], max_tokens))
    lengths = sorted(len(row.ids) for row in rows)
    median, longest = lengths[len(lengths) // 2], lengths[-1]
    threads = torch.get_num_threads()
    print(f"{len(rows)} rows, {tokens} tokens: {median} at the median, {longest} at most; {threads} threads")
    print(f"padding: {1 - tokens / padded:.1%} as they come, {1 - tokens / sorted_:.1%} in batches of like length")
    if not arguments.rounds:
        return
    plain(model, rows[:BATCH])
    seconds = {"plain": 0.0, "batcher": 0.0}
    for turn in range(1, arguments.rounds + 1):
        loop_s, loop_tokens = plain(model, rows)
        ours_s, our_tokens = collected(model, talks, max_tokens)
        seconds["plain"] += loop_s
        seconds["batcher"] += ours_s
        print(
            f"turn {turn}: plain {tokens / loop_s:.0f} tokens/s, padding {1 - tokens / loop_tokens:.1%}; "
            f"batcher {tokens / ours_s:.0f} tokens/s, padding {1 - tokens / our_tokens:.1%}; "
            f"ratio {loop_s / ours_s:.2f}"
        )
    print(f"all: ratio {seconds['plain'] / seconds['batcher']:.2f} at {max_tokens} tokens a batch at most")


if __name__ == "__main__":
    main()
