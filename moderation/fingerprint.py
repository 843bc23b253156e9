"""Which videos show the same, by the hashes of frames of each. Pure.

After vPDQ: two frames match where their PDQ hashes differ in few bits of 256, and two videos
where enough frames of each have a match in the other. The frames of two uploads were taken at
moments of their own, so any frame may match any other; but pairs that tell of the same film lie
at one offset between the two, and only those that do are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 40
"""More than the 31 at which PDQ calls two pictures the same: many frames have to agree, and lie
at one offset. Measured, with the share below, in decision 0011."""
MIN_QUALITY = 50
"""Plainer pictures are left out: their hashes mean little."""
MIN_FRAMES = 3
"""Fewer say too little: a title card is found in many films."""
TOLERANCE_S = 5.0
"""How far from the common offset a pair may lie: a frame stands for up to 4 s of near-duplicates
that were left out, and its moment for the step to the next."""
SHARE = 0.25
"""From this part of matching frames on, two videos are called alike."""

_WORDS = 4
_BYTES = 8 * _WORDS
_PAIRS = 1 << 18
"""Pairs that are compared at once: some 10 MiB."""
_FEELERS = 32
"""Frames that are compared first. Where none of so many matches, fewer than one in ten does, and
two different films cost no more."""


class HashedFrame(Protocol):
    """A frame's own time in seconds, its PDQ (64 hexadecimal digits) and PDQ quality, 0..100."""

    @property
    def time_s(self) -> float: ...
    @property
    def pdq(self) -> str: ...
    @property
    def quality(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """times: seconds, ascending. words: (frames, 4), the 256 bits of each frame's hash."""

    times: NDArray[np.float32]
    words: NDArray[np.uint64]

    @classmethod
    def of(cls, frames: Iterable[HashedFrame]) -> Self:
        """In any order; plain frames are left out. Raises ValueError for a broken hash."""
        used = sorted(
            (one for one in frames if one.quality >= MIN_QUALITY), key=lambda one: one.time_s
        )
        hashes = b"".join(bytes.fromhex(one.pdq) for one in used)
        return cls.load(hashes, np.array([one.time_s for one in used], "<f4").tobytes())

    @classmethod
    def load(cls, hashes: bytes, times: bytes) -> Self:
        """What `hashes` and `times_packed` gave. Raises ValueError where they do not fit."""
        words = np.frombuffer(hashes, np.uint64).reshape(-1, _WORDS)
        seconds = np.frombuffer(times, "<f4").astype(np.float32)
        if len(words) != len(seconds):
            raise ValueError(f"{len(words)} hashes and {len(seconds)} times")
        return cls(seconds, words)

    @property
    def hashes(self) -> bytes:
        """32 bytes a frame."""
        return self.words.tobytes()

    @property
    def times_packed(self) -> bytes:
        """float32, little endian."""
        return self.times.astype("<f4").tobytes()

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class Match:
    """share: 0..1, part of the frames that have a match, of that video which has the smaller
    part. offset_s: how much later the first video shows the same."""

    share: float
    offset_s: float = 0.0

    @property
    def alike(self) -> bool:
        return self.share >= SHARE


def compare(
    one: Fingerprint,
    other: Fingerprint,
    *,
    max_shift_s: float,
    tolerance_s: float = TOLERANCE_S,
    max_bits: int = MAX_BITS,
) -> Match:
    """How much of two videos is the same, where one runs at most `max_shift_s` behind the other."""
    if min(len(one), len(other)) < MIN_FRAMES:
        return Match(0.0)
    reach_s = max_shift_s + tolerance_s
    every = np.arange(len(one))
    feelers = every[:: max(1, len(one) // _FEELERS)]
    if len(_pairs(one, other, feelers, reach_s, max_bits)[0]) == 0:
        return Match(0.0)
    left, right = _pairs(one, other, every, reach_s, max_bits)
    offsets = one.times[left] - other.times[right]
    order = np.argsort(offsets, kind="stable")
    left, right, offsets = left[order], right[order], offsets[order]
    ends = np.searchsorted(offsets, offsets + 2 * tolerance_s, side="right")
    first = int(np.argmax(ends - np.arange(len(offsets))))
    last = int(ends[first])
    share = min(
        _distinct(left[first:last], len(one)) / len(one),
        _distinct(right[first:last], len(other)) / len(other),
    )
    return Match(share, float(np.median(offsets[first:last])))


def _pairs(
    one: Fingerprint,
    other: Fingerprint,
    frames: NDArray[np.intp],
    reach_s: float,
    max_bits: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of those frames of the first that match, and of what they match, not more than
    `reach_s` apart."""
    times = one.times[frames]
    starts = np.searchsorted(other.times, times - reach_s, side="left")
    counts = np.searchsorted(other.times, times + reach_s, side="right") - starts
    step = max(1, _PAIRS // max(1, int(counts.max())))
    found = []
    for at in range(0, len(frames), step):
        part = slice(at, at + step)
        number = counts[part]
        left = np.repeat(frames[part], number)
        before = np.repeat(np.cumsum(number) - number, number)
        right = np.repeat(starts[part], number) + np.arange(len(left)) - before
        near = _differing(one.words, left, other.words, right) <= max_bits
        found.append((left[near], right[near]))
    return np.concatenate([ours for ours, _ in found]), np.concatenate([its for _, its in found])


def _differing(
    words: NDArray[np.uint64],
    rows: NDArray[np.intp],
    other_words: NDArray[np.uint64],
    other_rows: NDArray[np.intp],
) -> NDArray[np.uint16]:
    """Bits in which the hashes of each pair differ."""
    bits = np.zeros(len(rows), np.uint16)
    for word, other_word in zip(words.T, other_words.T, strict=True):
        bits += np.bitwise_count(word.take(rows) ^ other_word.take(other_rows))
    return bits


def _distinct(rows: NDArray[np.intp], among: int) -> int:
    return int(np.count_nonzero(np.bincount(rows, minlength=among)))
