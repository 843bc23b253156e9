"""Videos: chunks of a job, fingerprints, derivatives, uploads in pieces.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("media", sa.Column("duration_s", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("options", sa.JSON(), nullable=True))
    op.add_column("job", sa.Column("film", sa.JSON(), nullable=True))
    op.create_table(
        "chunk",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("moments", sa.Integer(), nullable=False),
        sa.Column("asks", sa.LargeBinary(), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=True),
        sa.Column("hashes", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due", TIME, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_chunk_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_chunk"),
    )
    op.create_index("ix_chunk_stage_due", "chunk", ["stage", "due"], unique=False)
    op.create_index("ix_chunk_owner", "chunk", ["owner"], unique=False)
    op.create_table(
        "fingerprint",
        sa.Column("media_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_fingerprint_media_id"),
        sa.PrimaryKeyConstraint("media_id", name="pk_fingerprint"),
    )
    op.create_index(
        "ix_fingerprint_tenant_duration_s", "fingerprint", ["tenant", "duration_s"], unique=False
    )
    op.create_table(
        "likeness",
        sa.Column("media_id", ID, nullable=False),
        sa.Column("other_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_likeness_media_id"),
        sa.ForeignKeyConstraint(["other_id"], ["media.id"], name="fk_likeness_other_id"),
        sa.PrimaryKeyConstraint("media_id", "other_id", name="pk_likeness"),
    )
    op.create_index("ix_likeness_other_id", "likeness", ["other_id"], unique=False)
    op.create_table(
        "derivative",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("media_id", ID, nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("blob_key", sa.String(length=512), nullable=True),
        sa.Column("media_type", ID, nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_derivative_media_id"),
        sa.PrimaryKeyConstraint("id", name="pk_derivative"),
        sa.UniqueConstraint("media_id", "name", name="uq_derivative_media_id_name"),
    )
    op.create_index("ix_derivative_state_updated", "derivative", ["state", "updated"], unique=False)
    op.create_table(
        "upload",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
    )
    op.create_index("ix_upload_expires", "upload", ["expires"], unique=False)
    op.create_table(
        "upload_part",
        sa.Column("upload_id", ID, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("blob_key", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["upload.id"], name="fk_upload_part_upload_id"),
        sa.PrimaryKeyConstraint("upload_id", "start", name="pk_upload_part"),
    )
