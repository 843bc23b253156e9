"""Supervisors that come, go and die share the streams evenly, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from moderation.errors import StoreError
from moderation.live.owner import ROLE, Owner, Turn
from moderation.store import alerts, events, fleet, stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import Desired, StreamChanges
from moderation.store.records import WorkerRow
from moderation.types import StreamState
from tests.contract.live_data import LEASE_S, later, make, segment
from tests.integration.test_gateway_server import until

ROOT = Path(__file__).resolve().parents[2]


class Fleet:
    """Supervisors in one process, with a clock that is told."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.now = 0.0
        self.owners: dict[str, Owner] = {}
        self.capacity: dict[str, int] = {}

    def join(self, name: str, capacity: int = 100) -> None:
        self.owners[name] = Owner(self.db, name, lease_s=LEASE_S)
        self.capacity[name] = capacity

    def round(self, seconds: float = 2.0) -> dict[str, Turn]:
        """Every supervisor reports itself, has its turn, and gives back what it should."""
        self.now += seconds
        moment = later(self.now)
        for name in self.owners:
            row = WorkerRow(name, ROLE, "h", 1, "ready", None, None, capacity=self.capacity[name])
            fleet.heartbeat(self.db, row, now=moment)
        turns = {}
        for name, owner in self.owners.items():
            turns[name] = owner.turn(now=moment)
            owner.give_back(turns[name].release)
        return turns

    def held(self) -> dict[str, int]:
        ids = Counter(one.stream_id for owner in self.owners.values() for one in owner.held)
        assert set(ids.values()) <= {1}, "a stream has two owners"
        return {name: len(owner.held) for name, owner in self.owners.items()}


@pytest.fixture
def supervisors(db: Database) -> Fleet:
    return Fleet(db)


def test_one_that_joins_gets_its_share_and_one_that_dies_leaves_it(supervisors: Fleet) -> None:
    make(supervisors.db, 12)
    supervisors.join("a")
    supervisors.round()
    assert supervisors.held() == {"a": 12}
    supervisors.join("b")
    supervisors.join("c")
    for _ in range(2):
        supervisors.round()
    assert supervisors.held() == {"a": 4, "b": 4, "c": 4}
    dead = supervisors.owners.pop("b")
    for _ in range(int(LEASE_S)):  # its leases and its heartbeats run out
        supervisors.round()
    assert supervisors.held() == {"a": 6, "c": 6}
    late = dead.turn(now=later(supervisors.now))
    assert len(late.lost) == 4
    assert dead.held == ()


def test_an_even_spread_rests(supervisors: Fleet) -> None:
    make(supervisors.db, 7)
    for name in "abc":
        supervisors.join(name)
    for _ in range(2):
        supervisors.round()
    assert sorted(supervisors.held().values()) == [2, 2, 3]
    assert set(supervisors.round().values()) == {Turn()}
    before = {name: set(owner.held) for name, owner in supervisors.owners.items()}
    make(supervisors.db, 2)
    supervisors.round()
    assert sorted(supervisors.held().values()) == [3, 3, 3]
    assert all(set(owner.held) >= before[name] for name, owner in supervisors.owners.items())


def test_what_nobody_has_room_for_is_told(supervisors: Fleet) -> None:
    make(supervisors.db, 5)
    supervisors.join("a", capacity=3)
    assert supervisors.round()["a"].unwatched == 2
    supervisors.join("b", capacity=1)
    assert supervisors.round()["b"].unwatched == 1
    assert supervisors.held() == {"a": 3, "b": 1}


def test_an_owner_learns_what_was_changed_stopped_and_deleted(supervisors: Fleet) -> None:
    rows = make(supervisors.db, 3)
    supervisors.join("a")
    supervisors.round()
    changed, stopped, deleted = (row.id for row in rows)
    db, tenant = supervisors.db, "default"
    streams.change(db, tenant, changed, StreamChanges(interval_ms=500), now=later(3))
    streams.change(db, tenant, stopped, StreamChanges(desired=Desired.STOP), now=later(3))
    streams.remove(db, tenant, deleted, actor="key", now=later(3))
    turn = supervisors.round()["a"]
    assert [(one.lease.stream_id, one.interval_ms) for one in turn.changed] == [(changed, 500)]
    assert {one.stream_id for one in turn.lost} == {stopped, deleted}
    assert supervisors.round()["a"] == Turn()
    streams.change(db, tenant, stopped, StreamChanges(desired=Desired.RUN), now=later(6))
    assert [one.lease.stream_id for one in supervisors.round()["a"].taken] == [stopped]


