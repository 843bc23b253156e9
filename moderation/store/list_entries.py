"""Entries of banks: added one by one or many at a time, listed, removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from moderation.errors import InputError, NotFoundError
from moderation.ids import new_id
from moderation.known import MIN_QUALITY, MatchKind
from moderation.store.codec import clock, dump_cursor, load_cursor
from moderation.store.engine import Database
from moderation.store.list_changes import bank_of, count_up, note, recount
from moderation.store.list_records import Added, EntryPage, EntryRow, NewEntry
from moderation.store.lists import BATCH
from moderation.store.tables import item, list_entry, media
from moderation.store.upsert import insert_missing

_ENTRY = (
    list_entry.c.id,
    list_entry.c.bank_id,
    list_entry.c.match,
    list_entry.c.value,
    list_entry.c.quality,
    list_entry.c.note,
    list_entry.c.source,
    list_entry.c.created_by,
    list_entry.c.expires,
    list_entry.c.created,
)


def add_entries(
    db: Database,
    tenant: str,
    bank_id: str,
    entries: Sequence[NewEntry],
    *,
    actor: str,
    source: str | None = None,
    expires: datetime | None = None,
    now: datetime | None = None,
) -> Added:
    """Adds what is not there yet, up to 2000 entries in one transaction: the next upload is held
    against them. One that is there but would end sooner is replaced.

    Raises NotFoundError, InputError (expires_invalid) for a time that has passed, StoreError: of
    many, those of the transactions before it are there then, and adding all once more is safe.
    """
    moment = clock(now)
    if expires is not None and expires <= moment:
        raise InputError("An entry expires in the future.", code="expires_invalid")
    wanted = {(one.match, one.value): one for one in reversed(entries)}
    distinct = list(reversed(wanted.values()))
    ids: list[str] = []
    # At least once: an unknown bank is told, whatever is to be added.
    for at in range(0, max(1, len(distinct)), BATCH):
        part = distinct[at : at + BATCH]
        with db.begin() as connection:
            version = count_up(connection, tenant)
            bank_of(connection, tenant, bank_id)
            gone = _drop_sooner(connection, bank_id, part, expires)
            shared = {
                "tenant": tenant,
                "bank_id": bank_id,
                "source": source,
                "created_by": actor,
                "expires": expires,
                "version": version,
                "created": moment,
            }
            new = _insert(connection, part, shared)
            ids += new
            recount(connection, bank_id, len(new) - gone)
            if new:
                detail = {"added": len(new), "source": source}
                action = "list.add"
                note(connection, tenant, action, bank_id, actor=actor, detail=detail, now=moment)
    return Added(tuple(ids), len(entries) - len(ids))


def of_item(
    db: Database, tenant: str, item_id: str, *, note: str | None = None
) -> tuple[list[NewEntry], str | None]:
    """What lists may have of an item's medium: its bytes, and of a picture that was decoded how it
    looks; and why that is left out, where it is. Raises NotFoundError, StoreError."""
    query = (
        select(media.c.sha256, media.c.kind, media.c.pdq, media.c.pdq_quality)
        .join(item, item.c.media_id == media.c.id)
        .where(item.c.id == item_id, item.c.tenant == tenant)
    )
    with db.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no item {item_id}.")
    found = [NewEntry(MatchKind.SHA256, row.sha256, note)]
    if row.kind != "image":
        return found, "A film is listed by its bytes alone."
    if row.pdq is None:
        return found, "The picture was not decoded, so nothing is known of how it looks."
    if row.pdq_quality is not None and row.pdq_quality < MIN_QUALITY:
        return found, "The picture is too plain to be known by how it looks."
    return [*found, NewEntry(MatchKind.PDQ, row.pdq, note, row.pdq_quality)], None


def entries_of(
    db: Database,
    tenant: str,
    bank_id: str,
    *,
    match: MatchKind | None = None,
    value: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> EntryPage:
    """Entries of a bank, newest first, `limit` to a page (at least 1), expired ones too. Raises
    NotFoundError, InputError (cursor_invalid), StoreError."""
    size = max(1, limit)
    query = select(*_ENTRY).where(list_entry.c.bank_id == bank_id)
    if match is not None:
        query = query.where(list_entry.c.match == match.value)
    if value is not None:
        # Of any kind, if need be: the index has the kind before the value.
        kinds = [kind.value for kind in MatchKind]
        query = query.where(list_entry.c.match.in_(kinds), list_entry.c.value == value)
    else:
        query = query.order_by(list_entry.c.id.desc()).limit(size + 1)
    if cursor is not None:
        query = query.where(list_entry.c.id < load_cursor(cursor))
    with db.connect() as connection:
        bank_of(connection, tenant, bank_id)
        rows = list(connection.execute(query).mappings())
    if value is not None:
        # One of each kind. To be given them in order, SQLite would read the whole list.
        rows.sort(key=lambda row: str(row["id"]), reverse=True)
    shown = tuple(_entry_row(row) for row in rows[:size])
    more = len(rows) > size
    return EntryPage(shown, dump_cursor(shown[-1].id) if more else None)


def entries_like(
    db: Database, tenant: str, bank_id: str, entries: Sequence[NewEntry]
) -> tuple[EntryRow, ...]:
    """Those of a bank that have these hashes, in their order. Raises StoreError."""
    known: dict[tuple[MatchKind, str], EntryRow] = {}
    with db.connect() as connection:
        for some in _by_kind(entries):
            query = select(*_ENTRY).where(
                list_entry.c.tenant == tenant, list_entry.c.bank_id == bank_id, some
            )
            for row in connection.execute(query).mappings():
                entry = _entry_row(row)
                known[entry.match, entry.value] = entry
    return tuple(known[key] for one in entries if (key := (one.match, one.value)) in known)


def entries_named(db: Database, tenant: str, ids: Sequence[str]) -> dict[str, EntryRow]:
    """Entries of any bank of the tenant by their ids; those that are gone are left out. Raises
    StoreError."""
    found: dict[str, EntryRow] = {}
    with db.connect() as connection:
        for at in range(0, len(ids), BATCH):
            some = list_entry.c.id.in_(ids[at : at + BATCH])
            query = select(*_ENTRY).where(list_entry.c.tenant == tenant, some)
            for row in connection.execute(query).mappings():
                found[row["id"]] = _entry_row(row)
    return found


def remove_entry(
    db: Database,
    tenant: str,
    bank_id: str,
    entry_id: str,
    *,
    actor: str,
    now: datetime | None = None,
) -> None:
    """The next upload is not held against it. Raises NotFoundError, StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        count_up(connection, tenant)
        bank_of(connection, tenant, bank_id)
        gone = (
            delete(list_entry)
            .where(list_entry.c.id == entry_id, list_entry.c.bank_id == bank_id)
            .returning(list_entry.c.match, list_entry.c.value)
        )
        row = connection.execute(gone).one_or_none()
        if row is None:
            raise NotFoundError(f"There is no entry {entry_id} in this list.")
        recount(connection, bank_id, -1)
        detail = {"entry_id": entry_id, "match": row.match, "value": row.value}
        note(connection, tenant, "list.remove", bank_id, actor=actor, detail=detail, now=moment)


