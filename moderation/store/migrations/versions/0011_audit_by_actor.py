"""An index to count by what somebody did of late.

Revision: 0011, after 0010.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_audit_tenant_actor_action_created",
        "audit",
        ["tenant", "actor", "action", "created"],
        unique=False,
    )
