"""Alerts of live streams are items.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(64)


def upgrade() -> None:
    op.add_column("item", sa.Column("stream_id", ID, nullable=True))
    op.create_index("ix_item_stream_id_id", "item", ["stream_id", "id"], unique=False)
    op.add_column("alert", sa.Column("item_id", ID, nullable=True))
    op.create_index("ix_alert_item_id", "alert", ["item_id"], unique=False)
