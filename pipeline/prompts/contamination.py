"""Contamination: training prompts that hold much of an evaluation prompt, by n-grams of words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b

from ..recipe import Contamination
from . import text

COMMON = 100
"""An n-gram that more evaluation prompts share is a phrase of the set ("Answer with one letter") and does not count."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The evaluation prompt that a training prompt holds most of, of equals the first."""

    place: str
    num: int
    """N-grams of it that the training prompt holds."""
    of: int

    def __str__(self) -> str:
        return f"{self.num} of {self.of} n-grams of {self.place} ({self.num / self.of:.2f})"


def grams(words: list[str], n: int) -> set[bytes]:
    """Hashes of all runs of n words; none where there are fewer."""
    return {_hash(words[i : i + n]) for i in range(len(words) - n + 1)}


def _hash(words: list[str]) -> bytes:
    # 8 bytes: among 100 million n-grams two meet by chance with odds of 1 to 3,700.
    return blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class EvaluationIndex:
    """The evaluation prompts' n-grams. Fill it with `add`, `close` it, then ask `overlap`.

    A training prompt of exactly an evaluation prompt's words holds all of it, however short it is.
    """

    def __init__(self, config: Contamination) -> None:
        self._config = config
        self.heldout = config.heldout
        """Whether held-out prompts are to be added."""
        self._places: list[str] = []
        self._sizes: list[int] = []
        self._whole: dict[bytes, tuple[int, int]] = {}
        # One prompt's number, or several: most n-grams stand in one alone.
        self._holders: dict[bytes, int | list[int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, content: str, place: str) -> None:
        """An evaluation prompt; one whose words came before adds nothing."""
        words = text.words(content)
        if (whole := _hash(words)) in self._whole:
            return
        found, number = grams(words, self._config.n), len(self._places)
        self._whole[whole] = number, max(len(found), 1)
        self._places.append(place)
        self._sizes.append(len(found))
        for gram in found:
            there = self._holders.get(gram)
            if there is None:
                self._holders[gram] = number
            elif isinstance(there, int):
                self._holders[gram] = [there, number]
            else:
                there.append(number)

    def close(self) -> None:
        """Leaves out the n-grams that too many prompts share."""
        for gram, held in list(self._holders.items()):
            if isinstance(held, list) and len(held) > COMMON:
                for number in held:
                    self._sizes[number] -= 1
                del self._holders[gram]

    def overlap(self, content: str) -> Overlap | None:
        """The evaluation prompt that this text holds most of, if that is at least the threshold's share."""
        return next(iter(self.overlaps(content)), None)

    def overlaps(self, content: str) -> list[Overlap]:
        """All evaluation prompts of which this text holds the threshold's share; that of which it holds most first."""
        words = text.words(content)
        shared: Counter[int] = Counter()
        for gram in grams(words, self._config.n):
            held = self._holders.get(gram, ())
            shared.update((held,) if isinstance(held, int) else held)
        found = [number for number in shared if shared[number] >= self._config.threshold * self._sizes[number]]
        found.sort(key=lambda number: (-shared[number] / self._sizes[number], number))
        same = self._whole.get(_hash(words))
        first = [] if same is None else [Overlap(place=self._places[same[0]], num=same[1], of=same[1])]
        return first + [
            Overlap(place=self._places[number], num=shared[number], of=self._sizes[number])
            for number in found
            if same is None or number != same[0]
        ]
