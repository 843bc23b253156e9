"""The way of frames from the board to the models and back: packs of many streams, few at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from moderation.aggregate import PLAIN
from moderation.errors import BrokerError
from moderation.ids import new_id
from moderation.live.reader import LiveFrame
from moderation.live.slots import FrameBoard, Taken
from moderation.live_queue import Ask, LiveQueue, Peaks
from moderation.pdq import pdq_hash
from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions, FrameHash
from moderation.video.pack import FramePack, dump_pack

log = logging.getLogger(__name__)

LATE_S: Final = 1.0
"""How long after its deadline a pack is still waited for: its answer may be under way."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A frame that is back. peaks: None: nobody scored it in time. picture: as of
    `aggregate.Frame`. frame: the frame itself."""

    stream: str
    captured_s: float
    peaks: Peaks | None
    picture: str | None
    frame: LiveFrame | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    ask: Ask
    frames: tuple[tuple[Taken[LiveFrame], str], ...]
    """Each with its picture's hash."""


class ScoreLine:
    """Sends packs and takes answers; one thread for each, any for the counts.

    owner: to whom answers go. keys: sizes of a pack's frames. room: frames of a pack. ahead: packs
    under way at a time: one is scored while the next is on its way, and more would only grow old.
    deadline_s: an answer that takes longer is not waited for. floors: the lowest scores that matter
    to these streams.
    """

    def __init__(
        self,
        board: FrameBoard[LiveFrame],
        queue: LiveQueue,
        *,
        owner: str,
        keys: Sequence[InputKey],
        now: Callable[[], float],
        room: int,
        ahead: int,
        deadline_s: float,
        floors: Callable[[Collection[str]], Mapping[str, float]],
    ) -> None:
        self._board, self._queue, self._owner = board, queue, owner
        self._keys, self._now, self._room = tuple(keys), now, room
        self._deadline_s, self._floors = deadline_s, floors
        self._free = threading.BoundedSemaphore(ahead)
        self._lock = threading.Lock()
        self._sent: dict[str, _Sent] = {}

    def send(self, timeout_s: float) -> tuple[Scored, ...]:
        """Send the next pack, waiting for room and for frames so long each. What could not be sent
        comes back unscored."""
        if not self._free.acquire(timeout=timeout_s):
            return ()
        taken = self._board.take(self._room, timeout_s=timeout_s)
        if not taken:
            self._free.release()
            return ()
        sent, pack = self._pack(taken)
        with self._lock:
            self._sent[sent.ask.id] = sent
        try:
            self._queue.ask(sent.ask, pack)
        except BrokerError as error:
            log.warning("live frames were not sent: %s", error)
            return self._unscored(sent.ask.id)
        return ()

    def receive(self, timeout_s: float) -> tuple[Scored, ...]:
        """Frames that have come back within that time, and those that are waited for no longer.
        Raises BrokerError."""
        answer = self._queue.next_answer(self._owner, timeout_s)
        if answer is None:
            return ()
        sent = self._done(answer.id)
        if sent is None or len(answer.peaks) != len(sent.frames):
            return ()
        return tuple(
            Scored(one.stream, one.captured_s, peaks, picture, one.frame)
            for (one, picture), peaks in zip(sent.frames, answer.peaks, strict=True)
        )

    def expire(self) -> tuple[Scored, ...]:
        """Give up packs whose answer is overdue; their frames."""
        now_s = self._now()
        with self._lock:
            late = [
                sent.ask for sent in self._sent.values() if now_s > sent.ask.deadline_s + LATE_S
            ]
        gone: list[Scored] = []
        for ask in late:
            gone += self._unscored(ask.id)
            try:
                self._queue.withdraw(ask)
            except BrokerError as error:
                log.info("a late pack is left to its own end: %s", error)
        return tuple(gone)

    def under_way(self) -> int:
        """Packs that are not back."""
        with self._lock:
            return len(self._sent)

    def _pack(self, taken: Sequence[Taken[LiveFrame]]) -> tuple[_Sent, bytes]:
        largest = max(self._keys, key=lambda key: key.width * key.height)
        frames, hashes = [], []
        for one in taken:
            pdq, quality = pdq_hash(one.frame.pixels[largest])
            hashes.append(FrameHash(one.captured_s, pdq, quality))
            plain = quality < DedupeOptions().min_quality
            frames.append((one, PLAIN if plain else pdq))
        pixels = {key: np.stack([one.frame.pixels[key] for one in taken]) for key in self._keys}
        floors = self._floors({one.stream for one in taken})
        ask = Ask(new_id("live"), self._owner, self._now() + self._deadline_s, floors)
        return _Sent(ask, tuple(frames)), dump_pack(FramePack((), tuple(hashes), pixels))

    def _unscored(self, id_: str) -> tuple[Scored, ...]:
        sent = self._done(id_)
        if sent is None:
            return ()
        return tuple(
            Scored(one.stream, one.captured_s, None, picture) for one, picture in sent.frames
        )

    def _done(self, id_: str) -> _Sent | None:
        with self._lock:
            sent = self._sent.pop(id_, None)
        if sent is not None:
            self._free.release()
        return sent


def lowest(floors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Floors for frames of streams with different policies: a label that one of them leaves out
    matters at any score, so it is left out."""
    if not floors:
        return {}
    shared = set(floors[0]).intersection(*floors[1:])
    return {label: min(one[label] for one in floors) for label in sorted(shared)}
