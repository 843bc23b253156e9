"""Which of many PDQ hashes lie within some bits of one hash. Pure, in memory.

Two hashes of 256 bits that differ in at most 31 differ in at most one bit in one of their 16 words
of 16 bits: 31 bits cannot be two in each. So whoever is near is found in few of 16 x 65536 drawers:
those of the words themselves, and of every word with one bit turned over. Only what lies there is
compared.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BYTES: Final = 32
"""A hash."""
MAX_DISTANCE: Final = 31
"""Bits; at more, hashes that are near could be overlooked. At this distance PDQ's authors call two
pictures the same."""

_WORDS = 16
_DRAWERS = 1 << 16
_LINEAR = 4096
"""So many hashes are compared one by one: that is as quick."""
_TURNED = np.array([0] + [1 << bit for bit in range(16)], np.int64)

Rows = NDArray[np.int64]


class HashIndex:
    """Hashes in the order in which they were given. Never changed: readers need no lock."""

    def __init__(self, hashes: bytes = b"") -> None:
        """hashes: 32 bytes each. Raises ValueError for another length."""
        self._take(None, _long_words(hashes))

    def with_more(self, hashes: bytes) -> HashIndex:
        """These, and others behind them; shares its memory with this one where it can. Raises
        ValueError for another length than 32 bytes each."""
        grown = HashIndex()
        grown._take(self._drawers, np.concatenate([self._tail, _long_words(hashes)]))
        return grown

    def within(self, pdq: bytes, distance: int = MAX_DISTANCE) -> tuple[Rows, Rows]:
        """Rows of all hashes that differ from `pdq` (32 bytes) in at most `distance` bits (0..31),
        and in how many they do; the nearest first, equally near ones in order. Raises ValueError
        for another length or distance."""
        if len(pdq) != BYTES or not 0 <= distance <= MAX_DISTANCE:
            raise ValueError(f"no hash of {BYTES} bytes, or no distance in 0..{MAX_DISTANCE}")
        wanted = _long_words(pdq)[0]
        bits = _differing(self._tail, wanted)
        near = np.flatnonzero(bits <= distance)
        rows, bits = near + (len(self) - len(self._tail)), bits[near]
        if self._drawers is not None:
            more_rows, more_bits = self._drawers.within(wanted, distance)
            rows = np.concatenate([more_rows, rows])
            bits = np.concatenate([more_bits, bits])
        order = np.lexsort((rows, bits))
        return rows[order].astype(np.int64), bits[order].astype(np.int64)

    def __len__(self) -> int:
        return len(self._tail) + (0 if self._drawers is None else len(self._drawers.words))

    def _take(self, drawers: _Drawers | None, tail: NDArray[np.uint64]) -> None:
        """A tail that has become long goes into drawers. Beside many hashes, a longer one costs
        little of a lookup, and sorting all of them anew takes long."""
        sorted_ = 0 if drawers is None else len(drawers.words)
        if len(tail) > max(_LINEAR, sorted_ // 8):
            words = tail if drawers is None else np.concatenate([drawers.words, tail])
            drawers, tail = _Drawers(words), tail[:0]
        self._drawers = drawers
        self._tail = tail


class _Drawers:
    """Of each of the 16 words, the rows in the order of their values."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words
        number = len(words)
        short = words.view(np.uint16).reshape(number, _WORDS)
        self._order = np.empty((_WORDS, number), np.int32)
        self._ends = np.zeros((_WORDS, _DRAWERS + 1), np.int32)
        for place in range(_WORDS):
            column = np.ascontiguousarray(short[:, place])
            self._order[place] = np.argsort(column, kind="stable")
            self._ends[place, 1:] = np.cumsum(np.bincount(column, minlength=_DRAWERS))

    def within(self, wanted: NDArray[np.uint64], distance: int) -> tuple[Rows, NDArray[np.uint16]]:
        """As that of `HashIndex`, in no order."""
        number = len(self.words)
        # Below 16 bits, one word is the same.
        turned = _TURNED if distance >= _WORDS else _TURNED[:1]
        drawers = wanted.view(np.uint16).astype(np.int64)[:, None] ^ turned
        places = np.arange(_WORDS)[:, None]
        starts = self._ends[places, drawers].astype(np.int64)
        counts = (self._ends[places, drawers + 1] - starts).ravel()
        firsts = (starts + places * number).ravel()
        before = np.cumsum(counts) - counts
        at = np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))
        rows = self._order.reshape(-1).take(at).astype(np.int64)
        bits = _differing(self.words.take(rows, axis=0), wanted)
        near = bits <= distance
        # Who is near is found in several drawers.
        found, first = np.unique(rows[near], return_index=True)
        return found, bits[near][first]


def _differing(words: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.uint16]:
    bits: NDArray[np.uint16] = np.bitwise_count(words ^ wanted).sum(axis=1, dtype=np.uint16)
    return bits


def _long_words(hashes: bytes) -> NDArray[np.uint64]:
    if len(hashes) % BYTES:
        raise ValueError(f"{len(hashes)} bytes are no hashes of {BYTES} bytes")
    return np.frombuffer(hashes, np.uint64).reshape(-1, BYTES // 8)
