"""One frame of every stream, the newest, waits to be scored: nothing queues behind a slow model.

The decision which go next is `thinning`'s; here is a lock around it, and the counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from moderation.live.thinning import (
    Shortage,
    ShortageChange,
    ShortageRules,
    Standing,
    Waiting,
    count,
    pick,
)

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Taken(Generic[F]):
    """A frame on its way to the models."""

    stream: str
    captured_s: float
    frame: F


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """Of one stream, since it was added. offered = taken + overtaken + late + waiting.

    overtaken: dropped for a newer frame; late: dropped past the deadline.
    """

    offered: int = 0
    taken: int = 0
    overtaken: int = 0
    late: int = 0

    @property
    def dropped(self) -> int:
        return self.overtaken + self.late


@dataclass(slots=True)
class _Slot(Generic[F]):
    standing: Standing
    counts: SlotCounts
    waiting: Taken[F] | None = None


class FrameBoard(Generic[F]):
    """The newest frame of each of many streams. Any thread may call any method.

    now: seconds UTC, the clock of the capture times. deadline_s: a frame older than this is
    dropped. Offers, drops and what is taken are counted, never silent.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        deadline_s: float,
        rules: ShortageRules | None = None,
    ) -> None:
        self._now = now
        self._deadline_s = deadline_s
        self._rules = rules or ShortageRules()
        self._slots: dict[str, _Slot[F]] = {}
        self._shortage = Shortage(now())
        self._reached = 0.0
        self._changes: list[ShortageChange] = []
        self._filled = threading.Condition()

    def add(self, stream: str, interval_s: float, *, priority: int = 0) -> None:
        """Take a stream in, or give one that is here another interval and priority."""
        with self._filled:
            known = self._slots.get(stream)
            if known is None:
                standing = Standing(interval_s, self._now(), priority=priority)
                self._slots[stream] = _Slot(standing, SlotCounts())
            else:
                known.standing = replace(known.standing, interval_s=interval_s, priority=priority)

    def remove(self, stream: str) -> SlotCounts:
        """Let a stream go, with the frame that waits; its last counts. Raises KeyError."""
        with self._filled:
            return self._slots.pop(stream).counts

    def offer(self, stream: str, captured_s: float, frame: F) -> bool:
        """Put a stream's newest frame here; one that still waits is dropped. True where it was.
        A stream that was let go meanwhile takes no frame."""
        with self._filled:
            slot = self._slots.get(stream)
            if slot is None:
                return False
            overtaken = slot.waiting is not None
            slot.waiting = Taken(stream, captured_s, frame)
            slot.counts = replace(
                slot.counts,
                offered=slot.counts.offered + 1,
                overtaken=slot.counts.overtaken + overtaken,
            )
            if overtaken:
                self._count(dropped=1)
            self._filled.notify()
            return overtaken

    def take(self, room: int, *, timeout_s: float | None = None) -> tuple[Taken[F], ...]:
        """Up to `room` frames, those furthest behind first. Waits until there is one; empty after
        timeout_s, or when `wake` is called. None: waits for ever."""
        with self._filled:
            if not self._any():
                self._filled.wait(timeout_s)
            now_s = self._now()
            waiting = [
                Waiting(slot.waiting.stream, slot.waiting.captured_s, slot.standing)
                for slot in self._slots.values()
                if slot.waiting is not None
            ]
            picked = pick(
                waiting, now_s, reached=self._reached, room=room, deadline_s=self._deadline_s
            )
            for stream in picked.late:
                slot = self._slots[stream]
                slot.waiting = None
                slot.counts = replace(slot.counts, late=slot.counts.late + 1)
            taken = tuple(self._taken(stream, turn) for stream, turn in picked.taken)
            self._count(scored=len(taken), dropped=len(picked.late))
            return taken

    def hit(self, stream: str, captured_s: float) -> None:
        """A frame of the stream showed something: it is looked at more closely for a while."""
        with self._filled:
            slot = self._slots.get(stream)
            if slot is not None:
                slot.standing = replace(slot.standing, hit_s=captured_s)

    def wake(self) -> None:
        """End the waiting of every `take`."""
        with self._filled:
            self._filled.notify_all()

    def counts(self) -> dict[str, SlotCounts]:
        """By stream."""
        with self._filled:
            return {stream: slot.counts for stream, slot in self._slots.items()}

    def age_s(self) -> float:
        """Of the oldest frame that waits; 0 where none does."""
        with self._filled:
            captured = [
                slot.waiting.captured_s for slot in self._slots.values() if slot.waiting is not None
            ]
            return max(0.0, self._now() - min(captured)) if captured else 0.0

    def shortage(self) -> tuple[float, tuple[ShortageChange, ...]]:
        """Share of the frames that were scored lately, 0 to 1, and what is to be told since the
        last call."""
        with self._filled:
            self._count()
            changes, self._changes = tuple(self._changes), []
            return self._shortage.share, changes

    def _any(self) -> bool:
        return any(slot.waiting is not None for slot in self._slots.values())

    def _taken(self, stream: str, turn: float) -> Taken[F]:
        slot = self._slots[stream]
        taken, slot.waiting = slot.waiting, None
        if taken is None:
            raise RuntimeError(f"nothing waits of {stream}")  # it was picked among those that do
        slot.counts = replace(slot.counts, taken=slot.counts.taken + 1)
        slot.standing = replace(slot.standing, served=turn)
        self._reached = max(self._reached, turn)
        return taken

    def _count(self, *, scored: int = 0, dropped: int = 0) -> None:
        self._shortage, told = count(
            self._shortage, self._now(), self._rules, scored=scored, dropped=dropped
        )
        if told is not None:
            self._changes.append(told)
