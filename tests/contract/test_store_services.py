"""Outbox, keys, fleet and events, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from moderation.errors import AccessError, InputError, NotFoundError
from moderation.store import events, fleet, jobs, keys, outbox, retention
from moderation.store.engine import Database
from moderation.store.records import OutboxRow, WorkerRow
from moderation.store.tables import api_key, audit
from tests.contract.store_data import NOW, new_item, result_for, together


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def callbacks(db: Database, number: int) -> None:
    """Writes so many callbacks, due at NOW."""
    for n in range(number):
        sub = jobs.submit(db, new_item(n, callback_url=f"https://h.example/{n}"), now=NOW)
        claim = jobs.claim(db, sub.job_id, "w1", 15, now=NOW)
        assert claim is not None
        assert jobs.finish(db, claim, result_for(claim), now=NOW)


class TestOutbox:
    def test_two_deliverers_never_get_the_same(self, db: Database) -> None:
        callbacks(db, 20)
        taken = together(lambda _n: outbox.due_callbacks(db, 20, now=later(1)), 4)
        ids = [row.id for rows in taken for row in rows]
        assert len(ids) == len(set(ids)) == 20

    def test_a_deliverer_that_died_is_followed_by_another(self, db: Database) -> None:
        callbacks(db, 1)
        (first,) = outbox.due_callbacks(db, 5, lease_s=30, now=later(1))
        assert outbox.due_callbacks(db, 5, now=later(30)) == []
        (again,) = outbox.due_callbacks(db, 5, now=later(32))
        assert (again.id, again.event_id) == (first.id, first.event_id)
        assert (first.attempts, again.attempts) == (1, 2)

    def test_sent_ones_stay_sent_and_dead_ones_dead(self, db: Database) -> None:
        callbacks(db, 2)
        first, second = outbox.due_callbacks(db, 5, now=later(1))
        outbox.mark_sent(db, first.id, now=later(2))
        outbox.mark_dead(db, second.id, "410 Gone")
        assert outbox.due_callbacks(db, 5, now=later(10_000)) == []
        assert outbox.undelivered(db) == {"pending": 0, "dead": 1}

    def test_a_retry_is_due_at_its_time(self, db: Database) -> None:
        callbacks(db, 1)
        (row,) = outbox.due_callbacks(db, 5, now=later(1))
        outbox.mark_retry(db, row.id, error="503", at=later(60))
        assert outbox.due_callbacks(db, 5, now=later(59)) == []
        (again,) = outbox.due_callbacks(db, 5, now=later(60))
        assert isinstance(again, OutboxRow)
        assert (again.event_id, again.payload) == (row.event_id, row.payload)

    def test_one_that_was_put_back_has_lost_no_attempt(self, db: Database) -> None:
        callbacks(db, 1)
        (row,) = outbox.due_callbacks(db, 5, now=later(1))
        outbox.put_back(db, row.id, at=later(4))
        assert outbox.due_callbacks(db, 5, now=later(3)) == []
        (again,) = outbox.due_callbacks(db, 5, now=later(4))
        assert (row.attempts, again.attempts) == (1, 1)

    def test_the_longest_due_come_first(self, db: Database) -> None:
        callbacks(db, 4)
        rows = outbox.due_callbacks(db, 2, now=later(1))
        for row in rows:
            outbox.mark_retry(db, row.id, error="503", at=later(5))
        others = outbox.due_callbacks(db, 2, now=later(6))
        assert {row.id for row in rows}.isdisjoint(row.id for row in others)

    def test_a_published_task_of_an_ended_job_is_no_error(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(), now=NOW)
        jobs.cancel(db, "default", sub.job_id, now=NOW)
        outbox.task_sent(db, sub.job_id, now=NOW)


class TestKeys:
    def test_a_secret_opens_until_it_is_revoked(self, db: Database) -> None:
        row, secret = keys.create_key(
            db, tenant="shop", name="upload", scopes={"media:write"}, actor="key_1", now=NOW
        )
        assert secret.startswith(f"mod_{row.id.removeprefix('key_')}_")
        found = keys.authenticate(db, secret, now=NOW)
        assert (found.id, found.tenant, found.scopes) == (row.id, "shop", {"media:write"})
        assert keys.revoke_key(db, row.id, now=later(1)).revoked == later(1)
        assert keys.revoke_key(db, row.id, now=later(2)).revoked == later(1)
        with pytest.raises(AccessError):
            keys.authenticate(db, secret, now=later(3))
        with db.connect() as connection:
            notes = connection.execute(select(audit.c.actor, audit.c.action)).all()
        assert [tuple(n) for n in notes] == [("key_1", "key.create"), ("system", "key.revoke")]

    def test_the_secret_is_not_stored(self, db: Database) -> None:
        _, secret = keys.create_key(db, tenant="t", name="n", scopes={"admin"})
        with db.connect() as connection:
            stored = str(connection.execute(select(api_key)).mappings().all())
        assert secret.rpartition("_")[2] not in stored

    @pytest.mark.parametrize("secret", ["", "x", "mod_", "mod_00_", "é" * 30, "a\x00b"])
    def test_other_secrets_open_nothing(self, db: Database, secret: str) -> None:
        keys.create_key(db, tenant="t", name="n", scopes={"admin"})
        with pytest.raises(AccessError):
            keys.authenticate(db, secret)

    def test_last_use_is_written_once_a_minute(self, db: Database) -> None:
        _, secret = keys.create_key(db, tenant="t", name="n", scopes={"admin"}, now=NOW)

        def last_used(at: float) -> datetime | None:
            keys.authenticate(db, secret, now=later(at))
            return keys.list_keys(db, "t")[0].last_used

        assert [last_used(at) for at in (1, 30, 62)] == [later(1), later(1), later(62)]

    def test_the_bootstrap_key_follows_the_setting(self, db: Database) -> None:
        assert keys.ensure_bootstrap(db, "first", now=NOW).scopes == keys.SCOPES
        assert keys.ensure_bootstrap(db, "first", now=later(1)).created == NOW
        assert keys.authenticate(db, "first").tenant == "default"
        keys.ensure_bootstrap(db, "second", now=later(2))
        with pytest.raises(AccessError):
            keys.authenticate(db, "first")
        assert keys.authenticate(db, "second").id == keys.BOOTSTRAP_ID
        assert len(keys.list_keys(db)) == 1

    def test_a_revoked_bootstrap_key_stays_revoked_over_a_restart(self, db: Database) -> None:
        keys.ensure_bootstrap(db, "first")
        keys.revoke_key(db, keys.BOOTSTRAP_ID)
        assert keys.ensure_bootstrap(db, "first").revoked is not None
        with pytest.raises(AccessError):
            keys.authenticate(db, "first")
        assert keys.ensure_bootstrap(db, "second").revoked is None
        assert keys.authenticate(db, "second").id == keys.BOOTSTRAP_ID

    def test_two_starts_at_once_make_one_bootstrap_key(self, db: Database) -> None:
        together(lambda _n: keys.ensure_bootstrap(db, "first"))
        assert len(keys.list_keys(db)) == 1

    @pytest.mark.parametrize("scopes", [set(), {"root"}, {"admin", "root"}])
    def test_unknown_scopes_are_refused(self, db: Database, scopes: set[str]) -> None:
        with pytest.raises(InputError):
            keys.create_key(db, tenant="t", name="n", scopes=scopes)

    @pytest.mark.parametrize("tenant", ["", "..", "a/b", "my shop", "ä", "x" * 65])
    def test_a_tenant_can_be_a_part_of_a_media_key(self, db: Database, tenant: str) -> None:
        with pytest.raises(InputError, match="tenant"):
            keys.create_key(db, tenant=tenant, name="n", scopes={"admin"})

    def test_keys_are_listed_by_tenant(self, db: Database) -> None:
        for tenant in ("a", "b"):
            keys.create_key(db, tenant=tenant, name=tenant, scopes={"admin"}, now=NOW)
        assert [row.name for row in keys.list_keys(db, "a")] == ["a"]
        assert len(keys.list_keys(db)) == 2
        with pytest.raises(NotFoundError):
            keys.revoke_key(db, "key_0")


class TestFleet:
    ROW = WorkerRow(
        id="infer-h-1-x",
        role="infer",
        host="h",
        pid=1,
        state="starting",
        device="cpu",
        precision="f32",
    )

    def test_a_worker_lives_by_its_heartbeats(self, db: Database) -> None:
        fleet.heartbeat(db, self.ROW, now=NOW)
        ready = {"id": "a", "version": "1", "labels": ["porn.explicit"]}
        report = WorkerRow(**{**_fields(self.ROW), "state": "ready", "models": [ready]})
        fleet.heartbeat(db, report, now=later(2))
        (row,) = fleet.living(db, role="infer", within_s=10, now=later(12))
        assert (row.state, row.models, row.started, row.seen) == ("ready", [ready], NOW, later(2))
        assert fleet.living(db, within_s=10, now=later(12.1)) == []
        assert fleet.living(db, role="media", within_s=10, now=later(3)) == []

    def test_a_worker_that_stopped_is_forgotten(self, db: Database) -> None:
        fleet.heartbeat(db, self.ROW, now=NOW)
        fleet.forget(db, self.ROW.id)
        assert fleet.living(db, now=NOW) == []

    def test_workers_that_died_do_not_pile_up(self, db: Database) -> None:
        for n in range(3):
            row = WorkerRow(**{**_fields(self.ROW), "id": f"w{n}"})
            fleet.heartbeat(db, row, now=later(n * 7200))
        assert len(fleet.living(db, within_s=10**6, now=later(20_000))) == 1


def _fields(row: WorkerRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in WorkerRow.__dataclass_fields__}


class TestEvents:
    def test_a_reader_goes_on_after_the_last_that_it_saw(self, db: Database) -> None:
        for n in range(5):
            jobs.submit(db, new_item(n), now=NOW)
        jobs.submit(db, new_item(1, tenant="other"), now=NOW)
        first = events.after(db, "default", 0, limit=3)
        rest = events.after(db, "default", first[-1].id)
        assert [len(first), len(rest)] == [3, 2]
        ids = [row.id for row in first + rest]
        assert ids == sorted(set(ids))
        assert events.after(db, "default", ids[-1]) == []

    def test_a_reader_beside_many_writers_misses_none(self, db: Database) -> None:
        seen: list[int] = []

        def work(number: int) -> None:
            if number > 0:
                for n in range(10):
                    jobs.submit(db, new_item((number, n)))
                return
            while len(seen) < 60:
                last = seen[-1] if seen else 0
                seen.extend(row.id for row in events.after(db, "default", last, limit=7))

        together(work, 7)
        assert seen == [row.id for row in events.after(db, "default", 0, limit=1000)]


class TestRetention:
    def test_only_what_is_old_and_through_goes(self, db: Database) -> None:
        for number, key in enumerate(("old", "new")):
            at = later(number * 100)
            jobs.submit(db, new_item(key, idempotency_key=key, request_hash="h"), now=at)
        for n, url in enumerate(("sent", "dead", "waits")):
            sub = jobs.submit(db, new_item(n, callback_url=f"https://{url}.example/"), now=NOW)
            jobs.cancel(db, "default", sub.job_id, now=NOW)
        for row in outbox.due_callbacks(db, 10, lease_s=1, now=NOW):
            if "sent" in str(row.target):
                outbox.mark_sent(db, row.id, now=NOW)
            elif "dead" in str(row.target):
                outbox.mark_dead(db, row.id, "gone")
        newest = max(row.id for row in events.after(db, "default", 0) if row.created == later(100))

        # One key, two callbacks; queued: 1 old, 3 cancelled; decided: 3.
        assert retention.prune(db, before=later(50)) == 1 + 2 + 7
        assert retention.prune(db, before=later(50)) == 0

        assert [row.id for row in events.after(db, "default", 0)] == [newest]
        (left,) = outbox.due_callbacks(db, 10, now=later(60))
        assert "waits" in str(left.target)
        again = jobs.submit(db, new_item("new", idempotency_key="new", request_hash="h"))
        assert again.replayed
        assert not jobs.submit(db, new_item("old", idempotency_key="old")).replayed

    def test_a_bite_at_a_time(self, db: Database) -> None:
        for n in range(7):
            jobs.submit(db, new_item(n, idempotency_key=str(n), tenant=f"t{n % 2}"), now=NOW)
        bites = [retention.prune(db, before=later(1), limit=3) for _ in range(4)]
        assert bites == [6, 6, 2, 0], "of two tables"

    def test_two_at_once_do_not_disturb_each_other(self, db: Database) -> None:
        for n in range(40):
            jobs.submit(db, new_item(n, idempotency_key=str(n)), now=NOW)
        deleted = together(lambda _n: retention.prune(db, before=later(1)), 4)
        assert sum(deleted) == 80
