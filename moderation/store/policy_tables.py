"""Tables of policies: their texts, what was published when, and what is watched in shadow."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from moderation.store.columns import (
    COUNTER,
    ID,
    TENANT,
    UtcTime,
    created_column,
    metadata,
    tenant_column,
)

NAME = String(64)

policy_version = Table(
    "policy_version",
    metadata,
    # Made from the content: two texts under one `id@version` stay two rows.
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("ref", String(128), nullable=False),
    Column("body", Text, nullable=False),
    created_column(),
    Index(None, "tenant", "ref"),
)

# Append-only: the newest of a policy is in force. One that was never published is as its file says.
policy_release = Table(
    "policy_release",
    metadata,
    Column("id", COUNTER, primary_key=True, autoincrement=True),
    tenant_column(),
    Column("policy", NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("policy_version", ID, ForeignKey("policy_version.id"), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("note", Text),
    # The version whose rules it has again.
    Column("restores", Integer),
    created_column(),
    UniqueConstraint("tenant", "policy", "version"),
    Index(None, "tenant", "id"),
    sqlite_autoincrement=True,
)

# Rules that decide nothing, but are held against all that comes in.
policy_shadow = Table(
    "policy_shadow",
    metadata,
    Column("tenant", TENANT, primary_key=True),
    Column("policy", NAME, primary_key=True),
    Column("policy_version", ID, ForeignKey("policy_version.id"), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("since", UtcTime, nullable=False),
)
