"""A supervisor's streams, from lease to alert: no reader, no models, a real store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import update

from moderation.errors import StoreError
from moderation.live.evidence import EvidenceKeeper, Wanted
from moderation.live.follow import Follower, OnFrame
from moderation.live.line import Scored
from moderation.live.owner import Owner
from moderation.live.reader import LiveFrame
from moderation.live.session import Session
from moderation.live.slots import FrameBoard
from moderation.live.supervise import SHORTAGE, Parts, Supervision
from moderation.live.veiling import Veiling
from moderation.live.watchdog import Changed, Watch
from moderation.policy import Policy, Rule
from moderation.store import alerts, events, fleet, stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import AlertState, Desired, OwnedStream, StreamChanges, StreamRow
from moderation.store.records import WorkerRow
from moderation.store.tables import stream_lease
from moderation.types import LabelScore, StreamState
from tests.contract.live_data import new_stream
from tests.fakes.live_line import live_frame

PORN = "porn.explicit"
RULE = Rule(label=PORN, review_at=0.5, block_at=0.9, min_frames=2, window=3)
POLICY = Policy(id="test", version=1, rules=(RULE,))
LEASE_S = 30.0


class FakeFollower:
    """A `Follower` whose states a test sets."""

    def __init__(self, owned: OwnedStream, after_s: float, on_frame: OnFrame) -> None:
        self.owned, self.after_s, self.on_frame = owned, after_s, on_frame
        self.watch = Watch(StreamState.CONNECTING)
        self.changes: list[Changed] = []
        self.closed = False

    def tick(self) -> tuple[Changed, ...]:
        changes, self.changes = tuple(self.changes), []
        return changes

    def close(self) -> tuple[Changed, ...]:
        self.closed = True
        return (Changed(self.watch.state, StreamState.ENDED, "it was told to stop", 0.0),)

    def say(self, state: StreamState, why: str = "so it is") -> None:
        self.changes.append(Changed(None, state, why, time.time()))


@dataclass
class FakeKeeper:
    """An `EvidenceKeeper` that notes what it is asked for."""

    wanted: list[Wanted] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def want(self, wanted: Wanted) -> None:
        self.wanted.append(wanted)

    def finish(self, stream_id: str) -> None:
        self.finished.append(stream_id)


class Bench:
    """One supervisor on a database."""

    def __init__(self, db: Database, name: str = "sup-1") -> None:
        self.db, self.name = db, name
        self.followers: list[FakeFollower] = []
        self.keeper = FakeKeeper()
        self.told: list[str] = []
        self.owner = Owner(db, name, lease_s=LEASE_S)
        self.board: FrameBoard[LiveFrame] = FrameBoard(time.time, deadline_s=60.0)
        self.veiling = Veiling(time.time)
        self.supervision = Supervision(
            Parts(
                db=db,
                owner=self.owner,
                board=self.board,
                keeper=cast(EvidenceKeeper, self.keeper),
                veiling=self.veiling,
                follow=self._follow,
                tell=self.told.append,
                now=time.time,
            )
        )
        self.beat(9)

    def beat(self, capacity: int) -> None:
        row = WorkerRow(self.name, "live", "here", 1, "ready", None, None, [], capacity=capacity)
        fleet.heartbeat(self.db, row)

    def _follow(self, owned: OwnedStream, after_s: float, on_frame: OnFrame) -> Follower:
        made = FakeFollower(owned, after_s, on_frame)
        self.followers.append(made)
        return cast(Follower, made)

    def watch(self, **changes: Any) -> StreamRow:
        """A new stream that this supervisor takes."""
        row = streams.create(self.db, new_stream(**({"policy": POLICY} | changes)))
        self.supervision.turn()
        assert self.followers[-1].owned.lease.stream_id == row.id
        return row

    def show(self, stream_id: str, *scores: float, at: float | None = None) -> None:
        """Frames of a stream come back with these scores, a moment apart."""
        start = time.time() if at is None else at
        for number, score in enumerate(scores):
            peaks = {PORN: LabelScore(PORN, score, "m@1")}
            frame = Scored(stream_id, start + number * 0.001, peaks, None)
            self.supervision.results([frame])

    def kinds(self) -> list[str]:
        return [row.kind for row in events.after(self.db, "default", 0)]


@pytest.fixture
def bench(db: Database) -> Bench:
    return Bench(db)


def test_the_newest_scored_frame_of_what_is_watched_is_shown(bench: Bench) -> None:
    row = bench.watch()
    at = time.time()
    peaks = {PORN: LabelScore(PORN, 0.1, "m@1")}
    scored = Scored(row.id, at, peaks, None, live_frame(at))
    late = Scored(row.id, at + 1, None, None, live_frame(at + 1))
    elsewhere = Scored("stream_of_another", at, peaks, None, live_frame(at))
    bench.supervision.results([scored, late, elsewhere])
    assert {key: one.captured_ms for key, one in bench.veiling.turn().items()} == {
        row.id: round(1000 * at)
    }
    bench.supervision.results([replace(scored, captured_s=at + 2)])
    bench.supervision.close()
    assert bench.veiling.turn() == {}


def test_a_stream_is_taken_and_its_passage_alerted_once(bench: Bench) -> None:
    row = bench.watch(hold_s=0.0)
    bench.show(row.id, 0.6, 0.7, 0.8)
    (alert,) = alerts.of_stream(bench.db, "default", row.id)
    assert (alert.label, alert.state) == (PORN, AlertState.OPEN)
    assert bench.told == [row.id]
    assert [one.alert.id for one in bench.keeper.wanted] == [alert.id]
    bench.show(row.id, 0.0, 0.0, 0.0)
    assert [kind for kind in bench.kinds() if "alert" in kind] == ["alert.opened", "alert.closed"]


def test_states_are_written_and_told(bench: Bench) -> None:
    row = bench.watch()
    bench.followers[0].say(StreamState.LIVE, "frames come")
    bench.supervision.tick()
    found = streams.get(bench.db, "default", row.id)
    assert (found.state, found.detail) == (StreamState.LIVE, "frames come")
    assert bench.told == [row.id]
    bench.supervision.tick()
    assert bench.told == [row.id]


def test_a_stream_that_is_over_is_let_go(bench: Bench) -> None:
    row = bench.watch()
    bench.followers[0].say(StreamState.ENDED, "the source said so")
    bench.supervision.tick()
    assert streams.get(bench.db, "default", row.id).state is StreamState.ENDED
    assert bench.followers[0].closed
    assert bench.owner.held == ()
    bench.supervision.turn()
    assert len(bench.followers) == 1


def test_a_stream_that_its_caller_stops_is_let_go(bench: Bench) -> None:
    row = bench.watch()
    bench.show(row.id, 0.6, 0.7)
    streams.change(bench.db, "default", row.id, StreamChanges(desired=Desired.STOP))
    bench.show(row.id, 0.95)
    bench.supervision.turn()
    assert bench.followers[0].closed
    assert bench.board.counts() == {}
    assert [kind for kind in bench.kinds() if "alert" in kind] == ["alert.opened", "alert.closed"]


def test_an_alert_that_cannot_be_written_is_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.watch()

    def away(*_: object, **__: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("moderation.live.session.store.record", away)
        bench.show(row.id, 0.6, 0.7)
        bench.supervision.tick()
        assert bench.told == []
    bench.supervision.tick()
    bench.supervision.tick()
    assert [kind for kind in bench.kinds() if "alert" in kind] == ["alert.opened"]
    assert bench.told == [row.id]


def lapse(db: Database, stream_id: str) -> None:
    """The lease ran out a while ago: the database was away, say. Nobody else has taken it."""
    with db.begin() as connection:
        connection.execute(
            update(stream_lease)
            .where(stream_lease.c.stream_id == stream_id)
            .values(lease_until=datetime.now(UTC) - timedelta(seconds=5))
        )


def test_a_late_lease_loses_no_alert(bench: Bench) -> None:
    row = bench.watch()
    lapse(bench.db, row.id)
    bench.show(row.id, 0.6, 0.7)
    (alert,) = alerts.of_stream(bench.db, "default", row.id)
    assert [one.alert.id for one in bench.keeper.wanted] == [alert.id]
    lapse(bench.db, row.id)
    bench.followers[0].say(StreamState.LIVE, "frames come")
    bench.supervision.tick()
    assert streams.get(bench.db, "default", row.id).state is StreamState.LIVE
    assert not bench.followers[0].closed


def test_an_alert_of_the_last_moment_is_told_before_the_end_and_has_its_evidence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.watch()

    def away(*_: object, **__: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("moderation.live.session.store.record", away)
        bench.show(row.id, 0.6, 0.7)
    bench.followers[0].say(StreamState.ENDED, "the source said so")
    bench.supervision.tick()
    bench.supervision.tick()
    (alert,) = alerts.of_stream(bench.db, "default", row.id)
    assert [one.alert.id for one in bench.keeper.wanted] == [alert.id]
    kinds = [kind for kind in bench.kinds() if kind.startswith(("alert", "stream"))]
    assert kinds[-3:] == ["alert.opened", "alert.closed", "stream.state"]
    assert bench.keeper.finished == [row.id]
    assert bench.owner.held == ()


def test_a_stream_that_cannot_be_given_back_is_given_back_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Bench(db)
    rows = [first.watch() for _ in range(2)]
    second = Bench(db, "sup-2")

    def away(*_: object, **__: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("moderation.live.owner.stream_leases.release", away)
        with pytest.raises(StoreError):
            first.supervision.turn()
    assert [one.closed for one in first.followers] == [False, True]
    first.supervision.turn()
    second.supervision.turn()
    assert second.followers[0].owned.lease.stream_id == rows[1].id


def test_a_supervisor_that_was_paused_writes_nothing_and_lets_go(db: Database) -> None:
    first = Bench(db)
    row = first.watch()
    lost = datetime.now(UTC) + timedelta(seconds=2 * LEASE_S)
    (owned,) = stream_leases.take(db, "sup-2", 1, LEASE_S, now=lost)
    assert owned.lease.stream_id == row.id
    first.show(row.id, 0.6, 0.7)
    assert alerts.of_stream(db, "default", row.id) == []
    first.supervision.tick()
    assert first.followers[0].closed
    assert stream_leases.renew(db, [owned.lease], LEASE_S) == {row.id: owned.revision}


def test_the_next_owner_goes_on_with_the_same_alert(db: Database) -> None:
    first = Bench(db)
    row = first.watch(hold_s=0.0)
    start = time.time()
    first.show(row.id, 0.6, 0.7, at=start)
    first.supervision.close()
    assert first.followers[0].closed
    fleet.forget(db, "sup-1")
    second = Bench(db, "sup-2")
    second.supervision.turn()
    assert second.followers[0].after_s == pytest.approx(start + 0.001)
    second.show(row.id, 0.8, 0.7, 0.0, 0.0, 0.0, at=start + 0.01)
    assert [kind for kind in second.kinds() if "alert" in kind] == ["alert.opened", "alert.closed"]
    assert second.keeper.wanted == []


def test_streams_are_given_back_for_one_who_has_none(db: Database) -> None:
    first = Bench(db)
    rows = [first.watch() for _ in range(2)]
    first.show(rows[1].id, 0.6, 0.7)
    second = Bench(db, "sup-2")
    first.supervision.turn()
    assert [one.closed for one in first.followers] == [True, False]  # the quiet one goes
    second.supervision.turn()
    assert second.followers[0].owned.lease.stream_id == rows[0].id


def test_another_interval_needs_another_reader_and_no_second_alert(bench: Bench) -> None:
    row = bench.watch()
    bench.show(row.id, 0.6, 0.7)
    streams.change(bench.db, "default", row.id, StreamChanges(interval_ms=250))
    bench.supervision.turn()
    assert [one.closed for one in bench.followers] == [True, False]
    assert bench.followers[1].owned.interval_ms == 250
    assert bench.keeper.finished == [row.id]
    bench.show(row.id, 0.8, 0.8)
    assert [kind for kind in bench.kinds() if "alert" in kind] == ["alert.opened"]


def test_another_policy_holds_for_the_next_frame(bench: Bench) -> None:
    row = bench.watch()
    strict = Policy(id="strict", version=1, rules=(Rule(label=PORN, review_at=0.1),))
    streams.change(bench.db, "default", row.id, StreamChanges(policy=strict))
    bench.supervision.turn()
    assert len(bench.followers) == 1
    assert bench.supervision.floors([row.id])[PORN] < 0.1
    bench.show(row.id, 0.2)
    assert [kind for kind in bench.kinds() if "alert" in kind] == ["alert.opened"]


def test_what_was_seen_is_reported(bench: Bench) -> None:
    row = bench.watch()
    for _ in range(3):  # two of them are overtaken
        bench.followers[0].on_frame(live_frame(time.time()), None)
    bench.show(row.id, 0.3)
    bench.supervision.results([Scored(row.id, time.time(), None, None)])
    bench.supervision.report()
    bench.supervision.report()
    found = streams.get(bench.db, "default", row.id)
    assert (found.frames_seen, found.frames_dropped) == (3, 3)
    assert found.scores == {PORN: 0.3}
    assert found.last_frame is not None


def test_a_reader_that_is_begun_anew_counts_its_attempts_anew(bench: Bench) -> None:
    row = bench.watch()
    bench.followers[0].watch = Watch(StreamState.LIVE, attempt=4)
    bench.supervision.report()
    streams.change(bench.db, "default", row.id, StreamChanges(interval_ms=250))
    bench.supervision.turn()
    bench.followers[1].watch = Watch(StreamState.LIVE, attempt=3)
    bench.supervision.report()
    assert streams.get(bench.db, "default", row.id).reconnects == 3 + 2


def test_a_shortage_is_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(db)
    bench.watch()
    clock = Clock()
    monkeypatch.setattr(bench.board, "_now", clock)
    for _ in range(30):
        bench.followers[0].on_frame(live_frame(clock()), None)
    clock.now_s += 60.0
    bench.supervision.report()
    (told,) = [row for row in events.after(db, "default", 0) if row.kind == SHORTAGE]
    assert told.data["short"] is True
    assert told.data["share"] < 0.9


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


def test_memory_that_cannot_be_read_begins_anew(db: Database) -> None:
    row = streams.create(db, new_stream(policy=POLICY))
    (owned,) = stream_leases.take(db, "sup-1", 1, LEASE_S)
    alerts.record(db, owned.lease, (), memory={"version": 99})
    (owned,) = stream_leases.reread(db, [owned.lease])
    board: FrameBoard[LiveFrame] = FrameBoard(time.time, deadline_s=60.0)
    session = Session(db, owned, board, now=time.time, renewed=lambda lease: False)
    assert session.lease.stream_id == row.id
    assert not session.busy
