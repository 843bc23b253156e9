"""One stream, watched in this process: read, scored here, its alerts told. No database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.aggregate import PLAIN, floors, hits
from moderation.errors import ServiceError
from moderation.live.alerts import OpenAlert, StreamAlerts
from moderation.live.follow import Follower, OnFrame
from moderation.live.reader import LiveFrame
from moderation.live.slots import FrameBoard
from moderation.live.watchdog import Changed
from moderation.live_queue import Peaks
from moderation.pdq import pdq_hash
from moderation.policy import Policy
from moderation.store.live_records import AlertChange
from moderation.types import InputKey, StreamState
from moderation.video.dedupe import DedupeOptions

log = logging.getLogger(__name__)

DEADLINE_S = 5.0
"""A frame that was captured longer ago helps nobody: there is a newer one."""

Score = Callable[[Mapping[InputKey, NDArray[np.uint8]], Mapping[str, float]], Peaks]
"""Scores of one frame; the second: the lowest that matter. Raises ServiceError."""
Told = Changed | AlertChange


@dataclass(frozen=True, slots=True)
class Standing:
    """How the stream is. late_s: from the capture of the newest scored frame until its scores were
    there; None: none was scored yet."""

    state: StreamState
    scored: int
    dropped: int
    reconnects: int
    late_s: float | None
    scores: Mapping[str, float]
    open: tuple[OpenAlert, ...]


class Watching:
    """Use as a context manager: leaving it ends the reader and its files. For one thread.

    follow: begins to follow the stream, and is given where frames go.
    """

    def __init__(
        self,
        follow: Callable[[OnFrame], Follower],
        score: Score,
        policy: Policy,
        *,
        interval_s: float,
        hold_s: float,
        now: Callable[[], float],
    ) -> None:
        self._score, self._policy, self._now = score, policy, now
        self._alerts = StreamAlerts(policy, hold_s=hold_s)
        self._board: FrameBoard[LiveFrame] = FrameBoard(now, deadline_s=DEADLINE_S)
        self._board.add("", interval_s)
        self._failed = 0
        self._late_s: float | None = None
        self._scores: Mapping[str, float] = {}
        self._follower = follow(self._take)

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()

    def step(self, timeout_s: float) -> tuple[Told, ...]:
        """Do what is due and score the newest frame, waiting for it so long; what changed."""
        told: list[Told] = list(self._follower.tick())
        for taken in self._board.take(1, timeout_s=timeout_s):
            told += self._scored(taken.captured_s, taken.frame)
        told += self._alerts.finish() if self.standing().state.over else ()
        return (*told, *self._alerts.tick(self._now()))

    def finish(self) -> tuple[AlertChange, ...]:
        """It is watched no longer: what is open is closed."""
        return self._alerts.finish()

    def standing(self) -> Standing:
        counts = self._board.counts()[""]
        return Standing(
            state=self._follower.watch.state,
            scored=counts.taken - self._failed,
            dropped=counts.dropped + self._failed,
            reconnects=self._follower.watch.reconnects,
            late_s=self._late_s,
            scores=self._scores,
            open=self._alerts.open,
        )

    def _take(self, frame: LiveFrame, _: object) -> None:
        self._board.offer("", frame.captured_s, frame)

    def _scored(self, captured_s: float, frame: LiveFrame) -> tuple[AlertChange, ...]:
        try:
            peaks = self._score(frame.pixels, floors(self._policy))
        except ServiceError as error:
            log.warning("a frame was not scored: %s", error)
            self._failed += 1
            return self._alerts.add(captured_s, None)
        self._late_s = self._now() - captured_s
        self._scores = {label: one.score for label, one in peaks.items()}
        if hits(peaks, self._policy):
            self._board.hit("", captured_s)
        return self._alerts.add(captured_s, peaks, _picture(frame))


def _picture(frame: LiveFrame) -> str:
    largest = max(frame.pixels, key=lambda key: key.width * key.height)
    pdq, quality = pdq_hash(frame.pixels[largest])
    return pdq if quality >= DedupeOptions().min_quality else PLAIN
