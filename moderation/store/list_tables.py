"""Tables of lists: banks, what is in them, and how often they changed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from moderation.store.columns import (
    ID,
    TENANT,
    UtcTime,
    created_column,
    metadata,
    tenant_column,
)

bank = Table(
    "bank",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("name", String(128), nullable=False),
    Column("kind", String(16), nullable=False),  # allow | block
    Column("decision", String(16), nullable=False),  # pass | review | block
    Column("label", String(128)),
    Column("distance", Integer, nullable=False),  # bits of 256, at most
    Column("enabled", Boolean(create_constraint=False), nullable=False),
    Column("entries", Integer, nullable=False),
    # Of the tenant's lists when it was changed last.
    Column("version", BigInteger, nullable=False),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    UniqueConstraint("tenant", "name"),
    Index(None, "tenant", "id"),
)

list_entry = Table(
    "list_entry",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("bank_id", ID, ForeignKey("bank.id"), nullable=False),
    Column("match", String(16), nullable=False),  # sha256 | pdq
    Column("value", String(64), nullable=False),
    Column("quality", Integer),  # of a PDQ hash, where it is known
    Column("note", Text),
    Column("source", Text),  # an item's id, or how else it came
    Column("created_by", String(128), nullable=False),
    Column("expires", UtcTime),
    # Of the tenant's lists when it was added: whoever holds an earlier one reads on from there.
    Column("version", BigInteger, nullable=False),
    created_column(),
    UniqueConstraint("bank_id", "match", "value"),
    Index(None, "bank_id", "id"),
    Index(None, "tenant", "match", "value"),
    Index(None, "tenant", "match", "version"),
)

# A row of a tenant that has had lists. Whoever changes them locks it: versions are in the order of
# the commits.
list_state = Table(
    "list_state",
    metadata,
    Column("tenant", TENANT, primary_key=True),
    Column("version", BigInteger, nullable=False),
    # Whoever holds an earlier version reads everything anew: much has gone.
    Column("reload", BigInteger, nullable=False),
)
