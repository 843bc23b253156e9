"""Policies as rows: each text of a tenant once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from moderation.policy import Policy
from moderation.store.codec import dump_policy, policy_row_id
from moderation.store.engine import Database
from moderation.store.tables import policy_version
from moderation.store.upsert import insert_new


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
