"""One owner a stream, whatever supervisors do, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moderation.store import alerts, events, stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import Progress, StreamLease
from moderation.types import StreamState
from tests.contract.live_data import (
    LEASE_S,
    SECRET_URL,
    later,
    make,
    owned_stream,
    segment,
    take_one,
)
from tests.contract.store_data import NOW, together

AFTER = LEASE_S + 1


def refused(db: Database, lease: StreamLease, at: float) -> bool:
    """Whether every kind of write under this lease is refused."""
    moment = later(at)
    progress = stream_leases.report_progress(db, {lease: Progress(frames_seen=1)}, now=moment)
    outcomes = {
        not stream_leases.report_state(db, lease, StreamState.STALLED, now=moment),
        progress == {lease},
        alerts.record(db, lease, [segment()], memory={"x": 1}, now=moment) is None,
    }
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


def nothing_written(db: Database, lease: StreamLease) -> None:
    row = streams.get(db, "default", lease.stream_id)
    assert (row.frames_seen, row.state) == (0, StreamState.CONNECTING)
    assert alerts.of_stream(db, "default", lease.stream_id) == []
    assert [event.kind for event in events.after(db, "default", 0)] == ["stream.state"]
    (owned,) = stream_leases.take(db, "last", 1, LEASE_S, now=later(10_000))
    assert owned.memory is None


def test_the_most_urgent_are_taken_first(db: Database) -> None:
    for priority in (0, 9, 4):
        make(db, priority=priority)
    owned = stream_leases.take(db, "sup-1", 2, LEASE_S, now=NOW)
    assert sorted(one.priority for one in owned) == [4, 9]
    assert owned[0].url == SECRET_URL
    assert stream_leases.take(db, "sup-1", 0, LEASE_S, now=NOW) == []


def test_supervisors_that_take_at_once_never_get_the_same(db: Database) -> None:
    make(db, 24)
    taken = together(lambda n: stream_leases.take(db, f"sup-{n}", 9, LEASE_S, now=NOW), 4)
    ids = [one.lease.stream_id for owned in taken for one in owned]
    assert len(ids) == len(set(ids))
    while rest := stream_leases.take(db, "sup-0", 9, LEASE_S, now=NOW):
        ids += [one.lease.stream_id for one in rest]
    assert len(ids) == len(set(ids)) == 24


def test_a_paused_owner_that_wakes_up_after_its_lease_ran_out_writes_nothing(db: Database) -> None:
    lease = owned_stream(db)
    assert refused(db, lease, LEASE_S)
    nothing_written(db, lease)


def test_nor_once_another_has_the_stream(db: Database) -> None:
    lease = owned_stream(db)
    assert stream_leases.take(db, "sup-2", 1, LEASE_S, now=later(LEASE_S)) == []
    stolen = take_one(db, "sup-2", AFTER).lease
    assert (stolen.stream_id, stolen.generation) == (lease.stream_id, lease.generation + 1)
    # By its own clock, which stood still, its lease holds.
    assert refused(db, lease, 1)
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(1)) == {}
    assert stream_leases.release(db, [lease]) == 0
    assert stream_leases.renew(db, [stolen], LEASE_S, now=later(AFTER + 1)) == {stolen.stream_id: 1}


def test_nor_when_it_got_the_same_stream_again(db: Database) -> None:
    old = owned_stream(db)
    new = take_one(db, at=AFTER).lease
    assert new.owner == old.owner
    assert refused(db, old, AFTER)
    assert stream_leases.renew(db, [old, new], LEASE_S, now=later(AFTER)) == {new.stream_id: 1}
    assert stream_leases.report_state(db, new, StreamState.LIVE, now=later(AFTER))


@pytest.mark.parametrize(
    "give_back",
    [
        lambda db, lease: stream_leases.release(db, [lease]),
        lambda db, lease: stream_leases.release_owner(db, lease.owner),
    ],
)
def test_what_is_given_back_is_there_for_others_at_once(
    db: Database, give_back: Callable[[Database, StreamLease], int]
) -> None:
    lease = owned_stream(db)
    assert give_back(db, lease) == 1
    assert refused(db, lease, 1)
    assert take_one(db, "sup-2", 1).lease.generation == lease.generation + 1


def test_a_late_renewal_holds_while_nobody_else_wants_the_stream(db: Database) -> None:
    lease = owned_stream(db)
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(AFTER)) == {lease.stream_id: 1}
    assert stream_leases.report_state(db, lease, StreamState.LIVE, now=later(AFTER + 1))
    assert stream_leases.take(db, "sup-2", 1, LEASE_S, now=later(AFTER + 1)) == []


def test_renewing_does_not_touch_what_is_not_named(db: Database) -> None:
    make(db, 2)
    first, _ = stream_leases.take(db, "sup-1", 2, LEASE_S, now=NOW)
    assert stream_leases.renew(db, [first.lease], LEASE_S, now=later(5)) == {
        first.lease.stream_id: 1
    }
    assert stream_leases.renew(db, [], LEASE_S) == {}
    (lost,) = stream_leases.take(db, "sup-2", 2, LEASE_S, now=later(AFTER))
    assert lost.lease.stream_id != first.lease.stream_id


def test_writes_race_with_a_theft_and_never_come_after_it(db: Database) -> None:
    """Every write that was let through carries the generation of its time."""
    for _ in range(5):
        lease = owned_stream(db)

        def work(number: int, lease: StreamLease = lease) -> bool:
            if number == 0:
                return len(stream_leases.take(db, "thief", 1, LEASE_S, now=later(AFTER))) == 1
            change = segment(label=f"a.b{'x' * number}")
            return alerts.record(db, lease, [change], now=later(1)) is not None

        stolen, *written = together(work, 4)
        found = alerts.of_stream(db, "default", lease.stream_id)
        assert len(found) == sum(written)
        if not stolen:  # all writers were before it, and it skipped the locked row
            stolen = len(stream_leases.take(db, "thief", 1, LEASE_S, now=later(AFTER))) == 1
        assert stolen
        assert refused(db, lease, 1)
        streams.remove(db, "default", lease.stream_id, actor="test", now=later(AFTER))


def test_the_state_is_told_once_a_change(db: Database) -> None:
    lease = owned_stream(db)
    for state in (StreamState.LIVE, StreamState.LIVE, StreamState.STALLED, StreamState.FAILED):
        assert stream_leases.report_state(db, lease, state, "why " + "x" * 900, now=later(1))
    told = [row.data for row in events.after(db, "default", 0)]
    assert [(one["previous"], one["state"]) for one in told] == [
        (None, "connecting"),
        ("connecting", "live"),
        ("live", "stalled"),
        ("stalled", "failed"),
    ]
    assert len(told[-1]["detail"]) == 500
    assert refused(db, lease, 2), "one that is over has no owner"
    assert streams.get(db, "default", lease.stream_id).since == later(1)


def test_a_silent_supervisor_is_told_and_loses_the_stream(db: Database) -> None:
    lease = owned_stream(db)
    stream_leases.report_state(db, lease, StreamState.LIVE, now=later(1))
    assert stream_leases.sweep_unwatched(db, now=later(LEASE_S)) == []
    swept = together(lambda _n: stream_leases.sweep_unwatched(db, now=later(AFTER)), 3)
    assert [one for ids in swept for one in ids] == [lease.stream_id]
    row = streams.get(db, "default", lease.stream_id)
    assert (row.state, row.watched) == (StreamState.RETRYING, False)
    assert row.detail == stream_leases.SILENT
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(AFTER)) == {}
    assert take_one(db, "sup-2", AFTER).state is StreamState.RETRYING


def test_the_census_counts_what_is_held_and_what_is_free(db: Database) -> None:
    make(db, 6)
    stream_leases.take(db, "sup-1", 3, LEASE_S, now=NOW)
    stream_leases.take(db, "sup-2", 2, LEASE_S * 3, now=NOW)
    counted = stream_leases.census(db, now=later(1))
    assert (counted.wanted, counted.free, counted.held) == (6, 1, {"sup-1": 3, "sup-2": 2})
    counted = stream_leases.census(db, now=later(AFTER))
    assert (counted.wanted, counted.free, counted.held) == (6, 4, {"sup-2": 2})


def test_the_next_owner_gets_what_the_last_one_left(db: Database) -> None:
    lease = owned_stream(db)
    assert alerts.record(db, lease, [], memory={"tracks": [1, 2]}, now=later(1)) == ()
    assert alerts.record(db, lease, [segment()], now=later(2)) is not None
    assert take_one(db, "sup-2", AFTER).memory == {"tracks": [1, 2]}
