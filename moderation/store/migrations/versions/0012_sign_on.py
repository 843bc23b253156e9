"""Accounts of people whom an identity provider vouches for.

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account", sa.Column("subject", sa.String(64)))
    op.create_index("ix_account_subject", "account", ["subject"], unique=True)
