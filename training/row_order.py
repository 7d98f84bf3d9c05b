"""The order in which a training reads its rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence


class LengthGroupedSampler:
    """A sampler: a random permutation of the rows in each epoch, sorted by length inside each global batch.

    Each step trains on the same rows as with a random order, so the gradients are the same. Rows of similar length
    share a micro-batch, so there is less padding. The order depends only on the seed and the epoch, so a resumed
    training sees the same order.

    Args:
        epoch: returns the current epoch, from 0.
    """

    def __init__(self, lengths: Iterable[int], global_batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.size, self.seed, self.epoch = list(lengths), global_batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in self._batches(self.epoch()):
            yield from self.arrange(batch)

    def rows_of_step(self, step: int) -> list[int]:
        """The rows of a step. Steps count from 1 and continue across epochs."""
        epoch, batch = divmod(step - 1, math.ceil(len(self.lengths) / self.size))
        return sorted(self._batches(epoch)[batch])

    def arrange(self, batch: Sequence[int]) -> list[int]:
        """The order of one global batch; consecutive rows form its micro-batches."""
        return sorted(batch, key=lambda i: (self.lengths[i], i))

    def _batches(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]
