"""What the lists say of an upload: by its bytes, and by how it looks.

Of PDQ entries a process holds the hashes in memory, and only ever adds to them. What it finds near
is then asked of the database, which says whether the entry is still there and what its bank wants.
So a change of any kind takes effect at once, and a new entry costs the reading of new ones alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select

from moderation.fingerprint import HashedFrame
from moderation.hash_index import HashIndex
from moderation.known import MIN_QUALITY, BankKind, Hit, MatchKind
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.tables import bank, list_entry, list_state
from moderation.types import Decision

AT_ONCE: Final = 500
"""Entries that one query asks for."""
READ_AT_ONCE: Final = 20_000
MAX_NEWER: Final = 2000
"""More new entries than this are not compared in the transaction of an upload."""
SPARE: Final = 10_000
"""Rows that a process may hold of entries that have gone, beside as many as it began with."""

_PREFIX: Final = "entry_"
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Near:
    """Entries in force that a picture is near to, the nearest first. version: of the tenant's lists
    as they were asked; 0: it has none."""

    version: int
    hits: tuple[Hit, ...]


def version_of(connection: Connection, tenant: str) -> int:
    """Counts up with every change of the tenant's lists; 0 when it never had any."""
    query = select(list_state.c.version).where(list_state.c.tenant == tenant)
    return connection.execute(query).scalar_one_or_none() or 0


def by_sha256(connection: Connection, tenant: str, sha256: str, now: datetime) -> tuple[Hit, ...]:
    """Entries in force that have these bytes."""
    same = (list_entry.c.match == MatchKind.SHA256.value, list_entry.c.value == sha256)
    return tuple(_hit(row) for row in _in_force(connection, tenant, now, *same))


def having_sha256(
    db: Database, tenant: str, sha256: str, *, now: datetime | None = None
) -> tuple[Hit, ...]:
    """As `by_sha256`, on its own. Raises StoreError."""
    with db.connect() as connection:
        return by_sha256(connection, tenant, sha256, clock(now))


def maybe_newer(
    connection: Connection, tenant: str, since: int, hashes: bytes, now: datetime
) -> bool:
    """Whether an entry that was added or changed after version `since` may say something of a
    picture, or of a film's frames (PDQ, 32 bytes each). Where there are very many, they may."""
    if not hashes:
        return False
    if maybe_added(connection, tenant, since, hashes, now):
        return True
    changed = select(bank.c.id).where(
        bank.c.tenant == tenant, bank.c.version > since, bank.c.enabled.is_(True)
    )
    ids = connection.execute(changed).scalars().all()
    return bool(ids) and _maybe_near(connection, tenant, hashes, now, list_entry.c.bank_id.in_(ids))


def maybe_added(
    connection: Connection, tenant: str, since: int, hashes: bytes, now: datetime
) -> bool:
    """As `maybe_newer`, of entries that were added alone."""
    added = (list_entry.c.tenant == tenant, list_entry.c.version > since)
    return bool(hashes) and _maybe_near(connection, tenant, hashes, now, *added)


def _maybe_near(
    connection: Connection,
    tenant: str,
    hashes: bytes,
    now: datetime,
    *conditions: ColumnElement[bool],
) -> bool:
    # Neither a join nor another condition: each index ends the reading at the limit.
    query = (
        select(list_entry.c.bank_id, list_entry.c.value, list_entry.c.expires)
        .where(list_entry.c.match == MatchKind.PDQ.value, *conditions)
        .limit(MAX_NEWER + 1)
    )
    rows = connection.execute(query).all()
    if len(rows) > MAX_NEWER:
        return True
    if not rows:
        return False
    enabled = select(bank.c.id, bank.c.distance).where(
        bank.c.tenant == tenant, bank.c.enabled.is_(True)
    )
    distances = {row.id: row.distance for row in connection.execute(enabled)}
    index = HashIndex(hashes)
    return any(
        len(index.within(bytes.fromhex(row.value), distances[row.bank_id])[0])
        for row in rows
        if row.bank_id in distances and (row.expires is None or row.expires > now)
    )


