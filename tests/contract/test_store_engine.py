"""Migrations, connections and their errors, on SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text

from moderation.errors import ConfigError, InputError, StoreError
from moderation.store import jobs
from moderation.store.engine import Database, migrate, open_database, schema_is_current
from moderation.store.tables import audit, job, metadata
from tests import servers
from tests.contract.store_data import NOW, new_item


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables; the SQLite file and its folder do not exist."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'test.db'}"
        return
    server: servers.Postgres = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield url
    server.drop(url)


def test_the_migrations_make_the_tables_of_the_code(db: Database) -> None:
    with db.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_new_database_becomes_current(empty_url: str) -> None:
    migrate(empty_url)
    migrate(empty_url)
    db = open_database(empty_url)
    assert schema_is_current(db)
    db.close()


def test_processes_that_migrate_at_once_do_not_disturb_each_other(empty_url: str) -> None:
    code = "import sys; from moderation.store.engine import migrate; migrate(sys.argv[1])"
    running = [
        subprocess.Popen([sys.executable, "-c", code, empty_url], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=60)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ended
    db = open_database(empty_url)
    assert schema_is_current(db)
    jobs.submit(db, new_item())
    db.close()


def test_a_database_of_a_newer_version_is_refused_in_a_sentence(empty_url: str) -> None:
    # One of its own: what others share stays at its version.
    migrate(empty_url)
    db = open_database(empty_url)
    with db.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert not schema_is_current(db)
    db.close()
    with pytest.raises(StoreError, match="newer version"):
        migrate(empty_url)


def test_a_failed_migration_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    created = op.create_index
    calls = []

    def fail_late(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 5:
            raise RuntimeError("power cut")
        return created(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_index", fail_late)
    with pytest.raises(RuntimeError):
        migrate(empty_url)
    monkeypatch.undo()
    migrate(empty_url)
    db = open_database(empty_url)
    assert schema_is_current(db)
    db.close()


def test_without_tables_the_error_says_so(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    db = open_database(empty_url)
    assert not schema_is_current(db)
    with pytest.raises(StoreError, match="migrations have not run"):
        jobs.submit(db, new_item())
    db.close()


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    row = {"tenant": "t", "actor": "a", "action": "x", "target": "y", "detail": {}, "created": NOW}

    def write_and_fail() -> None:
        with db.begin() as connection:
            connection.execute(insert(audit), row)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    with db.connect() as connection:
        assert connection.execute(select(audit)).all() == []
    with db.begin() as connection:
        connection.execute(insert(audit), row)
    with db.connect() as connection:
        assert connection.execute(select(audit.c.created)).scalar_one() == NOW


def test_text_that_cannot_be_stored_is_the_callers_fault(db: Database) -> None:
    # SQLite keeps a NUL in a text, PostgreSQL does not.
    unusable = ["lone \ud800 surrogate"] + ["a\x00b"] * (db.dialect == "postgresql")
    for value in unusable:
        with pytest.raises(InputError) as error:
            jobs.submit(db, new_item(data_id=value))
        assert error.value.code == "value_invalid"
        with pytest.raises(InputError):
            jobs.get_job(db, "default", value)


def test_a_number_out_of_range_is_the_callers_fault(db: Database) -> None:
    with pytest.raises(InputError):
        jobs.submit(db, new_item(priority=2**70))


def test_values_of_callers_stay_out_of_errors(db: Database) -> None:
    def ask() -> None:
        with db.connect() as connection:
            connection.execute(text("SELECT 1 FROM missing WHERE x = :x"), {"x": "a secret"})

    with pytest.raises(StoreError) as error:
        ask()
    assert "missing" in str(error.value.__cause__)
    assert "a secret" not in str(error.value.__cause__)


def test_times_without_a_zone_are_refused(db: Database) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the point of the test
    with pytest.raises(StoreError) as error:
        jobs.submit(db, new_item(deadline=naive))
    assert "zone" in str(error.value.__cause__)


def test_sqlite_keeps_its_promises(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    db = open_database(url)
    with db.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": 15000,
    }
    db.close()


def test_postgresql_frees_what_a_paused_process_locked(
    postgres_server: servers.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.new_database(template="migrated")
    db = open_database(url)
    sub = jobs.submit(db, new_item(), now=NOW)
    monkeypatch.setattr("moderation.store.connections.IDLE_IN_TRANSACTION_S", 1)
    hasty = open_database(url)  # the others may be as slow as the machine
    woken = threading.Event()

    def hold() -> None:
        with hasty.begin() as connection:
            query = select(job.c.id).where(job.c.id == sub.job_id).with_for_update()
            connection.execute(query)
            inside.set()
            woken.wait(30)

    inside = threading.Event()
    failed: list[StoreError] = []

    def paused() -> None:
        try:
            hold()
        except StoreError as error:
            failed.append(error)

    holder = threading.Thread(target=paused)
    holder.start()
    assert inside.wait(10)
    assert jobs.claim(db, sub.job_id, "w1", 15) is not None, "it waited until the lock was free"
    assert not woken.is_set()
    woken.set()
    holder.join(30)
    assert [error.message for error in failed] == ["The database does not answer."]
    assert jobs.claim(db, sub.job_id, "w2", 15) is None
    hasty.close()
    db.close()
    postgres_server.drop(url)


def test_two_programs_on_one_sqlite_file_wait_for_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    one, two = open_database(url), open_database(url)
    inside, waited = threading.Event(), threading.Event()

    def hold() -> None:
        with one.begin():
            inside.set()
            waited.wait(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    jobs.submit(two, new_item())
    waited.set()
    holder.join()
    assert jobs.counts(one)[jobs.get_job(one, "default", _only_job(one)).state] == 1
    one.close()
    two.close()


def _only_job(db: Database) -> str:
    with db.connect() as connection:
        return str(connection.execute(text("SELECT id FROM job")).scalar_one())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://h/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///",
        "postgresql://h:port/x",
    ],
)
def test_unusable_urls_are_told_at_start(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url"):
        open_database(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////proc/none/x.db", "postgresql://u:secret@127.0.0.1:1/db"],
)
def test_an_unreachable_database_is_a_sentence_without_details(url: str) -> None:
    db = open_database(url)
    with pytest.raises(StoreError) as error:
        db.ping()
    assert error.value.message == "The database does not answer."
    assert error.value.status == 503
    with pytest.raises(StoreError):
        migrate(url)
    db.close()


def test_the_store_comes_back_with_postgresql() -> None:
    try:
        with servers.postgres() as server:
            url = server.new_database()
            migrate(url)
            db = open_database(url)
            sub = jobs.submit(db, new_item())
            server.stop()
            with pytest.raises(StoreError, match="does not answer"):
                jobs.get_job(db, "default", sub.job_id)
            server.start()
            assert jobs.get_job(db, "default", sub.job_id).id == sub.job_id
            assert jobs.claim(db, sub.job_id, "w1", 15) is not None
            db.close()
    except servers.Missing as reason:
        pytest.skip(str(reason))
