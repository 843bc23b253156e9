"""The scoring of live frames: a pack of several streams in, the scores of each frame out."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from moderation.analyse_live import score_frames
from moderation.errors import InferenceError, ServiceError
from moderation.live_queue import Answer, Ask, LiveQueue, Peaks
from moderation.models.runner import Scorer
from moderation.video.pack import FramePack, load_pack

log = logging.getLogger(__name__)

IDLE_S: Final = 0.5
"""How often an idle scorer looks whether it is to stop."""
AWAY_S: Final = 0.5
"""Pause after the broker did not answer."""


@dataclass(frozen=True)
class LiveScoring:
    """Used by several threads."""

    queue: LiveQueue
    scorer: Scorer

    def run(self, stop: threading.Event) -> None:
        """Score until `stop` is set. Live frames do not wait for films: they are not patient."""
        while not stop.is_set():
            try:
                self.once()
            except ServiceError as error:
                log.warning("live frames: %s", error)
                stop.wait(AWAY_S)

    def once(self, timeout_s: float = IDLE_S) -> bool:
        """Score one pack, waiting for it so long; False where none came, or nobody wants it any
        more. Raises BrokerError."""
        found = self.queue.next_ask(timeout_s)
        if found is None:
            return False
        ask = found.ask
        if found.pack is None:
            log.info("a live pack came too late")
            return False
        try:
            peaks = self._peaks(load_pack(found.pack), ask, time.monotonic() + found.left_s)
        except ServiceError as error:
            # Who asked gives up at the deadline, and has a newer frame by then.
            log.warning("live frames were not scored: %s: %s", error.code, error)
            return False
        self.queue.answer(ask.owner, Answer(ask.id, peaks))
        return True

    def _peaks(self, pack: FramePack, ask: Ask, deadline: float) -> tuple[Peaks | None, ...]:
        rows = range(len(pack.hashes))
        try:
            return score_frames(self.scorer, pack.pixels, rows, ask.floors, deadline=deadline)
        except InferenceError:
            # The frame of one stream must not take those of the others along.
            return tuple(self._alone(pack, row, ask, deadline) for row in rows)

    def _alone(self, pack: FramePack, row: int, ask: Ask, deadline: float) -> Peaks | None:
        try:
            return score_frames(self.scorer, pack.pixels, (row,), ask.floors, deadline=deadline)[0]
        except InferenceError as error:
            log.warning("a live frame cannot be scored: %s", error)
            return None
