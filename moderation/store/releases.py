"""Which version of a policy is in force: what people published, over what the files say.

A version is never changed. To go back is to publish the old rules anew, under the next number. What
is watched in shadow decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from moderation.errors import ConflictError, InputError, NotFoundError
from moderation.policy import Policy, choose_policy
from moderation.policy_diff import changes
from moderation.store.codec import clock, load_policy
from moderation.store.engine import Database
from moderation.store.live_changes import lock_stream
from moderation.store.policies import hold_policies, keep_policy
from moderation.store.tables import audit, policy_release, policy_shadow, policy_version, stream
from moderation.store.upsert import insert_new

FROM_FILE: Final = "file"
"""In place of who published a version: it came with a file."""
MAX_NOTE: Final = 2000


@dataclass(frozen=True, slots=True)
class Release:
    """A version and who put it in force, when. restores: the version whose rules it has again."""

    policy: Policy
    actor: str
    note: str | None
    restores: int | None
    created: datetime


@dataclass(frozen=True, slots=True)
class Published(Release):
    """streams: how many live streams go on under it."""

    streams: int = 0


@dataclass(frozen=True, slots=True)
class Shadow:
    """Rules that are held against what comes in, and decide nothing."""

    policy: Policy
    actor: str
    since: datetime


class Policies:
    """The policies in force, as one process knows them; used by many threads.

    files: by id. A tenant's releases are read anew once there is a new one, which each call asks
    for: what was published holds for the next request, at every gateway.
    """

    def __init__(self, files: Mapping[str, Policy]) -> None:
        self.files = dict(files)
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[int, Mapping[str, Policy]]] = {}

    def of(self, db: Database, tenant: str) -> Mapping[str, Policy]:
        """By id. Raises StoreError."""
        with db.connect() as connection:
            count = _count(connection, tenant)
            with self._lock:
                kept = self._kept.get(tenant)
            if kept is not None and kept[0] == count:
                return kept[1]
            found = {**self.files, **_in_force(connection, tenant)}
        with self._lock:
            self._kept[tenant] = (count, found)
        return found

    def named(self, db: Database, tenant: str, name: str) -> Policy:
        """By `id`, as it is in force, or by `id@version`, which may be an earlier one. Raises
        PolicyError naming those that are in force, StoreError."""
        known = self.of(db, tenant)
        ident, _, number = name.partition("@")
        for policy in (known.get(ident), self.files.get(ident)):
            if policy is not None and (not number or str(policy.version) == number):
                return policy
        if number.isascii() and number.isdigit() and len(number) < 10:
            earlier = _find(db, tenant, ident, int(number))
            if earlier is not None:
                return earlier.policy
        return choose_policy(known, name)


def history(db: Database, tenant: str, policy_id: str, *, limit: int = 200) -> tuple[Release, ...]:
    """Newest first; nothing for one that was never published. Raises StoreError."""
    query = (
        _RELEASES.where(policy_release.c.tenant == tenant, policy_release.c.policy == policy_id)
        .order_by(policy_release.c.id.desc())
        .limit(limit)
    )
    with db.connect() as connection:
        return tuple(_release(row) for row in connection.execute(query))


def with_previous(history: Sequence[Release]) -> list[tuple[Release, Policy | None]]:
    """Each with the policy before it; the oldest has none."""
    before: list[Policy | None] = [one.policy for one in history[1:]]
    return list(zip(history, [*before, None][: len(history)], strict=True))


def publish(
    db: Database,
    tenant: str,
    draft: Policy,
    *,
    base: Policy | None,
    actor: str,
    note: str | None = None,
    restores: int | None = None,
    now: datetime | None = None,
) -> Published:
    """Puts a draft in force, under the next version; its own number does not count.

    base: what was in force when the draft was made, None for a policy that is new. Live streams
    under the policy go on under the new version. Raises ConflictError (policy_changed) where
    something else is in force now, InputError (policy_same) where nothing changes, StoreError.
    """
    moment = clock(now)
    if base is not None and not changes(base, draft):
        raise InputError(f"These are the rules of {base.ref} already.", code="policy_same")
    with db.begin() as connection:
        hold_policies(connection, tenant, shared=False)
        newest = _newest_of(connection, tenant, draft.id)
        if newest is None and base is not None:
            _insert(connection, tenant, base, actor=FROM_FILE, now=moment)
        elif newest is not None and (base is None or newest.version != base.version):
            raise _changed(draft.id, newest.version)
        number = 1 if base is None else base.version + 1
        made = draft.model_copy(update={"version": number})
        row_id = _insert(
            connection, tenant, made, actor=actor, note=note, restores=restores, now=moment
        )
        _end_shadow(connection, tenant, made)
        streams = _move_streams(connection, tenant, made.id, row_id, moment)
        detail = {"ref": made.ref, "note": note, "restores": restores, "streams": streams}
        _audit(connection, tenant, actor, "policy.publish", made.id, detail, moment)
    return Published(made, actor, note, restores, moment, streams)


def watch(
    db: Database, tenant: str, draft: Policy, *, actor: str, now: datetime | None = None
) -> Shadow:
    """Holds a draft against all that comes in from now on, in place of what was watched of this
    policy before. Raises StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        key = {"tenant": tenant, "policy": draft.id}
        values = {
            "policy_version": keep_policy(connection, tenant, draft, moment),
            "actor": actor,
            "since": moment,
        }
        if not insert_new(connection, policy_shadow, key | values, list(key)):
            connection.execute(
                update(policy_shadow).where(*_shadow(tenant, draft.id)).values(values)
            )
        _audit(connection, tenant, actor, "policy.watch", draft.id, {}, moment)
    return Shadow(draft, actor, moment)


