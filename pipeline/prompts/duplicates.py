"""Near duplicates: MinHash signatures (rensa) and locality-sensitive hashing in a few flat arrays.

Each row is compared with the rows that were kept before it, in reading order. The result depends only on this order,
not on batches or on the size of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..recipe import NearDuplicates
from . import text

Scalar = TypeVar("Scalar", bound=np.generic)

SEED = 1
BUCKET_SIZE = 64
"""Rows in one bucket of the hash table. Later rows are left out, so a phrase of a million prompts costs no more."""
RECALL = 0.97
"""Probability that two rows whose similarity equals the threshold are compared at all."""


@dataclass(frozen=True, slots=True)
class Match:
    """The kept row that is most similar to a new one; of equal ones, the first. `row` counts the kept rows from 0."""

    row: int
    similarity: float


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Number of bands and hashes per band: the longest bands that reach `RECALL` at the threshold."""
    best = (permutations, 1)
    for size in range(2, permutations + 1):
        num = permutations // size
        if 1 - (1 - threshold**size) ** num < RECALL:
            break
        best = (num, size)
    return best


def shingles(words: Sequence[str], size: int) -> list[str]:
    """Sequences of `size` words. A shorter text is one shingle."""
    if len(words) <= size:
        return [" ".join(words)]
    if size == 1:
        return list(words)
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


class NearDuplicateIndex:
    """Finds near duplicates among the kept rows. Takes about 560 bytes per row with the recipe's defaults."""

    def __init__(self, config: NearDuplicates) -> None:
        self._config = config
        self._num_bands, self._size = bands(config.threshold, config.permutations)
        self._bands = np.arange(self._num_bands)
        self._num = 0
        # 16 bits of each hash: unequal hashes are equal in these with a probability of 1 in 65,536.
        self._signatures = np.zeros((0, config.permutations), dtype=np.uint16)
        self._keys = np.zeros((0, self._num_bands), dtype=np.uint32)
        self._in_bucket = np.zeros((0, self._num_bands), dtype=np.bool_)
        self._numbers = np.zeros(0, dtype=np.uint64)
        self._allocate(1024)

    def _allocate(self, capacity: int) -> None:
        """Makes room for `capacity` rows, and builds the hash table of the present rows again."""

        def grow(old: NDArray[Scalar]) -> NDArray[Scalar]:
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self._num] = old[: self._num]
            return new

        self._signatures, self._keys = grow(self._signatures), grow(self._keys)
        self._in_bucket, self._numbers = grow(self._in_bucket), grow(self._numbers)
        # The buckets are linked lists of rows: the first row of each bucket, and the next one of each row.
        self._next = np.full((capacity, self._num_bands), -1, dtype=np.int32)
        self._heads = np.full((self._num_bands, 2 * capacity), -1, dtype=np.int32)
        self._mask = np.uint32(2 * capacity - 1)
        for row in range(self._num):
            self._insert(row)

    def _insert(self, row: int) -> None:
        bands_ = self._bands[self._in_bucket[row]]
        slots = self._keys[row, bands_] & self._mask
        self._next[row, bands_] = self._heads[bands_, slots]
        self._heads[bands_, slots] = row

    def signatures(self, texts: Sequence[str]) -> NDArray[np.uint32]:
        """MinHash signature of each text's shingles; shape (texts, permutations)."""
        from rensa import RMinHash

        sets = [shingles(text.words(t), self._config.shingle) for t in texts]
        signatures = RMinHash.digests_from_token_sets(sets, self._config.permutations, SEED)
        return np.array(signatures, dtype=np.uint32).reshape(len(texts), self._config.permutations)

    def add(self, texts: Sequence[str], domains: Sequence[str], *, keep_all: bool = False) -> list[Match | None]:
        """The kept row that each text nearly repeats, or None. Texts without a match are kept.

        Args:
            keep_all: keeps every text, without comparing it.
        """
        if not texts:
            return []
        signatures = self.signatures(texts)
        keys = _keys(signatures, self._num_bands, self._size)
        small = signatures.astype(np.uint16)
        matches: list[Match | None] = []
        for i, (content, domain) in enumerate(zip(texts, domains, strict=True)):
            numbers = _hash(text.quantities(content))
            rows, in_bucket = self._similar_keys(keys[i])
            same_numbers = numbers if domain in self._config.same_numbers else None
            match = None if keep_all else self._best(small[i], rows, same_numbers)
            matches.append(match)
            if match is None:
                if self._num == len(self._keys):
                    self._allocate(2 * self._num)
                row, self._num = self._num, self._num + 1
                self._signatures[row], self._keys[row], self._numbers[row] = small[i], keys[i], numbers
                self._in_bucket[row] = in_bucket
                self._insert(row)
        return matches

    def _similar_keys(self, keys: NDArray[np.uint32]) -> tuple[list[int], NDArray[np.bool_]]:
        """Rows that share a band with these keys, in order, and for each band whether its bucket has room for a row."""
        rows: set[int] = set()
        bucket_sizes = np.zeros(self._num_bands, dtype=np.int32)
        bands_ = self._bands
        candidates = self._heads[bands_, keys & self._mask]
        while True:
            exists = candidates >= 0
            if not exists.any():
                break
            candidates, bands_ = candidates[exists], bands_[exists]
            same = self._keys[candidates, bands_] == keys[bands_]
            if same.any():
                rows.update(candidates[same].tolist())
                bucket_sizes[bands_[same]] += 1
            candidates = self._next[candidates, bands_]
        return sorted(rows), bucket_sizes < BUCKET_SIZE

    def _best(self, signature: NDArray[np.uint16], rows: list[int], numbers: int | None) -> Match | None:
        """The most similar of the rows, or None if the similarity is below the threshold.

        Args:
            numbers: hash of the numbers that a match must contain, if it must contain the same ones.
        """
        if not rows:
            return None
        candidates = np.array(rows)
        if numbers is not None:
            candidates = candidates[self._numbers[candidates] == np.uint64(numbers)]
            if not len(candidates):
                return None
        similarities = (self._signatures[candidates] == signature).mean(axis=1)
        best = int(similarities.argmax())
        if similarities[best] < self._config.threshold:
            return None
        return Match(row=int(candidates[best]), similarity=float(similarities[best]))


def _keys(signatures: NDArray[np.uint32], num: int, size: int) -> NDArray[np.uint32]:
    """One 32-bit key per band; shape (rows, bands)."""
    parts = signatures[:, : num * size].reshape(len(signatures), num, size).astype(np.uint64)
    keys = np.full(parts.shape[:2], 0x9E3779B97F4A7C15, dtype=np.uint64)
    for i in range(size):
        keys = (keys ^ parts[:, :, i]) * np.uint64(0xBF58476D1CE4E5B9)
        keys ^= keys >> np.uint64(31)
    return (keys >> np.uint64(16)).astype(np.uint32)


def _hash(parts: Sequence[str]) -> int:
    return int.from_bytes(text.hash_words(parts)) if parts else 0
