"""One stream in hand: its alerts, its states, and what of them is still to be written."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from moderation.aggregate import hits
from moderation.live.alerts import StreamAlerts
from moderation.live.follow import Follower
from moderation.live.line import Scored
from moderation.live.reader import LiveFrame
from moderation.live.slots import FrameBoard, SlotCounts
from moderation.live.watchdog import Changed
from moderation.live_queue import Peaks
from moderation.store import alerts as store
from moderation.store import stream_leases
from moderation.store.engine import Database
from moderation.store.live_records import AlertChange, OwnedStream, Progress, Recorded, StreamLease

log = logging.getLogger(__name__)

MEMORY_S: Final = 10.0
"""How often what the next owner has to know is saved where no alert changes: as much is looked at
twice, at most, after a supervisor died."""
REMEMBERED_S: Final = 45.0
"""Scores of frames that are kept for the evidence of an alert: longer than its clip."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of a stream, since it was taken. last_s, scores: of the newest frame that was scored."""

    counts: SlotCounts = field(default_factory=SlotCounts)
    unscored: int = 0
    reconnects: int = 0
    last_s: float | None = None
    scores: Mapping[str, float] | None = None


class Session:
    """A stream that this supervisor owns. Any thread may call any method.

    What cannot be written stays, in order, until it can be: an alert is late then, and not lost.
    renewed: renews the lease that a write was refused for; where that is refused, too, nothing is
    written any more (`lost`).
    """

    def __init__(
        self,
        db: Database,
        owned: OwnedStream,
        board: FrameBoard[Any],
        *,
        now: Callable[[], float],
        renewed: Callable[[StreamLease], bool],
    ) -> None:
        self.owned = owned
        self.follower: Follower | None = None
        self.lost = False
        self.over = False
        self._db, self._board, self._now, self._renewed = db, board, now, renewed
        self._lock = threading.Lock()
        self._alerts = _restored(owned)
        self._changes: list[AlertChange] = []
        self._states: list[Changed] = []
        self._moments: deque[tuple[float, Peaks | None]] = deque()
        self._opening: dict[str, LiveFrame] = {}
        self._seen = _Seen()
        self._told = self._reported = _Seen()
        self._saved_s = now()
        self._dirty = False

    @property
    def lease(self) -> StreamLease:
        return self.owned.lease

    @property
    def busy(self) -> bool:
        """Whether an alert is open."""
        return bool(self._alerts.open)

    def scored(self, frame: Scored) -> tuple[Recorded, ...]:
        """A frame is back; the alerts that were written. Raises StoreError: they are written
        later."""
        with self._lock:
            self._dirty = True
            self._remember(frame)
            changes = self._alerts.add(frame.captured_s, frame.peaks, frame.picture)
            if frame.frame is not None:
                opened = (one.label for one in changes if one.kind == "opened")
                self._opening |= dict.fromkeys(opened, frame.frame)
            self._changes += changes
            if frame.peaks is None:
                self._seen = replace(self._seen, unscored=self._seen.unscored + 1)
            else:
                scores = {name: one.score for name, one in frame.peaks.items()}
                self._seen = replace(self._seen, last_s=frame.captured_s, scores=scores)
                if hits(frame.peaks, self.owned.policy):
                    self._board.hit(self.lease.stream_id, frame.captured_s)
            return self._write() if self._changes else ()

    def moments(self) -> tuple[tuple[float, Peaks | None], ...]:
        """Capture times of the frames that came back lately, ascending, with their scores."""
        with self._lock:
            return tuple(sorted(self._moments, key=lambda moment: moment[0]))

    def opening(self, label: str) -> LiveFrame | None:
        """The frame that opened the alert of a label just now; to be asked for once."""
        with self._lock:
            return self._opening.pop(label, None)

    def tick(self) -> tuple[Recorded, ...]:
        """What is due without a frame. Raises StoreError."""
        with self._lock:
            now_s = self._now()
            self._changes += self._alerts.tick(now_s)
            due = self._dirty and now_s - self._saved_s >= MEMORY_S
            return self._write() if self._changes or due else ()

    def states(self) -> bool:
        """Let the reader do what is due and write the changes of its state; whether there were
        any. A stream is not over before its alerts are written, by `tick`. Raises StoreError."""
        follower = self.follower
        if follower is None:
            return False
        with self._lock:
            self._states += follower.tick()
            told = False
            while self._states and not self.lost:
                change = self._states[0]
                if change.state.over and self._changes:
                    break
                held = self._report(change)
                self._states.pop(0)
                self.lost = self.lost or not held
                self.over = self.over or (held and change.state.over)
                told = told or held
            return told

    def progress(self, counts: SlotCounts) -> Progress | None:
        """What was seen since `reported`; None where nothing was. counts: the board's."""
        with self._lock:
            follower, before = self.follower, self._reported
            seen = replace(
                self._seen,
                counts=counts,
                reconnects=0 if follower is None else follower.watch.reconnects,
            )
            if seen == before:
                return None
            self._told = seen
        dropped = seen.counts.dropped - before.counts.dropped
        return Progress(
            frames_seen=seen.counts.offered - before.counts.offered,
            frames_dropped=dropped + seen.unscored - before.unscored,
            reconnects=max(0, seen.reconnects - before.reconnects),
            last_frame=None if seen.last_s is None else datetime.fromtimestamp(seen.last_s, UTC),
            scores=seen.scores,
        )

    def reported(self) -> None:
        """What `progress` told last is written."""
        with self._lock:
            self._reported = self._told

    def restarted(self) -> None:
        """A new reader counts its attempts anew."""
        with self._lock:
            self._reported = replace(self._reported, reconnects=0)

    def change(self, owned: OwnedStream) -> None:
        """Its settings are others now: alerts go on under them."""
        with self._lock:
            memory = self._alerts.memory()
            self.owned = owned
            self._alerts = StreamAlerts(owned.policy, hold_s=owned.hold_s, memory=memory)

    def save(self) -> tuple[Recorded, ...]:
        """Before it is given back: all that the next owner has to know. Raises StoreError."""
        with self._lock:
            return self._write()

    def _report(self, change: Changed) -> bool:
        """Whether the lease holds."""

        def report() -> bool:
            return stream_leases.report_state(self._db, self.lease, change.state, change.why)

        return report() or (self._renewed(self.lease) and report())

    def _remember(self, frame: Scored) -> None:
        self._moments.append((frame.captured_s, frame.peaks))
        while self._moments[0][0] < frame.captured_s - REMEMBERED_S:
            self._moments.popleft()

    def _write(self) -> tuple[Recorded, ...]:
        if self.lost or self.over:
            return ()
        recorded = self._record()
        if recorded is None and self._renewed(self.lease):
            # The database was away for longer than the lease: nobody has taken the stream.
            recorded = self._record()
        if recorded is None:
            log.warning("stream %s is another supervisor's", self.lease.stream_id)
            self.lost = True
            return ()
        self._changes = []
        self._saved_s, self._dirty = self._now(), False
        return recorded

    def _record(self) -> tuple[Recorded, ...] | None:
        return store.record(self._db, self.lease, self._changes, memory=self._alerts.memory())


def _restored(owned: OwnedStream) -> StreamAlerts:
    if owned.memory is not None:
        try:
            return StreamAlerts(owned.policy, hold_s=owned.hold_s, memory=owned.memory)
        except ValueError as error:
            # Its open alerts are found again in the store: no second one is opened for them.
            log.warning("stream %s begins anew: %s", owned.lease.stream_id, error)
    return StreamAlerts(owned.policy, hold_s=owned.hold_s)
