"""Policies that are published, and all that deciding again needs.

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_index("ix_policy_version_tenant_ref", "policy_version", ["tenant", "ref"])
    op.create_table(
        "policy_release",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("policy", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("policy_version", ID, nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_version.id"], name="fk_policy_release_policy_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_policy_release"),
        sa.UniqueConstraint(
            "tenant", "policy", "version", name="uq_policy_release_tenant_policy_version"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_policy_release_tenant_id", "policy_release", ["tenant", "id"])
    op.create_table(
        "policy_shadow",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("policy", ID, nullable=False),
        sa.Column("policy_version", ID, nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_version.id"], name="fk_policy_shadow_policy_version"
        ),
        sa.PrimaryKeyConstraint("tenant", "policy", name="pk_policy_shadow"),
    )
    op.add_column(
        "stream", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    # What was judged by a policy, the newest first.
    op.create_index("ix_job_policy_version_item_id", "job", ["policy_version", "item_id"])
    op.add_column("scores", sa.Column("complete", sa.Boolean(), nullable=True))
    op.add_column("scores", sa.Column("gap_s", sa.Float(), nullable=True))
    op.add_column("scores", sa.Column("boxes", sa.LargeBinary(), nullable=True))
    op.add_column("scores", sa.Column("pictures", sa.LargeBinary(), nullable=True))
