"""Policies as rows: each text of a tenant once."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select, text

from moderation.policy import Policy
from moderation.store.codec import dump_policy, policy_row_id
from moderation.store.engine import Database
from moderation.store.tables import policy_release, policy_version
from moderation.store.upsert import insert_new

POLICY_LOCK: Final = 0x706F
"""First half of the advisory lock's name; the second is the tenant's hash."""


def policy_refs(db: Database, tenant: str) -> list[str]:
    """Every `id@version` that anything was, or is to be, judged by. Raises StoreError."""
    query = select(policy_version.c.ref).where(policy_version.c.tenant == tenant).distinct()
    with db.connect() as connection:
        return sorted(connection.execute(query).scalars())


def keep_policy(connection: Connection, tenant: str, policy: Policy, now: datetime) -> str:
    """The id of the policy's row, which is made where it is not there yet."""
    body = dump_policy(policy)
    row_id = policy_row_id(tenant, body)
    row = {"id": row_id, "tenant": tenant, "ref": policy.ref, "body": body, "created": now}
    insert_new(connection, policy_version, row, ["id"])
    return row_id


def newest_policy(connection: Connection, tenant: str, policy: Policy, now: datetime) -> str:
    """The row of what is in force of a policy by now, which may be newer than `policy`: for what
    goes on under the versions to come. Until the transaction ends nothing newer is published."""
    hold_policies(connection, tenant, shared=True)
    query = (
        select(policy_release.c.policy_version)
        .where(policy_release.c.tenant == tenant, policy_release.c.policy == policy.id)
        .order_by(policy_release.c.id.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return keep_policy(connection, tenant, policy, now) if found is None else str(found)


def hold_policies(connection: Connection, tenant: str, *, shared: bool) -> None:
    """Who publishes, and who begins what has to follow (`shared`), take turns; on SQLite the write
    transaction itself excludes rivals."""
    if connection.dialect.name != "postgresql":
        return
    how = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    turn = text(f"SELECT {how}(:space, hashtext(:tenant))")
    connection.execute(turn, {"space": POLICY_LOCK, "tenant": tenant})
