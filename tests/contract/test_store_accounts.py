"""Accounts and sessions, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from moderation import passwords
from moderation.errors import AccessError, ConflictError, InputError, NotFoundError
from moderation.store import accounts, sessions
from moderation.store.engine import Database
from moderation.store.review_records import AccountRow, Role
from moderation.store.tables import account, audit, session
from tests.contract.store_data import NOW, together

PASSWORD = "a-long-and-good-one"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 as it is, with the least work."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: quick)
    passwords._nobodys.cache_clear()


def make(db: Database, name: str = "mei", role: Role = Role.REVIEWER) -> AccountRow:
    return accounts.create(
        db, tenant="default", name=name, role=role, password=PASSWORD, actor="test", now=NOW
    )


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(AccessError) as told:
        call()
    return str(told.value)


def test_who_knows_the_password_is_let_in(db: Database) -> None:
    made = make(db)
    found = accounts.sign_in(db, "mei", PASSWORD, now=NOW)
    assert (found.id, found.role, found.seen) == (made.id, Role.REVIEWER, NOW)
    with db.connect() as connection:
        kept = connection.execute(select(account.c.password)).scalar_one()
        actions = connection.execute(select(audit.c.action).order_by(audit.c.id)).scalars().all()
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept
    assert actions == ["account.create", "sign_in"]


def test_whether_anybody_can_sign_in_is_known(db: Database) -> None:
    assert not accounts.are_there(db)
    make(db)
    assert accounts.are_there(db)


def test_nobody_learns_why_he_is_refused(db: Database) -> None:
    made = make(db)
    reasons = {
        refused(lambda: accounts.sign_in(db, "mei", "wrong-wrong-wrong")),
        refused(lambda: accounts.sign_in(db, "nobody", PASSWORD)),
    }
    accounts.change(db, made.id, disabled=True)
    reasons.add(refused(lambda: accounts.sign_in(db, "mei", PASSWORD)))
    assert len(reasons) == 1


def test_wrong_passwords_lock_the_account_for_a_while(db: Database) -> None:
    make(db)
    for _ in range(accounts.MAX_FAILURES - 1):
        refused(lambda: accounts.sign_in(db, "mei", "wrong-wrong-wrong", now=NOW))
    accounts.sign_in(db, "mei", PASSWORD, now=NOW)  # a right one counts anew
    for _ in range(accounts.MAX_FAILURES):
        refused(lambda: accounts.sign_in(db, "mei", "wrong-wrong-wrong", now=NOW))
    assert accounts.named(db, "mei").locked_until == NOW + accounts.LOCKED
    almost = NOW + accounts.LOCKED - timedelta(seconds=1)
    refused(lambda: accounts.sign_in(db, "mei", PASSWORD, now=almost))
    assert accounts.sign_in(db, "mei", PASSWORD, now=NOW + accounts.LOCKED).locked_until is None


def test_a_new_password_unlocks(db: Database) -> None:
    made = make(db)
    for _ in range(accounts.MAX_FAILURES):
        refused(lambda: accounts.sign_in(db, "mei", "wrong-wrong-wrong", now=NOW))
    accounts.change(db, made.id, password="another-long-one", now=NOW)
    assert accounts.sign_in(db, "mei", "another-long-one", now=NOW).id == made.id


@pytest.mark.parametrize(
    "password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "mei-mei-likes-cats-9"]
)
def test_weak_passwords_are_refused(db: Database, password: str) -> None:
    with pytest.raises(InputError) as told:
        accounts.create(db, tenant="default", name="mei", role=Role.VIEWER, password=password)
    assert told.value.code == "password_weak"


@pytest.mark.parametrize("name", ["", "x", "Mei", "a b", "-a", "<script>", "x" * 65])
def test_names_are_plain(db: Database, name: str) -> None:
    with pytest.raises(InputError) as told:
        accounts.create(db, tenant="default", name=name, role=Role.VIEWER, password=PASSWORD)
    assert told.value.code == "account_name"


def test_a_name_is_one_person(db: Database) -> None:
    make(db)
    with pytest.raises(ConflictError) as told:
        accounts.create(db, tenant="other", name="mei", role=Role.VIEWER, password=PASSWORD)
    assert told.value.code == "account_exists"
    with pytest.raises(NotFoundError):
        accounts.named(db, "nobody")
    assert [row.name for row in accounts.listed(db)] == ["mei"]
    assert accounts.listed(db, "other") == []


def test_the_last_admin_stays(db: Database) -> None:
    made = make(db, "root", Role.ADMIN)
    for change in ({"disabled": True}, {"role": Role.LEAD}):
        with pytest.raises(ConflictError) as told:
            accounts.change(db, made.id, **change)  # type: ignore[arg-type]
        assert told.value.code == "last_admin"
    make(db, "second", Role.ADMIN)
    assert accounts.change(db, made.id, role=Role.LEAD).role is Role.LEAD


def test_roles_include_each_other() -> None:
    assert [role.covers(Role.LEAD) for role in Role] == [False, False, True, True]
    assert all(role.covers(Role.VIEWER) for role in Role)


def test_a_session_is_found_by_its_secret_alone(db: Database) -> None:
    secret, begun = sessions.begin(db, make(db), now=NOW)
    found = sessions.find(db, secret, now=NOW)
    assert (found.account.name, found.key) == ("mei", begun.key)
    with db.connect() as connection:
        assert secret not in str(connection.execute(select(session)).all())
    refused(lambda: sessions.find(db, begun.key, now=NOW))
    sessions.end(db, begun.key)
    refused(lambda: sessions.find(db, secret, now=NOW))


def test_a_session_ends_by_itself(db: Database) -> None:
    who = make(db)
    secret, _ = sessions.begin(db, who, now=NOW)
    refused(lambda: sessions.find(db, secret, now=NOW + sessions.IDLE))
    hour = timedelta(hours=1)
    for hours in range(1, 12):  # used every hour, it lasts for a shift
        assert sessions.find(db, secret, now=NOW + hours * hour).account.id == who.id
    refused(lambda: sessions.find(db, secret, now=NOW + sessions.LIFE))
    sessions.begin(db, who, now=NOW + 11 * hour)
    # Whoever signs in next sweeps out what is over.
    sessions.begin(db, who, now=NOW + sessions.LIFE)
    with db.connect() as connection:
        assert len(connection.execute(select(session)).all()) == 2


def test_changes_that_matter_sign_out(db: Database) -> None:
    make(db, "root", Role.ADMIN)
    who = make(db)
    for change in (
        {"disabled": True},
        {"disabled": False, "role": Role.LEAD},
        {"password": "q" + PASSWORD},
    ):
        secret, _ = sessions.begin(db, who, now=NOW)
        accounts.change(db, who.id, **change)  # type: ignore[arg-type]
        refused(lambda secret=secret: sessions.find(db, secret, now=NOW))  # type: ignore[misc]
    secret, _ = sessions.begin(db, who, now=NOW)
    accounts.prefer(db, who.id, {"blur": False})
    assert sessions.find(db, secret, now=NOW).account.preferences == {"blur": False}


def arrive(db: Database, subject: str = "s1", name: str = "Mei@x", **changes: Any) -> AccountRow:
    values = {"tenant": "default", "role": Role.REVIEWER, "now": NOW} | changes
    return accounts.arrive(db, subject=subject, name=name, **values)


def test_whom_a_provider_vouches_for_has_one_account(db: Database) -> None:
    make(db, "root", Role.ADMIN)
    found = arrive(db)
    assert (found.name, found.role, found.external, found.seen) == ("mei", Role.REVIEWER, True, NOW)
    secret, _ = sessions.begin(db, found, now=NOW)
    again = arrive(db, name="another", now=NOW + timedelta(hours=1))
    assert (again.id, again.name) == (found.id, "mei")
    assert sessions.find(db, secret, now=NOW).account.id == found.id
    assert arrive(db, role=Role.LEAD).role is Role.LEAD
    refused(lambda: sessions.find(db, secret, now=NOW))
    with db.connect() as connection:
        query = select(audit.c.action).where(audit.c.target == found.id).order_by(audit.c.id)
        acts = list(connection.execute(query).scalars())
    assert acts == ["account.create", "sign_in", "sign_in", "account.change", "sign_in"]


def test_it_has_no_password_and_a_name_of_its_own(db: Database) -> None:
    own = make(db, "mei")
    found = arrive(db)
    assert found.name == "mei-2"
    assert refused(lambda: accounts.sign_in(db, "mei-2", PASSWORD, now=NOW)) == accounts.REFUSED
    for change in ({"password": "q" + PASSWORD}, {"role": Role.ADMIN}):
        with pytest.raises(InputError) as told:
            accounts.change(db, found.id, **change)  # type: ignore[arg-type]
        assert told.value.code == "account_external"
    assert accounts.sign_in(db, "mei", PASSWORD, now=NOW).id == own.id
    names = {arrive(db, f"x{n}", name).name for n, name in enumerate(("", "é", "-.A b", "x" * 99))}
    assert names == {"user-1", "user-2", "a-b", "x" * 56}


def test_a_disabled_one_is_refused_and_told_of(db: Database) -> None:
    found = arrive(db)
    accounts.change(db, found.id, disabled=True)
    assert refused(lambda: arrive(db)) == accounts.DISABLED
    with db.connect() as connection:
        acts = connection.execute(select(audit.c.action).where(audit.c.target == found.id))
        assert list(acts.scalars())[-1] == "sign_in.refused"


def test_of_many_who_arrive_at_once_each_has_one(db: Database) -> None:
    made = together(lambda number: arrive(db, f"s{number // 2}"))
    assert len({one.id for one in made}) == 4
    assert {one.name for one in made} == {"mei", "mei-2", "mei-3", "mei-4"}