def unwatch(
    db: Database, tenant: str, policy_id: str, *, actor: str, now: datetime | None = None
) -> None:
    """Raises NotFoundError where nothing is watched; StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        gone = connection.execute(delete(policy_shadow).where(*_shadow(tenant, policy_id)))
        if not gone.rowcount:
            raise NotFoundError(f"No rules of {policy_id} are watched in shadow.")
        _audit(connection, tenant, actor, "policy.unwatch", policy_id, {}, moment)


def shadows(db: Database, tenant: str) -> dict[str, Shadow]:
    """By the policy's id. Raises StoreError."""
    query = (
        select(
            policy_shadow.c.policy,
            policy_version.c.body,
            policy_shadow.c.actor,
            policy_shadow.c.since,
        )
        .join(policy_version, policy_version.c.id == policy_shadow.c.policy_version)
        .where(policy_shadow.c.tenant == tenant)
    )
    with db.connect() as connection:
        rows = connection.execute(query).all()
    return {row.policy: Shadow(load_policy(row.body), row.actor, row.since) for row in rows}


_RELEASES = select(
    policy_version.c.body,
    policy_release.c.actor,
    policy_release.c.note,
    policy_release.c.restores,
    policy_release.c.created,
).join(policy_version, policy_version.c.id == policy_release.c.policy_version)


def _find(db: Database, tenant: str, policy_id: str, number: int) -> Release | None:
    query = _RELEASES.where(
        policy_release.c.tenant == tenant,
        policy_release.c.policy == policy_id,
        policy_release.c.version == number,
    )
    with db.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else _release(row)


def _release(row: Any) -> Release:
    return Release(load_policy(row.body), row.actor, row.note, row.restores, row.created)


def _count(connection: Connection, tenant: str) -> int:
    """As many rows, the same rows: they are only ever added. The highest id would not do, since two
    who publish at once may end in the other order."""
    query = select(func.count()).where(policy_release.c.tenant == tenant)
    return int(connection.execute(query).scalar_one())


def _in_force(connection: Connection, tenant: str) -> dict[str, Policy]:
    newest = (
        select(func.max(policy_release.c.id))
        .where(policy_release.c.tenant == tenant)
        .group_by(policy_release.c.policy)
    )
    query = _RELEASES.where(policy_release.c.id.in_(newest))
    found = [load_policy(row.body) for row in connection.execute(query)]
    return {policy.id: policy for policy in found}


def _newest_of(connection: Connection, tenant: str, policy_id: str) -> Any:
    query = (
        select(policy_release.c.id, policy_release.c.version)
        .where(policy_release.c.tenant == tenant, policy_release.c.policy == policy_id)
        .order_by(policy_release.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _insert(
    connection: Connection,
    tenant: str,
    policy: Policy,
    *,
    actor: str,
    now: datetime,
    note: str | None = None,
    restores: int | None = None,
) -> str:
    """The id of the policy's row. Raises ConflictError where somebody else made this version."""
    row_id = keep_policy(connection, tenant, policy, now)
    row = {
        "tenant": tenant,
        "policy": policy.id,
        "version": policy.version,
        "policy_version": row_id,
        "actor": actor,
        "note": note,
        "restores": restores,
        "created": now,
    }
    if not insert_new(connection, policy_release, row, ["tenant", "policy", "version"]):
        raise _changed(policy.id, policy.version)
    return row_id


def _changed(policy_id: str, number: int) -> ConflictError:
    return ConflictError(
        f"{policy_id}@{number} was published meanwhile: look at it first.", code="policy_changed"
    )


def _move_streams(
    connection: Connection, tenant: str, policy_id: str, row_id: str, now: datetime
) -> int:
    """Their owners take it over with the next renewal."""
    of_policy = select(policy_version.c.id).where(
        policy_version.c.tenant == tenant,
        policy_version.c.ref.like(f"{policy_id}@%".replace("_", r"\_"), escape="\\"),
    )
    query = select(stream.c.id).where(
        stream.c.tenant == tenant,
        stream.c.deleted.is_(None),
        stream.c.pinned.is_(False),
        stream.c.policy_version.in_(of_policy),
    )
    # In one order, so that two who publish at once do not wait for each other.
    ids = connection.execute(query.order_by(stream.c.id)).scalars().all()
    for stream_id in ids:
        lock_stream(connection, stream.c.id == stream_id)
        connection.execute(
            update(stream)
            .where(stream.c.id == stream_id)
            .values(policy_version=row_id, updated=now, revision=stream.c.revision + 1)
        )
    return len(ids)


def _shadow(tenant: str, policy_id: str) -> tuple[ColumnElement[bool], ...]:
    return (policy_shadow.c.tenant == tenant, policy_shadow.c.policy == policy_id)


def _end_shadow(connection: Connection, tenant: str, made: Policy) -> None:
    """What was watched is in force now."""
    query = (
        select(policy_version.c.body)
        .join(policy_shadow, policy_shadow.c.policy_version == policy_version.c.id)
        .where(*_shadow(tenant, made.id))
    )
    body = connection.execute(query).scalar_one_or_none()
    if body is not None and not changes(load_policy(body), made):
        connection.execute(delete(policy_shadow).where(*_shadow(tenant, made.id)))


def _audit(
    connection: Connection,
    tenant: str,
    actor: str,
    action: str,
    target: str,
    detail: dict[str, Any],
    now: datetime,
) -> None:
    row = {"tenant": tenant, "actor": actor, "action": action, "target": target}
    connection.execute(insert(audit).values(**row, detail=detail, created=now))
