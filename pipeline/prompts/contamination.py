"""Contamination: training prompts that contain much of an evaluation prompt, measured by n-grams of words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..recipe import Contamination
from . import text

COMMON = 100
"""An n-gram in more evaluation prompts than this is a phrase of the set ("Answer with one letter") and is ignored."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The evaluation prompt that a training prompt contains most of; of equal ones, the first."""

    place: str
    num: int
    """N-grams of it in the training prompt."""
    of: int
    """N-grams of it."""

    def __str__(self) -> str:
        return f"{self.num} of {self.of} n-grams of {self.place} ({self.num / self.of:.2f})"


def grams(words: list[str], n: int) -> set[bytes]:
    """Hashes of all sequences of n words; empty if there are fewer words."""
    # With 8 bytes, the probability of any collision among 100 million n-grams is 1 in 3,700.
    return {text.hash_words(words[i : i + n]) for i in range(len(words) - n + 1)}


class EvaluationIndex:
    """The n-grams of the evaluation prompts. Call `add` for each, then `close`, then `overlap`.

    A training prompt that has exactly the words of an evaluation prompt contains all of it, however short it is.
    """

    def __init__(self, config: Contamination) -> None:
        self._config = config
        self.heldout = config.heldout
        """Whether held-out prompts must be added."""
        self._places: list[str] = []
        self._sizes: list[int] = []
        self._whole: dict[bytes, tuple[int, int]] = {}
        # n-gram -> number of its prompt, or a list of numbers. Most n-grams occur in only one prompt.
        self._prompts_of: dict[bytes, int | list[int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, content: str, place: str) -> None:
        """Adds an evaluation prompt, unless an earlier one has the same words."""
        words = text.words(content)
        if (whole := text.hash_words(words)) in self._whole:
            return
        prompt_grams, number = grams(words, self._config.n), len(self._places)
        self._whole[whole] = number, max(len(prompt_grams), 1)
        self._places.append(place)
        self._sizes.append(len(prompt_grams))
        for gram in prompt_grams:
            numbers = self._prompts_of.get(gram)
            if numbers is None:
                self._prompts_of[gram] = number
            elif isinstance(numbers, int):
                self._prompts_of[gram] = [numbers, number]
            else:
                numbers.append(number)

    def close(self) -> None:
        """Removes the n-grams that occur in too many prompts."""
        for gram, numbers in list(self._prompts_of.items()):
            if isinstance(numbers, list) and len(numbers) > COMMON:
                for number in numbers:
                    self._sizes[number] -= 1
                del self._prompts_of[gram]

    def overlap(self, content: str) -> Overlap | None:
        """The evaluation prompt that this text contains most of, or None if the share is below the threshold."""
        return next(iter(self.overlaps(content)), None)

    def overlaps(self, content: str) -> list[Overlap]:
        """All evaluation prompts of which this text contains at least the threshold's share; largest share first."""
        words = text.words(content)
        shared: Counter[int] = Counter()
        for gram in grams(words, self._config.n):
            numbers = self._prompts_of.get(gram, ())
            shared.update((numbers,) if isinstance(numbers, int) else numbers)
        found = [number for number in shared if shared[number] >= self._config.threshold * self._sizes[number]]
        found.sort(key=lambda number: (-shared[number] / self._sizes[number], number))
        same = self._whole.get(text.hash_words(words))
        first = [] if same is None else [Overlap(place=self._places[same[0]], num=same[1], of=same[1])]
        return first + [
            Overlap(place=self._places[number], num=shared[number], of=self._sizes[number])
            for number in found
            if same is None or number != same[0]
        ]
