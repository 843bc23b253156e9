"""Tables of people and their work: accounts, sessions, what waits for them, what they decided."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from moderation.store.columns import ID, UtcTime, created_column, metadata, tenant_column

account = Table(
    "account",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    # By name alone people sign in: one name, one person, whatever the tenant.
    Column("name", String(64), nullable=False, unique=True),
    # Whom an identity provider vouches for: sha256 of issuer and subject. None: has a password.
    Column("subject", String(64)),
    Column("role", String(16), nullable=False),  # viewer | reviewer | lead | admin
    Column("password", Text, nullable=False),  # argon2id
    Column("disabled", Boolean(create_constraint=False), nullable=False),
    Column("failures", Integer, nullable=False),  # wrong passwords in a row
    Column("locked_until", UtcTime),
    Column("preferences", JSON, nullable=False),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    Column("seen", UtcTime),  # last sign-in
    Index(None, "tenant", "name"),
    Index(None, "subject", unique=True),
)

# A browser that is signed in. The cookie's value is not stored: its hash is.
session = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("account_id", ID, ForeignKey("account.id"), nullable=False),
    tenant_column(),
    created_column(),
    Column("seen", UtcTime, nullable=False),
    Column("expires", UtcTime, nullable=False),
    Index(None, "account_id"),
    Index(None, "expires"),
)

# What needs a person, or did, and passes that were drawn for an audit: one row an item. What lists
# filter and order by is copied here, so that one narrow table answers them.
review = Table(
    "review",
    metadata,
    Column("item_id", ID, ForeignKey("item.id"), primary_key=True),
    tenant_column(),
    Column("state", String(16), nullable=False),  # open | decided | settled
    # The queue is in the order of these two, lowest first. rank: less the job's priority, so that
    # one index has the order. due: its time, less some hours for its risk.
    Column("rank", Integer, nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("label", String(128)),
    Column("score", Float),
    # Stands for the item's source, which is too long for an index: `review_entry.source_key`.
    Column("source_key", BigInteger),
    Column("escalated", Boolean(create_constraint=False), nullable=False),
    # Drawn from what the policy passed: nothing asks for a person but the audit itself.
    Column("audit", Boolean(create_constraint=False), nullable=False),
    Column("claimed_by", ID),
    Column("claimed", UtcTime),
    Column("claim_until", UtcTime),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    Index("ix_review_queue", "tenant", "state", "rank", "due", "item_id"),
    Index("ix_review_source", "tenant", "state", "source_key", "rank", "due", "item_id"),
    # With all that `reviews.counts` reads behind the order.
    Index(
        "ix_review_label",
        *("tenant", "state", "label", "rank", "due", "item_id", "escalated", "created"),
    ),
    # Few among many: the queue of audits alone, and what came of them.
    Index(
        "ix_review_audit",
        *("tenant", "state", "rank", "due", "item_id", "created"),
        # As `is_(True)` is spelled: SQLite looks for the same words in a query.
        sqlite_where=text("audit IS 1"),
        postgresql_where=text("audit IS true"),
    ),
    Index(None, "claimed_by"),
)

# What a person decided, for good: an undone one stays, with the time of that.
review_decision = Table(
    "review_decision",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("item_id", ID, ForeignKey("item.id"), nullable=False),
    Column("actor", ID, nullable=False),  # an account's id, or a key's
    Column("action", String(16), nullable=False),  # pass | block | escalate
    Column("label", String(128)),
    Column("note", Text),
    Column("labels", JSON, nullable=False),  # label -> confirmed | rejected
    # The verdicts in force before, and of this decision (none where it was passed on).
    Column("before_id", BigInteger),
    Column("verdict_id", BigInteger),
    Column("seconds", Float),  # since it was claimed
    created_column(),
    Column("undone", UtcTime),
    Index(None, "item_id", "id"),
    Index(None, "tenant", "id"),
    Index(None, "actor", "id"),
)
