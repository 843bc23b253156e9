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
from moderation.live.alike import Alike
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
class _Looked:
    """A frame, and how it looks."""

    taken: Taken[LiveFrame]
    hash: FrameHash

    def scored(self, peaks: Peaks | None) -> Scored:
        plain = self.hash.quality < DedupeOptions().min_quality
        picture = PLAIN if plain else self.hash.pdq
        one = self.taken
        return Scored(one.stream, one.captured_s, peaks, picture, one.frame)


@dataclass(frozen=True, slots=True)
class _Sent:
    """deadline_s: seconds UTC, of the capture times' clock."""

    ask: Ask
    frames: tuple[_Looked, ...]
    deadline_s: float


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
        self._alike = Alike(DedupeOptions())

    def send(self, timeout_s: float) -> tuple[Scored, ...]:
        """Send the next pack, waiting for room and for frames so long each. What looks like a frame
        that has scores comes back with them; what could not be sent comes back unscored."""
        if not self._free.acquire(timeout=timeout_s):
            return ()
        taken = self._board.take(self._room, timeout_s=timeout_s)
        if not taken:
            self._free.release()
            return ()
        looked = [_Looked(one, self._hash(one)) for one in taken]
        shared = [(one, self._alike.shared(one.taken.stream, one.hash)) for one in looked]
        known = tuple(one.scored(peaks) for one, peaks in shared if peaks is not None)
        fresh = [one for one, peaks in shared if peaks is None]
        if not fresh:
            self._free.release()
            return known
        sent, pack = self._pack(fresh)
        with self._lock:
            self._sent[sent.ask.id] = sent
        try:
            self._queue.ask(sent.ask, pack)
        except BrokerError as error:
            log.warning("live frames were not sent: %s", error)
            return (*known, *self._unscored(sent.ask.id))
        return known

    def receive(self, timeout_s: float) -> tuple[Scored, ...]:
        """Frames that have come back within that time, and those that are waited for no longer.
        Raises BrokerError."""
        answer = self._queue.next_answer(self._owner, timeout_s)
        if answer is None:
            return ()
        sent = self._done(answer.id)
        if sent is None or len(answer.peaks) != len(sent.frames):
            return ()
        for one, peaks in zip(sent.frames, answer.peaks, strict=True):
            if peaks is not None:
                self._alike.scored(one.taken.stream, one.taken.captured_s, peaks)
        return tuple(
            one.scored(peaks) for one, peaks in zip(sent.frames, answer.peaks, strict=True)
        )

    def expire(self) -> tuple[Scored, ...]:
        """Give up packs whose answer is overdue; their frames."""
        now_s = self._now()
        with self._lock:
            late = [sent.ask for sent in self._sent.values() if now_s > sent.deadline_s + LATE_S]
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

    def _hash(self, taken: Taken[LiveFrame]) -> FrameHash:
        largest = max(self._keys, key=lambda key: key.width * key.height)
        return FrameHash(taken.captured_s, *pdq_hash(taken.frame.pixels[largest]))

    def _pack(self, looked: Sequence[_Looked]) -> tuple[_Sent, bytes]:
        frames = [one.taken.frame for one in looked]
        pixels = {key: np.stack([frame.pixels[key] for frame in frames]) for key in self._keys}
        floors = self._floors({one.taken.stream for one in looked})
        ask = Ask(new_id("live"), self._owner, self._deadline_s, floors)
        pack = FramePack((), tuple(one.hash for one in looked), pixels)
        return _Sent(ask, tuple(looked), self._now() + self._deadline_s), dump_pack(pack)

    def _unscored(self, id_: str) -> tuple[Scored, ...]:
        sent = self._done(id_)
        if sent is None:
            return ()
        return tuple(one.scored(None) for one in sent.frames)

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
