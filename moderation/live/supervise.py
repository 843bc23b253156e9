"""All streams of one supervisor: begun, watched, written about, and let go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from moderation.aggregate import floors
from moderation.errors import ServiceError
from moderation.live.evidence import EvidenceKeeper, Wanted
from moderation.live.figures import Counting, Figures
from moderation.live.follow import Follower, OnFrame
from moderation.live.line import Scored, ScoreLine, lowest
from moderation.live.owner import Owner
from moderation.live.reader import LiveFrame
from moderation.live.session import Session
from moderation.live.slots import FrameBoard
from moderation.live.thinning import ShortageChange
from moderation.live.veiling import Veiling
from moderation.store import events, stream_leases
from moderation.store.codec import iso
from moderation.store.engine import Database
from moderation.store.live_records import AlertRow, OwnedStream, Recorded, StreamLease

log = logging.getLogger(__name__)

CLOSERS: Final = 8
"""Readers that are ended at a time: a name that is being resolved keeps one for seconds."""
SHORTAGE: Final = "streams.shortage"
"""Kind of the event that says that not all frames can be scored, or that all can again."""

Follow = Callable[[OwnedStream, float, OnFrame], Follower]
"""Begins to follow a stream. The second: capture time of the last frame that was scored of it."""


@dataclass(frozen=True)
class Parts:
    """What a supervisor works with. tell: called with a stream's id after something was written
    about it. now: seconds UTC, of the capture times."""

    db: Database
    owner: Owner
    board: FrameBoard[LiveFrame]
    keeper: EvidenceKeeper
    veiling: Veiling
    follow: Follow
    tell: Callable[[str], None]
    now: Callable[[], float]


class Supervision:
    """`turn`, `tick`, `report` and `close` are for one thread; `results` and `floors` for any."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._counting = Counting()
        self._gone_dropped = 0
        self._share = 1.0

    def turn(self) -> None:
        """Renew the leases; begin and end what that asks for. Raises StoreError."""
        owner, sessions = self._parts.owner, self._all()
        turn = owner.turn(busy={one.lease.stream_id for one in sessions if one.busy})
        self._end(turn.lost, save=False)
        for owned in turn.changed:
            self._change(owned)
        for owned in turn.taken:
            self._begin(owned)
        if turn.release:
            self._end(turn.release, save=True)
            owner.give_back(turn.release)
        if turn.unwatched:
            log.warning("%d streams have no supervisor with room for them", turn.unwatched)

    def tick(self) -> None:
        """What is due: new attempts, changes of state, alerts that are to be closed."""
        for session in self._all():
            try:
                if session.states():
                    self._parts.tell(session.lease.stream_id)
                self._told(session, session.tick())
            except ServiceError as error:
                log.warning("stream %s: written later: %s", session.lease.stream_id, error)
            if session.over:
                self._end((session.lease,), save=False)
                self._parts.owner.over(session.lease)
            elif session.lost:
                self._end((session.lease,), save=False)
                self._parts.owner.leave(session.lease)

    def results(self, scored: Iterable[Scored]) -> None:
        """Frames that are back from the models."""
        for frame in scored:
            self._counting.frames(scored=frame.peaks is not None, dropped=frame.peaks is None)
            with self._lock:
                session = self._sessions.get(frame.stream)
            if session is None:
                continue
            if frame.peaks is not None and frame.frame is not None:
                self._parts.veiling.seen(frame.stream, frame.captured_s, frame.frame.grey)
            try:
                self._told(session, session.scored(frame))
            except ServiceError as error:
                log.warning("stream %s: written later: %s", frame.stream, error)

    def floors(self, streams: Collection[str]) -> Mapping[str, float]:
        """The lowest scores that matter to these streams."""
        with self._lock:
            policies = [
                self._sessions[one].owned.policy for one in streams if one in self._sessions
            ]
        return lowest([floors(policy) for policy in policies])

    def report(self) -> None:
        """Write what was seen, and say where frames could not be scored. Raises StoreError."""
        self._share, changes = self._parts.board.shortage()
        for change in changes:
            self._short(change)
        counts = self._parts.board.counts()
        told = [
            (one, seen)
            for one in self._all()
            if (seen := one.progress(counts[one.lease.stream_id])) is not None
        ]
        reports = {one.lease: seen for one, seen in told}
        refused = stream_leases.report_progress(self._parts.db, reports)
        for session, _ in told:
            if session.lease not in refused:
                session.reported()

    def figures(self, line: ScoreLine) -> Figures:
        counts = self._parts.board.counts()
        return self._counting.figures(
            streams=len(counts),
            under_way=line.under_way(),
            age_s=self._parts.board.age_s(),
            share=self._share,
            overtaken=self._gone_dropped + sum(one.dropped for one in counts.values()),
        )

    def close(self) -> None:
        """End all readers, and give all streams back. Nothing is left of them."""
        leases = self._parts.owner.held
        try:
            self.report()
        except ServiceError as error:
            log.warning("streams: not counted: %s", error)
        self._end(leases, save=True)
        try:
            self._parts.owner.give_back(leases)
        except ServiceError as error:
            log.warning("leases run out by themselves: %s", error)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def _begin(self, owned: OwnedStream) -> None:
        stream_id = owned.lease.stream_id
        parts = self._parts
        with self._lock:
            before = self._sessions.get(stream_id)
        if before is not None:
            self._end((before.lease,), save=False)
        parts.board.add(stream_id, owned.interval_ms / 1000, priority=owned.priority)
        session = Session(parts.db, owned, parts.board, now=parts.now, renewed=parts.owner.renewed)
        session.follower = parts.follow(owned, _last_s(owned), self._taker(stream_id))
        with self._lock:
            self._sessions[stream_id] = session
        log.info("stream %s: %s is watched", stream_id, owned.shown)

    def _taker(self, stream_id: str) -> OnFrame:
        board = self._parts.board
        return lambda frame, _: _offer(board, stream_id, frame)

    def _change(self, owned: OwnedStream) -> None:
        stream_id = owned.lease.stream_id
        with self._lock:
            session = self._sessions.get(stream_id)
        if session is None:
            return
        repaced = owned.interval_ms != session.owned.interval_ms
        session.change(owned)
        self._parts.board.add(stream_id, owned.interval_ms / 1000, priority=owned.priority)
        if repaced and session.follower is not None:
            # The interval is an argument of the program that reads.
            self._parts.keeper.finish(stream_id)
            session.follower.close()
            session.follower = self._parts.follow(owned, self._parts.now(), self._taker(stream_id))
            session.restarted()

    def _end(self, leases: Collection[StreamLease], *, save: bool) -> None:
        with self._lock:
            found = [self._sessions.get(one.stream_id) for one in leases]
        ending = [one for one in found if one is not None]
        if not ending:
            return
        with ThreadPoolExecutor(min(CLOSERS, len(ending))) as pool:
            list(pool.map(lambda one: self._let_go(one, save=save), ending))

    def _let_go(self, session: Session, *, save: bool) -> None:
        stream_id = session.lease.stream_id
        if save:
            try:
                self._told(session, session.save())
            except ServiceError as error:
                log.warning("stream %s: its memory is older: %s", stream_id, error)
        self._parts.keeper.finish(stream_id)
        if session.follower is not None:
            session.follower.close()
        self._parts.veiling.forget(stream_id)
        with self._lock:
            self._sessions.pop(stream_id, None)
            self._gone_dropped += self._parts.board.remove(stream_id).dropped

    def _told(self, session: Session, recorded: Iterable[Recorded]) -> None:
        some = False
        for one in recorded:
            some = True
            log.info("stream %s: %s %s", one.alert.stream_id, one.kind, one.alert.label)
            if one.kind != "alert.opened":
                continue
            self._counting.alert(self._parts.now() - one.alert.captured.timestamp())
            if session.follower is not None:
                self._parts.keeper.want(_wanted(session, session.follower, one.alert))
        if some:
            self._parts.tell(session.lease.stream_id)

    def _short(self, change: ShortageChange) -> None:
        """Told to all whose streams are thinned."""
        log.warning(
            "%.0f %% of the frames are scored: %s",
            100 * change.share,
            "too little for these streams" if change.short else "enough again",
        )
        moment = datetime.now(UTC)
        data: dict[str, Any] = {
            "short": change.short,
            "share": round(change.share, 3),
            "since": iso(moment),
        }
        for tenant in sorted({one.owned.tenant for one in self._all()}):
            with self._parts.db.begin() as connection:
                events.append(
                    connection, tenant=tenant, kind=SHORTAGE, item_id=None, data=data, now=moment
                )
            self._parts.tell(tenant)


def _wanted(session: Session, follower: Follower, alert: AlertRow) -> Wanted:
    return Wanted(alert, follower, session.moments, session.opening(alert.label))


def _offer(board: FrameBoard[LiveFrame], stream_id: str, frame: LiveFrame) -> None:
    board.offer(stream_id, frame.captured_s, frame)


def _last_s(owned: OwnedStream) -> float:
    """Capture time of the last frame that its last owner had scored; 0: there was none."""
    rolling = (owned.memory or {}).get("rolling")
    last = rolling.get("last_s") if isinstance(rolling, dict) else None
    return float(last) if isinstance(last, int | float) else 0.0
