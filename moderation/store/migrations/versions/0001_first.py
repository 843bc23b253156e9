"""The first tables.

Revision: 0001, after nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)
COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("hash", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("last_used", TIME, nullable=True),
        sa.Column("revoked", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("hash", name="uq_api_key_hash"),
    )
    op.create_table(
        "audit",
        sa.Column("id", COUNTER, autoincrement=True, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", ID, nullable=False),
        sa.Column("target", ID, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_tenant_id", "audit", ["tenant", "id"], unique=False)
    op.create_table(
        "event",
        sa.Column("id", COUNTER, autoincrement=True, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("kind", ID, nullable=False),
        sa.Column("item_id", ID, nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_tenant_id", "event", ["tenant", "id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("request_hash", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_idempotency"),
    )
    op.create_table(
        "list_entry",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("list", sa.String(length=16), nullable=False),
        sa.Column("match", sa.String(length=16), nullable=False),
        sa.Column("value", ID, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_list_entry"),
        sa.UniqueConstraint("tenant", "match", "value", name="uq_list_entry_tenant_match_value"),
    )
    op.create_table(
        "media",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("sha256", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("pdq", ID, nullable=True),
        sa.Column("blob_key", sa.String(length=512), nullable=False),
        sa.Column("refs", sa.Integer(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_media"),
        sa.UniqueConstraint("tenant", "sha256", name="uq_media_tenant_sha256"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", TIME, nullable=False),
        sa.Column("sent", TIME, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_job_id_kind", "outbox", ["job_id", "kind"], unique=False)
    op.create_index("ix_outbox_kind_state_due", "outbox", ["kind", "state", "due"], unique=False)
    op.create_table(
        "policy_version",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("ref", sa.String(length=128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy_version"),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("device", ID, nullable=True),
        sa.Column("precision", sa.String(length=16), nullable=True),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_worker"),
    )
    op.create_table(
        "item",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("media_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("current_verdict", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("data_id", sa.Text(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_item_media_id"),
        sa.PrimaryKeyConstraint("id", name="pk_item"),
    )
    op.create_index("ix_item_media_id_id", "item", ["media_id", "id"], unique=False)
    op.create_index("ix_item_tenant_data_id", "item", ["tenant", "data_id"], unique=False)
    op.create_index(
        "ix_item_tenant_decision_id", "item", ["tenant", "decision", "id"], unique=False
    )
    op.create_index("ix_item_tenant_id", "item", ["tenant", "id"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("policy_version", ID, nullable=False),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("deadline", TIME, nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("queued", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("ended", TIME, nullable=True),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_job_item_id"),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_version.id"], name="fk_job_policy_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_item_id", "job", ["item_id"], unique=False)
    op.create_index("ix_job_state_queued", "job", ["state", "queued"], unique=False)
    op.create_table(
        "verdict",
        sa.Column("id", COUNTER, autoincrement=True, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("policy_version", ID, nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("decided_by", sa.String(length=16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name="fk_verdict_item_id"),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_version.id"], name="fk_verdict_policy_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_verdict"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_verdict_item_id_id", "verdict", ["item_id", "id"], unique=False)
    op.create_index("ix_verdict_job_id", "verdict", ["job_id"], unique=False)
    op.create_table(
        "embedding",
        sa.Column("media_id", ID, nullable=False),
        sa.Column("encoder", sa.String(length=128), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_embedding_job_id"),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_embedding_media_id"),
        sa.PrimaryKeyConstraint("media_id", "encoder", "frame", name="pk_embedding"),
    )
    op.create_table(
        "scores",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("models", sa.String(length=512), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("media_id", ID, nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_scores_job_id"),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_scores_media_id"),
        sa.PrimaryKeyConstraint("job_id", "models", name="pk_scores"),
    )
    op.create_index("ix_scores_media_id", "scores", ["media_id"], unique=False)
    op.create_table(
        "verdict_label",
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdict.id"], name="fk_verdict_label_verdict_id"),
        sa.PrimaryKeyConstraint("verdict_id", "label", name="pk_verdict_label"),
    )
