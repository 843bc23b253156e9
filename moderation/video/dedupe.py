"""Which frames need no scores of their own, because they look like one that has them. Pure.

A frame is compared with the last one kept, not with the one before it, so that a slow change
adds up until it is seen. Small things change few bits: however alike, no frame goes longer than
`force_s` without a fresh look.
"""

from __future__ import annotations

from dataclasses import dataclass

BITS = 256


@dataclass(frozen=True, slots=True)
class DedupeOptions:
    """max_distance: bits of 256 in which two hashes may differ and the frames still share scores.
    Far below the 31 at which PDQ calls two files the same picture: at 31 most things that cover
    a fiftieth of the picture could enter unseen. Negative: nothing is skipped.
    force_s: seconds after which a frame is scored however alike.
    min_quality: 0..100; a plain picture's hash means little, so below this a frame is kept.
    """

    max_distance: int = 6
    force_s: float = 4.0
    min_quality: int = 50


@dataclass(frozen=True, slots=True)
class FrameHash:
    """A frame as the comparison sees it. pdq: 64 hexadecimal digits. quality: PDQ's, 0..100."""

    time_s: float
    pdq: str
    quality: int


@dataclass(frozen=True, slots=True)
class Choice:
    """source_s: the time of the kept frame whose scores this one has; its own where kept."""

    time_s: float
    source_s: float

    @property
    def kept(self) -> bool:
        return self.source_s == self.time_s


class Deduper:
    """Chooses frame by frame. One for a chunk or a live source, so that a chunk read again, or by
    another worker, chooses the same; the first frame is kept."""

    def __init__(self, options: DedupeOptions) -> None:
        self._options = options
        self._kept: tuple[FrameHash, int] | None = None
        self._last_s: float | None = None

    def add(self, frame: FrameHash) -> Choice:
        """Times must ascend. Raises ValueError for those that do not, and for a broken hash."""
        if self._last_s is not None and frame.time_s <= self._last_s:
            raise ValueError(f"frame at {frame.time_s} s after one at {self._last_s} s")
        bits = _bits(frame.pdq)
        self._last_s = frame.time_s
        if self._kept is not None and self._alike(frame, bits, *self._kept):
            return Choice(frame.time_s, self._kept[0].time_s)
        self._kept = (frame, bits)
        return Choice(frame.time_s, frame.time_s)

    def _alike(self, frame: FrameHash, bits: int, kept: FrameHash, kept_bits: int) -> bool:
        options = self._options
        return (
            frame.time_s - kept.time_s < options.force_s
            and min(frame.quality, kept.quality) >= options.min_quality
            and (bits ^ kept_bits).bit_count() <= options.max_distance
        )


def distance(one: str, other: str) -> int:
    """Bits of 256 in which two PDQ hashes differ. Raises ValueError for a broken hash."""
    return (_bits(one) ^ _bits(other)).bit_count()


def _bits(pdq: str) -> int:
    if len(pdq) != BITS // 4:
        raise ValueError(f"a PDQ hash has {BITS // 4} hexadecimal digits, not {len(pdq)}")
    return int(pdq, 16)
