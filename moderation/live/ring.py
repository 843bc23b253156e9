"""The last seconds of a stream as it was sent, so that a clip begins before its alert.

ffmpeg copies packets into parts (MPEG-TS, each beginning with a key frame, numbered); here the old
ones are deleted, and some are put together for good. Nothing is encoded again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from moderation.errors import MediaError

SUFFIX = ".ts"
PACKET = 188
"""Bytes of a packet of MPEG-TS: a part that is being written may end within one."""
COPIED = 1 << 20


@dataclass(frozen=True, slots=True)
class RingOptions:
    """span_s: how far back it reaches. max_bytes: of all parts together; it goes before span_s. A
    part alone may be as long, where a stream has no key frames. part_s: least seconds of a part.
    lead_s: what a clip shows at least before the frame that it is for."""

    span_s: float = 30.0
    lead_s: float = 3.0
    max_bytes: int = 64 << 20
    part_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """begun_s: when its first packet came, UTC; its frame was captured before, or then."""

    number: int
    begun_s: float
    size: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A file of its own. begun_s: when its first frame came, UTC."""

    path: Path
    begun_s: float
    size: int


def stale(parts: Sequence[Part], now_s: float, options: RingOptions) -> tuple[int, ...]:
    """Numbers of the parts that are no longer kept; `parts` ascend. The last one always is: it is
    being written."""
    kept = list(parts)
    gone = []
    total = sum(part.size for part in kept)
    while len(kept) > 1 and (
        kept[1].begun_s <= now_s - options.span_s or total > options.max_bytes
    ):
        first = kept.pop(0)
        total -= first.size
        gone.append(first.number)
    return tuple(gone)


def reaching(parts: Sequence[Part], captured_s: float) -> tuple[Part, ...]:
    """The parts from the one on that had begun when a frame was captured; all, where it is older
    than the ring. `parts` ascend."""
    begun = [at for at, part in enumerate(parts) if part.begun_s <= captured_s]
    return tuple(parts[begun[-1] if begun else 0 :])


class Ring:
    """The parts of one stream, over all attempts to read it. Any thread may call any method.

    folder: its own, there already, and deleted by who made it.
    """

    def __init__(self, folder: Path, options: RingOptions) -> None:
        self.options = options
        self._folder = folder
        self._lock = threading.Lock()
        self._begun: dict[int, float] = {}
        self._next = 0

    @property
    def pattern(self) -> str:
        """Where ffmpeg writes the parts."""
        return f"{self._folder}/%09d{SUFFIX}"

    def begin(self, now_s: float) -> int:
        """A new attempt starts: the number of its first part."""
        with self._lock:
            numbers = self._numbers()
            self._next = max([self._next, *(number + 1 for number in numbers)])
            # No packet came before now.
            self._begun[self._next] = now_s
            return self._next

    def prune(self, now_s: float) -> None:
        """Delete what is too old or too much. At least once a second keeps the byte cap."""
        with self._lock:
            for number in stale(self._parts(), now_s, self.options):
                self._path(number).unlink(missing_ok=True)
                del self._begun[number]

    def parts(self) -> tuple[Part, ...]:
        with self._lock:
            return self._parts()

    def freeze(self, captured_s: float, target: Path) -> Clip:
        """Write a clip to `target`, a new file, that begins `lead_s` or more before a frame that
        was captured then, and goes on to the newest packet. Where the ring does not reach so far,
        `begun_s` says so. Raises MediaError where there is nothing yet."""
        with self._lock:
            found = reaching(self._parts(), captured_s - self.options.lead_s)
            parts = [part for part in found if part.size >= PACKET]
            if not parts:
                raise MediaError("the stream has sent nothing that can be kept")
            size = 0
            with target.open("xb") as whole:
                for part in parts:
                    size += _append(self._path(part.number), whole, part.size)
        return Clip(target, parts[0].begun_s, size)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:09d}{SUFFIX}"

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob(f"*{SUFFIX}"))

    def _parts(self) -> tuple[Part, ...]:
        """Ascending. A part began when the one before it got its last byte."""
        parts = []
        before_s: float | None = None
        for number in self._numbers():
            found = self._path(number).stat()
            begun_s = self._begun.setdefault(
                number, found.st_mtime if before_s is None else before_s
            )
            parts.append(Part(number, begun_s, found.st_size))
            before_s = found.st_mtime
        return tuple(parts)


def _append(source: Path, whole: BinaryIO, size: int) -> int:
    """Whole packets of the first `size` bytes; how many bytes that were."""
    wanted = left = size - size % PACKET
    with source.open("rb") as part:
        while left and (data := part.read(min(left, COPIED))):
            whole.write(data)
            left -= len(data)
    return wanted - left
