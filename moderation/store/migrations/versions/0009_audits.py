"""Passes that are drawn for an audit; indexes to count passes by, and to draw scores by.

Revision: 0009, after 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

PASSED = "decided_by = 'policy' AND decision = 'pass' AND status = 'done'"


def upgrade() -> None:
    column: sa.Column[bool] = sa.Column(
        "audit", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("review", column)
    op.create_index(
        "ix_review_audit",
        "review",
        ["tenant", "state", "rank", "due", "item_id", "created"],
        unique=False,
        sqlite_where=sa.text("audit IS 1"),
        postgresql_where=sa.text("audit IS true"),
    )
    op.create_index(
        "ix_verdict_automatic_pass",
        "verdict",
        ["tenant", "created"],
        unique=False,
        sqlite_where=sa.text(PASSED),
        postgresql_where=sa.text(PASSED),
    )
    op.create_index("ix_scores_tenant_created", "scores", ["tenant", "created"], unique=False)
