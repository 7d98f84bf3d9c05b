"""SFT tokens/s: fusechat's step with packing over TRL's default (padding, rows in random order, its own head).

    python tests/bench/sft_packing.py [--run RUN] [--rounds 2]

The sides take turns, each in a process of its own, on the same random model and rows, with the same allocator, float32
weights under bf16 autocast. Eight rows a pass are TRL's own default. Tokens are those of the rows; padding does not
count.
"""

from __future__ import annotations

import random
from argparse import Namespace
from typing import Any

import trainers


def _rows(args: Namespace) -> Any:
    from datasets import Dataset

    draw = random.Random(1)
    sizes, _ = trainers.lengths(args.batch * (args.steps + 1), args.run, args.max_length)
    vocabulary = trainers.SHAPES[args.shape]["vocab_size"]
    rows = []
    for prompt, response in sizes:
        ids = trainers.ids(prompt + response, vocabulary, draw)
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return Dataset.from_list(rows)


def _measure(args: Namespace) -> dict[str, float]:
    from fusechat.pipeline.recipe import Sft
    from fusechat.training import sft, worker

    config = Sft(
        learning_rate=1e-5,
        num_epochs=1,
        global_batch_size=args.batch,
        micro_batch_size=args.micro,
        max_length=args.max_length,
        packing=True,
    )
    job = trainers.job("sft", config, "")
    arguments = trainers.arguments(worker.training_arguments(job))
    net, tokenizer, rows = trainers.model(args.shape), trainers.tokenizer(), _rows(args)
    if args.side == "fusechat":
        trainer = sft.make_trainer(job, arguments, net, tokenizer, rows)
    else:
        from trl import SFTConfig, SFTTrainer

        plain = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})
        trainer = SFTTrainer(model=net, args=plain, train_dataset=rows, processing_class=tokenizer)
    found = trainers.timed_steps(trainer)
    return found | {"tokens_per_s": found["tokens"] / found["seconds"]}


def main() -> None:
    """Prints a line a round and the ratio."""
    ratios: list[float] = []
    for theirs, ours in trainers.rounds(__file__, __doc__, _measure, micro=8, rounds=2):
        ratios.append(ours["tokens_per_s"] / theirs["tokens_per_s"])
        print(
            f"round {len(ratios)}: TRL {theirs['tokens_per_s']:.0f} tokens/s, {theirs['peak_gib']:.2f} GiB; "
            f"fusechat {ours['tokens_per_s']:.0f} tokens/s, {ours['peak_gib']:.2f} GiB; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    if ratios:
        print(f"ratio {sum(ratios) / len(ratios):.2f} (asked for: 1.6)")


if __name__ == "__main__":
    main()