def _insert(connection: Connection, part: Sequence[NewEntry], shared: dict[str, Any]) -> list[str]:
    rows = [
        {
            **shared,
            "id": new_id("entry"),
            "match": one.match.value,
            "value": one.value,
            "quality": one.quality,
            "note": one.note,
        }
        for one in part
    ]
    return insert_missing(connection, list_entry, rows, ["bank_id", "match", "value"])


def _drop_sooner(
    connection: Connection, bank_id: str, part: Sequence[NewEntry], expires: datetime | None
) -> int:
    """Entries of these hashes that would end before the new ones, or have ended; how many."""
    sooner: ColumnElement[bool] = list_entry.c.expires.is_not(None)
    if expires is not None:
        sooner = and_(sooner, list_entry.c.expires < expires)
    gone = 0
    for some in _by_kind(part):
        of_these = delete(list_entry).where(list_entry.c.bank_id == bank_id, some, sooner)
        gone += connection.execute(of_these).rowcount
    return gone


def _by_kind(entries: Sequence[NewEntry]) -> Iterator[ColumnElement[bool]]:
    """Conditions that are asked one after the other: of either at once, SQLite would read the whole
    list."""
    for kind in MatchKind:
        values = [one.value for one in entries if one.match is kind]
        if values:
            yield and_(list_entry.c.match == kind.value, list_entry.c.value.in_(values))


def _entry_row(row: Any) -> EntryRow:
    return EntryRow(**{**row, "match": MatchKind(row["match"])})
