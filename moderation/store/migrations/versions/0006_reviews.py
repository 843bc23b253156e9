"""Accounts, sessions, what waits for a person, decisions of people.

Revision: 0006, after 0005.
"""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", TIME, nullable=True),
        sa.Column("preferences", sa.JSON(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )
    op.create_index("ix_account_tenant_name", "account", ["tenant", "name"], unique=False)
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_session_account_id"),
        sa.PrimaryKeyConstraint("hash", name="pk_session"),
    )
    op.create_index("ix_session_account_id", "session", ["account_id"], unique=False)
    op.create_index("ix_session_expires", "session", ["expires"], unique=False)
    op.create_table(
        "review",
        sa.Column("item_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("due", TIME, nullable=False),
        sa.Column("label", sa.String(length=128), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("source_key", sa.BigInteger(), nullable=True),
        sa.Column("escalated", sa.Boolean(), nullable=False),
        sa.Column("claimed_by", ID, nullable=True),
        sa.Column("claimed", TIME, nullable=True),
        sa.Column("claim_until", TIME, nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_review_item_id"),
        sa.PrimaryKeyConstraint("item_id", name="pk_review"),
    )
    queue = ["tenant", "state", "rank", "due", "item_id"]
    op.create_index("ix_review_queue", "review", queue, unique=False)
    source = ["tenant", "state", "source_key", "rank", "due", "item_id"]
    op.create_index("ix_review_source", "review", source, unique=False)
    label = ["tenant", "state", "label", "rank", "due", "item_id", "escalated", "created"]
    op.create_index("ix_review_label", "review", label, unique=False)
    op.create_index("ix_review_claimed_by", "review", ["claimed_by"], unique=False)
    op.create_table(
        "review_decision",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("before_id", sa.BigInteger(), nullable=True),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("undone", TIME, nullable=True),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_review_decision_item_id"),
        sa.PrimaryKeyConstraint("id", name="pk_review_decision"),
    )
    for columns in (["item_id", "id"], ["tenant", "id"], ["actor", "id"]):
        name = f"ix_review_decision_{'_'.join(columns)}"
        op.create_index(name, "review_decision", columns, unique=False)
    # What waited before there was a queue waits in it. What it shows is in the verdict alone.
    op.execute(
        "INSERT INTO review (item_id, tenant, state, rank, due, label, score, escalated,"
        " created, updated) SELECT item.id, item.tenant, 'open', -job.priority, item.created,"
        " (SELECT min(label) FROM verdict_label WHERE verdict_id = item.current_verdict),"
        " NULL, false, item.created, item.created"
        " FROM item JOIN job ON job.id = item.job_id WHERE item.decision = 'review'"
    )
    _note_sources(op.get_bind())


def _note_sources(connection: sa.Connection) -> None:
    """As `moderation.store.review_entry.source_key` does it."""
    query = sa.text(
        "SELECT DISTINCT item.source FROM review JOIN item ON item.id = review.item_id"
        " WHERE item.source IS NOT NULL"
    )
    change = sa.text(
        "UPDATE review SET source_key = :key WHERE item_id IN"
        " (SELECT id FROM item WHERE source = :source)"
    )
    for (source,) in connection.execute(query).all():
        digest = hashlib.sha256(source.encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.execute(change, {"key": key, "source": source})
