"""One supervisor's share of the streams: leases kept, taken and given back, turn by turn."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from moderation.live.spread import Supervisor, plan
from moderation.store import fleet, stream_leases
from moderation.store.engine import Database
from moderation.store.live_records import OwnedStream, StreamLease

ROLE = "live"
"""Role of supervisors among the workers."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a supervisor has to do after a turn.

    taken: streams that are its own from now on: start reading. changed: their settings are others
    now. lost: they are another's, or are not wanted any more: end what reads them, write nothing.
    release: others have room for them: end what reads them, then `give_back`; told again until that
    was done. unwatched: streams
    that nobody holds although they are wanted.
    """

    taken: tuple[OwnedStream, ...] = ()
    changed: tuple[OwnedStream, ...] = ()
    lost: tuple[StreamLease, ...] = ()
    release: tuple[StreamLease, ...] = ()
    unwatched: int = 0


class Owner:
    """The leases of one supervisor, which reports itself to the fleet with its `capacity` (streams
    that it can hold). A turn has to come several times in `lease_s` seconds. For one thread."""

    def __init__(self, db: Database, worker_id: str, *, lease_s: float) -> None:
        self._db = db
        self._id = worker_id
        self._lease_s = lease_s
        self._held: dict[str, StreamLease] = {}
        self._revisions: dict[str, int] = {}
        self._leaving: set[str] = set()
        # Learnt in a turn that failed in its middle: told by the next one.
        self._lost: list[StreamLease] = []
        self._changed: dict[str, OwnedStream] = {}

    @property
    def held(self) -> tuple[StreamLease, ...]:
        return tuple(self._held.values())

    def turn(self, *, busy: Collection[str] = (), now: datetime | None = None) -> Turn:
        """Renew, then take or give back what makes the spread even. busy: ids of streams that are
        given back last, such as those with an open alert. Raises StoreError: then nothing is
        known, what was held is held until its lease runs out, and the next turn tells it all."""
        self._renew(now)
        living = fleet.living(self._db, role=ROLE, now=now)
        counted = stream_leases.census(self._db, now=now)
        supervisors = [
            Supervisor(row.id, counted.held.get(row.id, 0), row.capacity or 0) for row in living
        ]
        move = plan(self._id, counted.wanted, counted.free, supervisors)
        taken = stream_leases.take(self._db, self._id, move.take, self._lease_s, now=now)
        for one in taken:
            self._held[one.lease.stream_id] = one.lease
            self._revisions[one.lease.stream_id] = one.revision
        self._choose(move.release, busy)
        turn = Turn(
            taken=tuple(taken),
            changed=tuple(self._changed.values()),
            lost=tuple(self._lost),
            release=tuple(self._held[one] for one in sorted(self._leaving)),
            unwatched=max(0, counted.free - len(taken)),
        )
        self._lost, self._changed = [], {}
        return turn

    def leave(self, lease: StreamLease) -> None:
        """Nothing reads this stream any more: each turn tells to release it until it is given
        back."""
        if self._held.get(lease.stream_id) == lease:
            self._leaving.add(lease.stream_id)

    def give_back(self, leases: Iterable[StreamLease]) -> None:
        """Nothing reads these streams any more: others may take them. Raises StoreError."""
        mine = [one for one in leases if self._held.get(one.stream_id) == one]
        stream_leases.release(self._db, mine)
        for one in mine:
            self._forget(one.stream_id)

    def over(self, lease: StreamLease) -> None:
        """A stream that was reported to be over: its lease is gone already."""
        if self._held.get(lease.stream_id) == lease:
            self._forget(lease.stream_id)

    def _renew(self, now: datetime | None) -> None:
        kept = stream_leases.renew(self._db, self.held, self._lease_s, now=now)
        for one in self.held:
            if one.stream_id not in kept:
                self._lost.append(one)
                self._forget(one.stream_id)
        newer = [one for one in self.held if kept[one.stream_id] != self._revisions[one.stream_id]]
        for stream in stream_leases.reread(self._db, newer):
            self._revisions[stream.lease.stream_id] = stream.revision
            self._changed[stream.lease.stream_id] = stream

    def renewed(self, lease: StreamLease, *, now: datetime | None = None) -> bool:
        """Renew one lease that a write was refused for: late, it holds all the same where nobody
        else has the stream. Raises StoreError. For any thread."""
        return bool(stream_leases.renew(self._db, (lease,), self._lease_s, now=now))

    def _choose(self, count: int, busy: Collection[str]) -> None:
        """Those that go: quiet ones first, of them the newest. Those that are on their way out
        count."""
        staying = [one for one in self._held if one not in self._leaving]
        staying.sort(reverse=True)
        staying.sort(key=lambda one: one in busy)
        go = staying[: max(0, count - len(self._leaving))]
        self._leaving.update(go)

    def _forget(self, stream_id: str) -> None:
        del self._held[stream_id]
        del self._revisions[stream_id]
        self._leaving.discard(stream_id)
        self._changed.pop(stream_id, None)