def test_what_a_turn_learnt_before_it_failed_is_told_by_the_next(
    supervisors: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, stopped, gone = (row.id for row in make(supervisors.db, 3))
    supervisors.join("a")
    supervisors.round()
    db, tenant = supervisors.db, "default"
    streams.change(db, tenant, changed, StreamChanges(interval_ms=500), now=later(3))
    streams.change(db, tenant, stopped, StreamChanges(desired=Desired.STOP), now=later(3))
    streams.change(db, tenant, gone, StreamChanges(interval_ms=700), now=later(3))

    def away(*_: object, **__: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("moderation.live.owner.fleet.living", away)
        with pytest.raises(StoreError):
            supervisors.round()
    streams.remove(db, tenant, gone, actor="key", now=later(5))
    turn = supervisors.round()["a"]
    assert [(one.lease.stream_id, one.interval_ms) for one in turn.changed] == [(changed, 500)]
    assert {one.stream_id for one in turn.lost} == {stopped, gone}
    assert supervisors.round()["a"] == Turn()


def test_what_could_not_be_given_back_is_told_again(
    supervisors: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(supervisors.db, 2)
    supervisors.join("a")
    supervisors.round()
    owner = supervisors.owners["a"]
    (first, _) = owner.held
    owner.leave(first)

    def away(*_: object, **__: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("moderation.live.owner.stream_leases.release", away)
        with pytest.raises(StoreError):
            supervisors.round()
    assert first in owner.held
    assert owner.turn(now=later(supervisors.now)).release == (first,)
    owner.give_back((first,))
    assert first not in owner.held
    # It is free again, and there is nobody else.
    assert [one.lease.stream_id for one in supervisors.round()["a"].taken] == [first.stream_id]


def test_a_stream_that_is_over_is_no_loss(supervisors: Fleet) -> None:
    make(supervisors.db)
    supervisors.join("a")
    (one,) = supervisors.round()["a"].taken
    stream_leases.report_state(supervisors.db, one.lease, StreamState.ENDED, now=later(3))
    supervisors.owners["a"].over(one.lease)
    assert supervisors.round()["a"] == Turn()
    assert supervisors.held() == {"a": 0}


def test_streams_with_an_open_alert_stay_where_they_are(supervisors: Fleet) -> None:
    make(supervisors.db, 4)
    supervisors.join("a")
    supervisors.round()
    ids = sorted(one.stream_id for one in supervisors.owners["a"].held)
    supervisors.join("b")
    row = WorkerRow("b", ROLE, "h", 1, "ready", None, None, capacity=9)
    fleet.heartbeat(supervisors.db, row, now=later(4))
    busy = {ids[3], ids[2], ids[0]}
    turn = supervisors.owners["a"].turn(busy=busy, now=later(4))
    assert {one.stream_id for one in turn.release} == {ids[1], ids[3]}
    again = supervisors.owners["a"].turn(busy=busy, now=later(5))
    assert again.release == turn.release, "until they are given back"


PAUSED = """
import json, sys
from datetime import UTC, datetime
from moderation.store import alerts, stream_leases
from moderation.store.engine import open_database
from moderation.store.live_records import AlertChange, Progress
from moderation.types import Decision, StreamState

db = open_database(sys.argv[1])
(one,) = stream_leases.take(db, "paused", 1, float(sys.argv[2]))
print("taken", flush=True)
sys.stdin.readline()
now = datetime.now(UTC)
change = AlertChange("opened", "a.b", Decision.BLOCK, 0.9, now, now)
lease = one.lease
print(json.dumps({
    "state": stream_leases.report_state(db, lease, StreamState.FAILED, "asleep"),
    "progress": not stream_leases.report_progress(db, {lease: Progress(frames_seen=1000)}),
    "alert": alerts.record(db, lease, [change], memory={"old": True}) is not None,
    "renewed": bool(stream_leases.renew(db, [lease], 60.0)),
    "released": bool(stream_leases.release(db, [lease])),
}), flush=True)
"""


def test_a_process_that_was_paused_wakes_up_and_writes_nothing(
    db: Database, database_url: str
) -> None:
    (row,) = make(db, callback_url="https://hook.example/")
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, database_url, "1.0"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "taken\n"
        process.send_signal(signal.SIGSTOP)
        taken = []
        until(lambda: taken.extend(stream_leases.take(db, "awake", 1, 60.0)) or taken)
        lease = taken[0].lease
        assert stream_leases.report_state(db, lease, StreamState.LIVE)
        assert alerts.record(db, lease, [segment()], memory={"new": True}) is not None
        before = events.after(db, "default", 0)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate("go on\n", timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert set(json.loads(told).values()) == {False}
    assert events.after(db, "default", 0) == before
    found = streams.get(db, "default", row.id)
    assert (found.state, found.frames_seen, found.watched) == (StreamState.LIVE, 0, True)
    assert [one.label for one in alerts.of_stream(db, "default", row.id)] == ["porn.explicit"]
    (kept,) = stream_leases.reread(db, [lease])
    assert kept.memory == {"new": True}