class Lists:
    """The PDQ entries of tenants, as this process holds them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def near(self, db: Database, tenant: str, pdq: str, *, now: datetime | None = None) -> Near:
        """Entries in force within their bank's distance of a hash (64 hexadecimal digits). Raises
        StoreError."""
        moment = clock(now)
        kept = self._current(db, tenant, moment)
        rows, bits = kept.index.within(bytes.fromhex(pdq))
        found = {kept.id_of(int(row)): int(n) for row, n in zip(rows, bits, strict=True)}
        hits = [
            replace(hit, distance=found[hit.entry_id])
            for hit, distance in _entries(db, tenant, list(found), moment)
            if found[hit.entry_id] <= distance
        ]
        hits.sort(key=lambda hit: (hit.distance, hit.entry_id))
        return Near(kept.version, tuple(hits))

    def near_frames(
        self,
        db: Database,
        tenant: str,
        frames: Iterable[HashedFrame],
        *,
        now: datetime | None = None,
    ) -> Near:
        """Entries in force that frames of a film are near to, each with the frame that is nearest.
        Plain frames are left out. Raises StoreError."""
        moment = clock(now)
        kept = self._current(db, tenant, moment)
        found: dict[str, tuple[int, float]] = {}
        for frame in frames if len(kept.index) else ():
            if frame.quality < MIN_QUALITY:
                continue
            for row, bits in zip(*kept.index.within(bytes.fromhex(frame.pdq)), strict=True):
                entry_id, there = kept.id_of(int(row)), (int(bits), frame.time_s)
                found[entry_id] = min(there, found.get(entry_id, there))
        hits = []
        for hit, distance in _entries(db, tenant, list(found), moment):
            bits, time_s = found[hit.entry_id]
            if bits <= distance:
                hits.append(replace(hit, distance=bits, time_s=time_s))
        hits.sort(key=lambda hit: (hit.distance, hit.entry_id))
        return Near(kept.version, tuple(hits))

    def _current(self, db: Database, tenant: str, now: datetime) -> _Kept:
        """What is held, once everything that was committed before this call is in it."""
        kept = self._kept.get(tenant, _NOTHING)
        with db.connect() as connection:
            query = select(list_state.c.version, list_state.c.reload)
            query = query.where(list_state.c.tenant == tenant)
            state = connection.execute(query).one_or_none()
        if state is None or state.version <= kept.version:
            return kept
        with self._lock:
            kept = self._kept.get(tenant, _NOTHING)
            if state.version > kept.version:
                stale = kept.version < state.reload or kept.sparse
                start = _NOTHING if stale else kept
                kept = self._kept[tenant] = _read_on(db, tenant, start, state.version, now)
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """version: everything that it has, and less that was removed. ids: 16 bytes a row of the
    index. began: rows when all was read at once."""

    version: int
    index: HashIndex
    ids: bytes
    began: int

    @property
    def sparse(self) -> bool:
        """It has grown so much that most of it may have gone: entries that are renewed again and
        again would fill the memory."""
        return len(self.index) > 2 * self.began + SPARE

    def id_of(self, row: int) -> str:
        return _PREFIX + self.ids[row * _ID_BYTES : (row + 1) * _ID_BYTES].hex()


_NOTHING: Final = _Kept(0, HashIndex(), b"", 0)


def _read_on(db: Database, tenant: str, kept: _Kept, version: int, now: datetime) -> _Kept:
    query = (
        select(list_entry.c.id, list_entry.c.value)
        .where(
            list_entry.c.tenant == tenant,
            list_entry.c.match == MatchKind.PDQ.value,
            list_entry.c.version > kept.version,
            # What comes meanwhile is for the next time: nothing is read twice.
            list_entry.c.version <= version,
            or_(list_entry.c.expires.is_(None), list_entry.c.expires > now),
        )
        .execution_options(yield_per=READ_AT_ONCE)
    )
    ids, hashes = [kept.ids], []
    with db.connect() as connection:
        for rows in connection.execute(query).partitions():
            ids.append(bytes.fromhex("".join(row.id.removeprefix(_PREFIX) for row in rows)))
            hashes.append(bytes.fromhex("".join(row.value for row in rows)))
    index = kept.index.with_more(b"".join(hashes))
    return _Kept(version, index, b"".join(ids), kept.began or len(index))


def _entries(db: Database, tenant: str, ids: Sequence[str], now: datetime) -> list[tuple[Hit, int]]:
    """Those of the entries that are in force, with their banks' distances."""
    if not ids:
        return []
    found = []
    with db.connect() as connection:
        for at in range(0, len(ids), AT_ONCE):
            some = list_entry.c.id.in_(ids[at : at + AT_ONCE])
            for row in _in_force(connection, tenant, now, some):
                found.append((_hit(row), int(row["distance"])))
    return found


def _in_force(
    connection: Connection,
    tenant: str,
    now: datetime,
    *conditions: ColumnElement[bool],
) -> Sequence[RowMapping]:
    query = (
        select(
            list_entry.c.id,
            list_entry.c.match,
            list_entry.c.value,
            list_entry.c.bank_id,
            list_entry.c.version,
            bank.c.name,
            bank.c.kind,
            bank.c.decision,
            bank.c.label,
            bank.c.distance,
        )
        .join(bank, bank.c.id == list_entry.c.bank_id)
        .where(
            list_entry.c.tenant == tenant,
            bank.c.enabled.is_(True),
            or_(list_entry.c.expires.is_(None), list_entry.c.expires > now),
            and_(*conditions),
        )
    )
    return connection.execute(query).mappings().all()


def _hit(row: RowMapping) -> Hit:
    return Hit(
        bank_id=row["bank_id"],
        bank=row["name"],
        kind=BankKind(row["kind"]),
        decision=Decision(row["decision"]),
        label=row["label"],
        entry_id=row["id"],
        match=MatchKind(row["match"]),
        version=row["version"],
    )
