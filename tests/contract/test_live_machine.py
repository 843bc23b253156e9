"""Whatever supervisors and callers do in whatever order: only the one owner of a stream writes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from moderation.store import alerts, events, stream_leases, streams
from moderation.store.engine import open_database
from moderation.store.live_records import (
    AlertState,
    Desired,
    Progress,
    StreamChanges,
    StreamLease,
)
from moderation.types import StreamState
from tests.contract.live_data import later, new_stream, segment
from tests.fakes.databases import template

LEASE_S = 10.0
STREAMS = 2
OWNERS = st.sampled_from(["s1", "s2"])
STATES = st.sampled_from(list(StreamState))


@dataclass
class Known:
    """What the model knows of a stream."""

    wanted: bool = True
    lease: StreamLease | None = None
    until: float = 0.0
    frames: int = 0
    deleted: bool = False


class Owners(RuleBasedStateMachine):
    """Leases are kept for ever, so that supervisors act on ones they have long lost."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "test.db"
        path.write_bytes(template().read_bytes())
        self.db = open_database(f"sqlite:///{path}", pool_size=2)
        self.now = 0.0
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    @initialize()
    def make(self) -> None:
        for _ in range(STREAMS):
            row = streams.create(self.db, new_stream(), now=later(self.now))
            self.known[row.id] = Known()

    def holds(self, lease: StreamLease) -> bool:
        known = self.known[lease.stream_id]
        return known.wanted and known.lease == lease and known.until > self.now

    @rule(seconds=st.sampled_from([0.5, 0.5, 4.0, LEASE_S, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=leases, owner=OWNERS, limit=st.integers(1, STREAMS))
    def take(self, owner: str, limit: int) -> object:
        taken = stream_leases.take(self.db, owner, limit, LEASE_S, now=later(self.now))
        free = {
            name
            for name, one in self.known.items()
            if one.wanted and (one.lease is None or one.until < self.now)
        }
        assert len(taken) == min(limit, len(free))
        for one in taken:
            assert one.lease.stream_id in free
            known = self.known[one.lease.stream_id]
            known.lease, known.until = one.lease, self.now + LEASE_S
        return multiple(*(one.lease for one in taken))

    @rule(lease=leases)
    def renew(self, lease: StreamLease) -> None:
        known = self.known[lease.stream_id]
        held = known.wanted and known.lease == lease
        kept = stream_leases.renew(self.db, [lease], LEASE_S, now=later(self.now))
        assert (lease.stream_id in kept) == held
        if held:
            known.until = self.now + LEASE_S

    @rule(lease=leases)
    def release(self, lease: StreamLease) -> None:
        known = self.known[lease.stream_id]
        held = known.lease == lease
        assert stream_leases.release(self.db, [lease]) == held
        if held:
            known.lease = None

    def now_of(self, lease: StreamLease, *, current: bool) -> StreamLease:
        """The lease, or the one of now of its stream: most of those that are kept are old."""
        latest = self.known[lease.stream_id].lease
        return latest if current and latest is not None else lease

    @rule(lease=leases, current=st.booleans(), state=STATES)
    def report_state(self, lease: StreamLease, current: bool, state: StreamState) -> None:
        lease = self.now_of(lease, current=current)
        allowed = self.holds(lease)
        moment = later(self.now)
        assert stream_leases.report_state(self.db, lease, state, now=moment) == allowed
        if allowed and state.over:
            self.end(lease.stream_id)

    @rule(lease=leases, current=st.booleans())
    def report_progress(self, lease: StreamLease, current: bool) -> None:
        lease = self.now_of(lease, current=current)
        allowed = self.holds(lease)
        seen = {lease: Progress(frames_seen=1)}
        refused = stream_leases.report_progress(self.db, seen, now=later(self.now))
        assert (not refused) == allowed
        self.known[lease.stream_id].frames += allowed

    @rule(
        lease=leases,
        current=st.booleans(),
        kind=st.sampled_from(["opened", "escalated", "closed"]),
    )
    def alert(self, lease: StreamLease, current: bool, kind: str) -> None:
        lease = self.now_of(lease, current=current)
        allowed = self.holds(lease)
        change = segment(kind, self.now, start=self.now)  # type: ignore[arg-type]
        recorded = alerts.record(self.db, lease, [change], now=later(self.now))
        assert (recorded is not None) == allowed

    @rule()
    def sweep(self) -> None:
        lost = {
            name
            for name, one in self.known.items()
            if one.wanted and one.lease is not None and one.until < self.now
        }
        assert set(stream_leases.sweep_unwatched(self.db, now=later(self.now))) == lost
        for name in lost:
            self.known[name].lease = None

    @rule(which=st.integers(0, STREAMS - 1), desired=st.sampled_from(Desired))
    def want(self, which: int, desired: Desired) -> None:
        name = sorted(self.known)[which]
        if self.known[name].deleted:
            return
        changes = StreamChanges(desired=desired)
        row = streams.change(self.db, "default", name, changes, now=later(self.now))
        if desired is Desired.STOP:
            self.end(name)
        self.known[name].wanted = not row.state.over
        assert row.state.over == (desired is Desired.STOP)

    @rule(which=st.integers(0, 20))
    def delete(self, which: int) -> None:
        """Seldom."""
        if which >= STREAMS:
            return
        name = sorted(self.known)[which]
        if not self.known[name].deleted:
            streams.remove(self.db, "default", name, actor="key", now=later(self.now))
            self.end(name)
            self.known[name].deleted = True

    def end(self, name: str) -> None:
        self.known[name].wanted = False
        self.known[name].lease = None

    @invariant()
    def what_was_written_is_what_was_allowed(self) -> None:
        told = events.after(self.db, "default", 0, limit=10_000)
        for name, known in self.known.items():
            mine = [row for row in told if row.stream_id == name]
            states = [row.data for row in mine if row.kind == "stream.state"]
            before = [None, *(one["state"] for one in states)]
            assert [one["previous"] for one in states] == before[:-1], "no change is untold"
            assert all(a != b for a, b in pairwise(before))
            opened = [row.data["alert_id"] for row in mine if row.kind == "alert.opened"]
            closed = [row.data["alert_id"] for row in mine if row.kind == "alert.closed"]
            assert len(set(opened)) == len(opened)
            assert len(set(closed)) == len(closed)
            open_now = alerts.of_stream(self.db, "default", name, state=AlertState.OPEN)
            assert {row.id for row in open_now} == set(opened) - set(closed)
            assert not (open_now and not known.wanted), "what is over has no open alert"
            if not known.deleted:
                row = streams.get(self.db, "default", name, now=later(self.now))
                assert (row.frames_seen, row.state.over) == (known.frames, not known.wanted)
                assert row.state.value == before[-1]


TestOwners = Owners.TestCase
TestOwners.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
