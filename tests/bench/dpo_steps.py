"""DPO's step time: TRL's default (reference model in the loop, rows in random order) over fusechat's.

    python tests/bench/dpo_steps.py [--run RUN] [--rounds 1]

fusechat computes the reference log-probabilities before the first step and forms batches by length; the time of that
pass is printed apart, since a second training of the same pairs finds its values on disk. The sides take turns, each in
a process of its own, on the same random model and pairs, with the same allocator, float32 weights under bf16 autocast.
"""

from __future__ import annotations

import random
import tempfile
import time
from argparse import Namespace
from typing import Any

import trainers


def _pairs(args: Namespace) -> Any:
    from datasets import Dataset

    draw = random.Random(1)
    sizes, _ = trainers.lengths(2 * args.batch * (args.steps + 1), args.run, args.max_length)
    vocabulary = trainers.SHAPES[args.shape]["vocab_size"]
    rows = []
    for (prompt, chosen), (_, rejected) in zip(sizes[::2], sizes[1::2], strict=True):
        room = args.max_length - prompt
        rows.append(
            {
                "prompt_ids": trainers.ids(prompt, vocabulary, draw),
                "chosen_ids": trainers.ids(min(chosen, room), vocabulary, draw),
                "rejected_ids": trainers.ids(min(rejected, room), vocabulary, draw),
            }
        )
    return Dataset.from_list(rows)


def _measure(args: Namespace) -> dict[str, float]:
    from fusechat.pipeline.recipe import Dpo
    from fusechat.training import dpo, worker

    config = Dpo(
        learning_rate=1e-6,
        beta=10,
        global_batch_size=args.batch,
        micro_batch_size=args.micro,
        max_length=args.max_length,
    )
    with tempfile.TemporaryDirectory() as folder:
        job = trainers.job("dpo", config, folder)
        arguments = trainers.arguments(worker.training_arguments(job))
        net, tokenizer, pairs = trainers.model(args.shape), trainers.tokenizer(), _pairs(args)
        started = time.monotonic()
        if args.side == "fusechat":
            trainer = dpo.make_trainer(job, arguments, net, tokenizer, pairs)
        else:
            from trl import DPOConfig, DPOTrainer

            class Trainer(DPOTrainer):  # type: ignore[misc]
                """TRL's trainer as it is, on pairs that come tokenized."""

                def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                    return dataset

            plain = DPOConfig(**arguments, beta=config.beta, loss_type=[config.loss_type])
            reference = trainers.model(args.shape)
            trainer = Trainer(
                model=net, ref_model=reference, args=plain, train_dataset=pairs, processing_class=tokenizer
            )
        before = time.monotonic() - started
        return trainers.timed_steps(trainer) | {"before_s": before}


def main() -> None:
    """Prints a line a round and the ratio."""
    ratios: list[float] = []
    for theirs, ours in trainers.rounds(__file__, __doc__, _measure, micro=4, rounds=1):
        ratios.append(theirs["seconds"] / theirs["steps"] / (ours["seconds"] / ours["steps"]))
        print(
            f"round {len(ratios)}: TRL {theirs['seconds'] / theirs['steps']:.2f} s a step, "
            f"{theirs['peak_gib']:.2f} GiB; fusechat {ours['seconds'] / ours['steps']:.2f} s a step, "
            f"{ours['peak_gib']:.2f} GiB, {ours['before_s']:.1f} s before the first; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    if ratios:
        print(f"ratio {sum(ratios) / len(ratios):.2f} (asked for: 1.4)")


if __name__ == "__main__":
    main()
