"""Near-duplicate removal: seconds for 200,000 prompts, and recall and precision on planted edits.

`.venv/bin/python tests/bench/near_duplicates.py [--rows 200000] [--planted 3000]`

The texts are varied: 20 to 80 words drawn by rank from 20,000 made-up words (Zipf's law, as in English), in
sentences that start with one of 200 openings, as prompts do. Of the 200,000, every tenth is an earlier one with 5% of
its words edited. The time is the whole stage's: reading, normalising, signatures, index, Parquet.

The planted set: base texts, each with copies of which 5%, 10% or 20% of the words (at least one) were replaced,
inserted or deleted, a third of each; all shuffled. Recall is the share of copies that are rejects; precision the
share of rejects whose match is of the same base.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

import small

from fusechat.pipeline.prompts.duplicates import NearDuplicateIndex
from fusechat.pipeline.prompts.intake import Intake
from fusechat.pipeline.recipe import NearDuplicates, Prompts
from fusechat.pipeline.storage.run_dir import RunDir

SETTINGS = [(2, 0.7), (2, 0.6), (2, 0.5), (1, 0.7), (3, 0.7), (3, 0.5)]


class Writer:
    """Draws texts; the same seed, the same texts."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "ing")]
        self._words = ["".join(self._draw.choices(syllables, k=self._draw.choice((1, 2, 2, 3)))) for _ in range(20_000)]
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))
        self._openings = [self.words(4) for _ in range(200)]

    def words(self, num: int) -> list[str]:
        """Words by Zipf's law."""
        return self._draw.choices(self._words, cum_weights=self._weights, k=num)

    def text(self) -> list[str]:
        """A prompt's words."""
        return self._draw.choice(self._openings) + self.words(self._draw.randint(16, 76))

    def edited(self, words: list[str], share: float) -> list[str]:
        """A copy with that share of its words replaced, removed or preceded by another."""
        copy = [[w] for w in words]
        for place in self._draw.sample(range(len(words)), max(1, round(share * len(words)))):
            (other,) = self.words(1)
            copy[place] = self._draw.choice(([other], [], [other, words[place]]))
        return [w for part in copy for w in part]

    def shuffled(self, num: int) -> list[int]:
        """Numbers below `num` in random order."""
        return self._draw.sample(range(num), num)


def measure_speed(num: int) -> None:
    """Prints the seconds of the stage without and with the removal."""
    writer = Writer(1)
    texts: list[list[str]] = []
    for i in range(num):
        texts.append(writer.edited(texts[(i * 7919) % i], 0.05) if i % 10 == 9 else writer.text())
    print(
        f"| near duplicates | rows | s | of them computing, s | rejects | peak memory, GiB |\n{'| --- ' * 6}|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "train.jsonl").open("w") as out:
            for i, text in enumerate(texts):
                out.write(json.dumps({"id": str(i), "domain": "instruction", "prompt": " ".join(text)}) + "\n")
        del texts
        for near in (None, NearDuplicates()):
            config = Prompts(train=("train.jsonl",), near_duplicates=near)
            intake = Intake(config, Path(folder), RunDir(f"{folder}/{near is not None}"), 64, ())
            began, busy = time.monotonic(), time.process_time()
            intake.read()
            seconds, busy = time.monotonic() - began, time.process_time() - busy
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            name = "removed" if near is not None else "kept"
            print(
                f"| {name} | {num:,} | {seconds:.1f} | {busy:.1f} | {intake.num_rejects:,} | {peak:.2f} |", flush=True
            )


def measure_quality(num: int) -> None:
    """Prints recall and precision for each share of edited words and some settings."""
    print("\n| words a shingle | threshold | edited | recall, % | precision, % |\n| --- | --- | --- | --- | --- |")
    for shingle, threshold in SETTINGS:
        for share in (0.05, 0.1, 0.2):
            writer = Writer(2)
            bases = [writer.text() for _ in range(num)]
            rows = [(i, b) for i, b in enumerate(bases)] + [(i, writer.edited(b, share)) for i, b in enumerate(bases)]
            rows = [rows[i] for i in writer.shuffled(len(rows))]
            index = NearDuplicateIndex(NearDuplicates(shingle=shingle, threshold=threshold))
            found = index.add([" ".join(words) for _, words in rows], ["instruction"] * len(rows))
            kept, right, rejects = [], 0, 0
            for (base, _), match in zip(rows, found, strict=True):
                if match is None:
                    kept.append(base)
                    continue
                rejects += 1
                right += kept[match.row] == base
            precision = f"{100 * right / rejects:.1f}" if rejects else "none found"
            print(f"| {shingle} | {threshold} | {share:.0%} | {100 * right / num:.1f} | {precision} |", flush=True)


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--planted", type=int, default=3000)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    measure_speed(options.rows)
    measure_quality(options.planted)


if __name__ == "__main__":
    main()
