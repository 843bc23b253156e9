"""Lists: banks of known pictures.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Nothing has ever written to it.
    op.drop_table("list_entry")
    op.create_table(
        "bank",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=True),
        sa.Column("distance", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bank"),
        sa.UniqueConstraint("tenant", "name", name="uq_bank_tenant_name"),
    )
    op.create_index("ix_bank_tenant_id", "bank", ["tenant", "id"], unique=False)
    op.create_table(
        "list_entry",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("bank_id", ID, nullable=False),
        sa.Column("match", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("quality", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("expires", TIME, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["bank_id"], ["bank.id"], name="fk_list_entry_bank_id"),
        sa.PrimaryKeyConstraint("id", name="pk_list_entry"),
        sa.UniqueConstraint("bank_id", "match", "value", name="uq_list_entry_bank_id_match_value"),
    )
    for columns in (
        ["bank_id", "id"],
        ["tenant", "match", "value"],
        ["tenant", "match", "version"],
    ):
        op.create_index(f"ix_list_entry_{'_'.join(columns)}", "list_entry", columns, unique=False)
    op.create_table(
        "list_state",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("reload", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_list_state"),
    )
    op.add_column("media", sa.Column("pdq_quality", sa.Integer(), nullable=True))
    # The version of the tenant's lists that a job has seen.
    op.add_column("job", sa.Column("lists", sa.BigInteger(), nullable=True))
    # The same of a person's decision.
    op.add_column("verdict", sa.Column("lists", sa.BigInteger(), nullable=True))
