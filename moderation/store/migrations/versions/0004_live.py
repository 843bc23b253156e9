"""Live streams, their leases and alerts; events of streams; how many streams a supervisor holds.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("worker", sa.Column("capacity", sa.Integer(), nullable=True))
    op.add_column("event", sa.Column("stream_id", ID, nullable=True))
    op.create_index("ix_event_stream_id_id", "event", ["stream_id", "id"], unique=False)
    op.create_table(
        "stream",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("policy_version", ID, nullable=False),
        sa.Column("interval_ms", sa.Integer(), nullable=False),
        sa.Column("hold_s", sa.Float(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("data_id", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("cut_callback_url", sa.Text(), nullable=True),
        sa.Column("desired", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("frames_seen", sa.BigInteger(), nullable=False),
        sa.Column("frames_dropped", sa.BigInteger(), nullable=False),
        sa.Column("reconnects", sa.BigInteger(), nullable=False),
        sa.Column("last_frame", TIME, nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("deleted", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_version.id"], name="fk_stream_policy_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_stream"),
    )
    op.create_index("ix_stream_tenant_id", "stream", ["tenant", "id"], unique=False)
    op.create_index("ix_stream_deleted", "stream", ["deleted"], unique=False)
    op.create_table(
        "stream_lease",
        sa.Column("stream_id", ID, nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("memory", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["stream_id"], ["stream.id"], name="fk_stream_lease_stream_id"),
        sa.PrimaryKeyConstraint("stream_id", name="pk_stream_lease"),
    )
    op.create_index(
        "ix_stream_lease_wanted_lease_until",
        "stream_lease",
        ["wanted", "lease_until"],
        unique=False,
    )
    op.create_index("ix_stream_lease_owner", "stream_lease", ["owner"], unique=False)
    op.create_table(
        "alert",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("stream_id", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("sublabel", sa.String(length=128), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("policy", sa.String(length=128), nullable=False),
        sa.Column("start", TIME, nullable=False),
        sa.Column("captured", TIME, nullable=False),
        sa.Column("end", TIME, nullable=True),
        sa.Column("boxes", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.ForeignKeyConstraint(["stream_id"], ["stream.id"], name="fk_alert_stream_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
    )
    op.create_index("ix_alert_tenant_id", "alert", ["tenant", "id"], unique=False)
    op.create_index("ix_alert_stream_id_id", "alert", ["stream_id", "id"], unique=False)
    op.create_index(
        "uq_alert_open",
        "alert",
        ["stream_id", "label"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
