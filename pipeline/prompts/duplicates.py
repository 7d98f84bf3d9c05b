"""Near duplicates: MinHash signatures (rensa), found again by locality-sensitive hashing in a few flat arrays.

A row is compared with the rows that were kept before it, in reading order, so the result hangs on the order alone:
neither on chunks nor on the size of the tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recipe import NearDuplicates
from . import text

SEED = 1
BUCKET = 64
"""Rows that one bucket of the hash keeps, its first ones: a phrase that a million prompts share costs no more."""
RECALL = 0.97
"""Chance that two rows exactly as similar as the threshold are compared at all."""


@dataclass(frozen=True, slots=True)
class Match:
    """The kept row that is most like a new one, of equals the first; counted from 0 in the order of keeping."""

    row: int
    similarity: float


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many hashes: the longest bands that still meet `RECALL` at the threshold."""
    best = (permutations, 1)
    for size in range(2, permutations + 1):
        num = permutations // size
        if 1 - (1 - threshold**size) ** num < RECALL:
            break
        best = (num, size)
    return best


def shingles(words: Sequence[str], size: int) -> list[str]:
    """Runs of `size` words; a shorter text is one shingle."""
    if len(words) <= size:
        return [" ".join(words)]
    if size == 1:
        return list(words)
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


class NearDuplicateIndex:
    """Kept rows by their signatures; about 560 bytes a row with the recipe's defaults."""

    def __init__(self, config: NearDuplicates) -> None:
        self._config = config
        self._num_bands, self._size = bands(config.threshold, config.permutations)
        self._bands = np.arange(self._num_bands)
        self._num = 0
        self._allocate(1024)

    def _allocate(self, capacity: int) -> None:
        """Room for so many rows; those that are there are filed anew."""

        def grown(old: NDArray[Any] | None, width: tuple[int, ...], kind: Any) -> NDArray[Any]:
            new = np.zeros((capacity, *width), dtype=kind)
            if old is not None:
                new[: self._num] = old[: self._num]
            return new

        there = getattr(self, "_keys", None)
        # 16 bits of each hash: unequal ones agree by chance once in 65,536.
        self._signatures = grown(getattr(self, "_signatures", None), (self._config.permutations,), np.uint16)
        self._keys = grown(there, (self._num_bands,), np.uint32)
        self._filed = grown(getattr(self, "_filed", None), (self._num_bands,), np.bool_)
        self._numbers = grown(getattr(self, "_numbers", None), (), np.uint64)
        self._next = np.full((capacity, self._num_bands), -1, dtype=np.int32)
        self._heads = np.full((self._num_bands, 2 * capacity), -1, dtype=np.int32)
        self._mask = np.uint32(2 * capacity - 1)
        for row in range(self._num):
            self._file(row)

    def _file(self, row: int) -> None:
        where = self._bands[self._filed[row]]
        slots = self._keys[row, where] & self._mask
        self._next[row, where] = self._heads[where, slots]
        self._heads[where, slots] = row

    def signatures(self, texts: Sequence[str]) -> NDArray[np.uint32]:
        """MinHash of each text's shingles: (texts, permutations)."""
        from rensa import RMinHash

        sets = [shingles(text.words(t), self._config.shingle) for t in texts]
        found = RMinHash.digests_from_token_sets(sets, self._config.permutations, SEED)
        return np.array(found, dtype=np.uint32).reshape(len(texts), self._config.permutations)

    def take(self, texts: Sequence[str], domains: Sequence[str], *, keep: bool = False) -> list[Match | None]:
        """What each text nearly repeats, or none: those are kept.

        Args:
            keep: keeps them all, whatever they are like.
        """
        if not texts:
            return []
        signatures = self.signatures(texts)
        keys = _keys(signatures, self._num_bands, self._size)
        small = signatures.astype(np.uint16)
        found: list[Match | None] = []
        for i, (full, domain) in enumerate(zip(texts, domains, strict=True)):
            numbers = _hash(text.quantities(full))
            rows, filed = self._similar_keys(keys[i])
            strict = numbers if domain in self._config.same_numbers else None
            match = None if keep else self._best(small[i], rows, strict)
            found.append(match)
            if match is None:
                if self._num == len(self._keys):
                    self._allocate(2 * self._num)
                row, self._num = self._num, self._num + 1
                self._signatures[row], self._keys[row], self._numbers[row] = small[i], keys[i], numbers
                self._filed[row] = filed
                self._file(row)
        return found

    def _similar_keys(self, keys: NDArray[np.uint32]) -> tuple[list[int], NDArray[np.bool_]]:
        """Rows that share a band with these keys, in order, and the bands whose bucket has room for one more."""
        rows: set[int] = set()
        shared = np.zeros(self._num_bands, dtype=np.int32)
        where = self._bands
        at = self._heads[where, keys & self._mask]
        while True:
            live = at >= 0
            if not live.any():
                break
            at, where = at[live], where[live]
            same = self._keys[at, where] == keys[where]
            if same.any():
                rows.update(at[same].tolist())
                shared[where[same]] += 1
            at = self._next[at, where]
        return sorted(rows), shared < BUCKET

    def _best(self, signature: NDArray[np.uint16], rows: list[int], numbers: int | None) -> Match | None:
        if not rows:
            return None
        at = np.array(rows)
        if numbers is not None:
            at = at[self._numbers[at] == np.uint64(numbers)]
            if not len(at):
                return None
        similar = (self._signatures[at] == signature).mean(axis=1)
        best = int(similar.argmax())
        if similar[best] < self._config.threshold:
            return None
        return Match(row=int(at[best]), similarity=float(similar[best]))


def _keys(signatures: NDArray[np.uint32], num: int, size: int) -> NDArray[np.uint32]:
    """One 32-bit key a band: (rows, bands)."""
    parts = signatures[:, : num * size].reshape(len(signatures), num, size).astype(np.uint64)
    keys = np.full(parts.shape[:2], 0x9E3779B97F4A7C15, dtype=np.uint64)
    for i in range(size):
        keys = (keys ^ parts[:, :, i]) * np.uint64(0xBF58476D1CE4E5B9)
        keys ^= keys >> np.uint64(31)
    return (keys >> np.uint64(16)).astype(np.uint32)


def _hash(parts: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(parts).encode(), digest_size=8).digest()) if parts else 0
