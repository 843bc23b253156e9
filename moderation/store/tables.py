"""Tables of the store. Every change here comes with a migration of its own.

Ids are UUIDv7 with a prefix; rows that people page through are ordered by them. Rows of a
tenant carry it, and nothing is ever looked up across tenants. Times are UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from moderation.store.columns import (
    COUNTER,
    ID,
    TENANT,
    UtcTime,
    created_column,
    tenant_column,
)
from moderation.store.columns import metadata as metadata
from moderation.store.list_tables import bank as bank
from moderation.store.list_tables import list_entry as list_entry
from moderation.store.list_tables import list_state as list_state
from moderation.store.live_tables import alert as alert
from moderation.store.live_tables import stream as stream
from moderation.store.live_tables import stream_lease as stream_lease
from moderation.store.policy_tables import policy_release as policy_release
from moderation.store.policy_tables import policy_shadow as policy_shadow
from moderation.store.policy_tables import policy_version as policy_version
from moderation.store.review_tables import account as account
from moderation.store.review_tables import review as review
from moderation.store.review_tables import review_decision as review_decision
from moderation.store.review_tables import session as session

PASSED_BY_POLICY = "decided_by = 'policy' AND decision = 'pass' AND status = 'done'"
"""Condition on verdicts that no person, no list and no earlier verdict had a part in. In words: an
index is for them alone, and SQLite looks for the same words in a query."""

media = Table(
    "media",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("format", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_s", Float),
    Column("pdq", String(64)),
    Column("pdq_quality", Integer),  # 0..100
    Column("blob_key", String(512), nullable=False),
    Column("refs", Integer, nullable=False),
    created_column(),
    UniqueConstraint("tenant", "sha256"),
)

item = Table(
    "item",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("media_id", ID, ForeignKey("media.id"), nullable=False),
    # The latest job, and the verdict in force with what lists filter by. No foreign keys:
    # jobs and verdicts point here.
    Column("job_id", ID, nullable=False),
    Column("current_verdict", BigInteger),
    Column("decision", String(16)),
    Column("status", String(16)),
    # Of an alert: its stream. No foreign key: the item stays when the stream is forgotten.
    Column("stream_id", ID),
    Column("source", Text),
    Column("data_id", Text),
    created_column(),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "decision", "id"),
    Index(None, "stream_id", "id"),
    Index(None, "tenant", "data_id"),
    Index(None, "media_id", "id"),
)

job = Table(
    "job",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("item_id", ID, ForeignKey("item.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner", String(128)),
    Column("lease_until", UtcTime),
    Column("priority", Integer, nullable=False),
    Column("policy_version", ID, ForeignKey("policy_version.id"), nullable=False),
    Column("models", Text),
    Column("callback_url", Text),
    Column("deadline", UtcTime),
    Column("cancel_requested", Boolean(create_constraint=False), nullable=False),
    Column("error", Text),
    # Of videos: how to look (`options`), what was found of the file (`film`).
    Column("options", JSON),
    Column("film", JSON),
    # The version of the tenant's lists that it has seen; None: before there were any.
    Column("lists", BigInteger),
    created_column(),
    Column("queued", UtcTime, nullable=False),
    Column("updated", UtcTime, nullable=False),
    Column("ended", UtcTime),
    Index(None, "state", "queued"),
    Index(None, "item_id"),
    Index(None, "policy_version", "item_id"),
)

scores = Table(
    "scores",
    metadata,
    Column("job_id", ID, ForeignKey("job.id"), primary_key=True),
    Column("models", String(512), primary_key=True),
    tenant_column(),
    Column("media_id", ID, ForeignKey("media.id"), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("views", Integer, nullable=False),
    # float64, little endian; float32 before 0008
    Column("packed", LargeBinary, nullable=False),  # views x labels
    Column("times", LargeBinary, nullable=False),  # seconds
    # What else a decision rests on, see `packed_scores.Basis`; NULL: nobody can decide again.
    Column("complete", Boolean(create_constraint=False)),
    Column("gap_s", Float),
    Column("boxes", LargeBinary),
    Column("pictures", LargeBinary),
    created_column(),
    Index(None, "media_id"),
    # Samples of a time are drawn by it.
    Index(None, "tenant", "created"),
)

# A part of a video job: read by one worker, scored by another. Gone once its job has ended.
chunk = Table(
    "chunk",
    metadata,
    Column("job_id", ID, ForeignKey("job.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    tenant_column(),
    Column("round", Integer, nullable=False),
    Column("stage", String(16), nullable=False),  # waiting | read | score | done | failed | skipped
    Column("attempt", Integer, nullable=False),
    Column("owner", String(128)),
    Column("lease_until", UtcTime),
    Column("moments", Integer, nullable=False),
    Column("asks", LargeBinary, nullable=False),
    Column("frames", LargeBinary),
    Column("hashes", LargeBinary),
    Column("error", Text),
    Column("due", UtcTime, nullable=False),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    Index(None, "stage", "due"),
    Index(None, "owner"),
)

# PDQ hashes of the frames of a video that were looked at, by which a copy is recognised.
fingerprint = Table(
    "fingerprint",
    metadata,
    Column("media_id", ID, ForeignKey("media.id"), primary_key=True),
    tenant_column(),
    Column("duration_s", Float, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("hashes", LargeBinary, nullable=False),  # 32 bytes a frame
    Column("times", LargeBinary, nullable=False),  # float32, little endian, seconds
    created_column(),
    Index(None, "tenant", "duration_s"),
)

# Two media that show the same; written once, whichever came later in `media_id`.
likeness = Table(
    "likeness",
    metadata,
    Column("media_id", ID, ForeignKey("media.id"), primary_key=True),
    Column("other_id", ID, ForeignKey("media.id"), primary_key=True),
    tenant_column(),
    Column("share", Float, nullable=False),  # part of the frames that match, 0..1
    created_column(),
    Index(None, "other_id"),
)

# What people look at instead of the uploaded bytes; made when it is asked for.
derivative = Table(
    "derivative",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("media_id", ID, ForeignKey("media.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # pending | ready | failed
    Column("attempt", Integer, nullable=False),
    Column("blob_key", String(512)),
    Column("media_type", String(64)),
    Column("size", BigInteger),
    Column("error", Text),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    UniqueConstraint("media_id", "name"),
    Index(None, "state", "updated"),
)

# A file that comes in pieces (tus). The pieces lie in the media store until it is complete.
upload = Table(
    "upload",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("length", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("expires", UtcTime, nullable=False),
    created_column(),
    Index(None, "expires"),
)

upload_part = Table(
    "upload_part",
    metadata,
    Column("upload_id", ID, ForeignKey("upload.id"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("blob_key", String(512), nullable=False),
)

embedding = Table(
    "embedding",
    metadata,
    Column("media_id", ID, ForeignKey("media.id"), primary_key=True),
    Column("encoder", String(128), primary_key=True),
    Column("frame", Integer, primary_key=True),
    tenant_column(),
    Column("job_id", ID, ForeignKey("job.id"), nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float16, little endian
    created_column(),
)

verdict = Table(
    "verdict",
    metadata,
    Column("id", COUNTER, primary_key=True, autoincrement=True),
    tenant_column(),
    Column("item_id", ID, ForeignKey("item.id"), nullable=False),
    Column("job_id", ID),
    Column("policy_version", ID, ForeignKey("policy_version.id"), nullable=False),
    Column("models", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("decided_by", String(16), nullable=False),
    # The version of the tenant's lists when a person decided; None: that of the job.
    Column("lists", BigInteger),
    # The verdict of another item with the same bytes, by a person, that this one was passed on
    # from. No foreign key: it holds when that item is deleted.
    Column("passed_from", BigInteger),
    Column("body", Text, nullable=False),
    created_column(),
    Index(None, "item_id", "id"),
    Index(None, "job_id"),
    # What the policy passed, to be counted: see `PASSED_BY_POLICY`.
    Index(
        "ix_verdict_automatic_pass",
        *("tenant", "created"),
        sqlite_where=text(PASSED_BY_POLICY),
        postgresql_where=text(PASSED_BY_POLICY),
    ),
    sqlite_autoincrement=True,
)

verdict_label = Table(
    "verdict_label",
    metadata,
    Column("verdict_id", BigInteger, ForeignKey("verdict.id"), primary_key=True),
    Column("label", String(128), primary_key=True),
    tenant_column(),
)

event = Table(
    "event",
    metadata,
    Column("id", COUNTER, primary_key=True, autoincrement=True),
    tenant_column(),
    Column("kind", String(64), nullable=False),
    Column("item_id", ID),
    Column("stream_id", ID),
    Column("data", JSON, nullable=False),
    created_column(),
    Index(None, "tenant", "id"),
    Index(None, "stream_id", "id"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("kind", String(16), nullable=False),  # task | callback
    Column("event_id", ID, nullable=False),
    Column("job_id", ID),
    Column("target", Text),
    Column("payload", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # pending | sent | dead
    Column("attempts", Integer, nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("sent", UtcTime),
    Column("error", Text),
    created_column(),
    Index(None, "kind", "state", "due"),
    Index(None, "job_id", "kind"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", TENANT, primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    # Written before the item and the job: whoever inserts the row makes them.
    Column("item_id", ID, nullable=False),
    Column("job_id", ID, nullable=False),
    created_column(),
    Index(None, "created"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("name", String(128), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    created_column(),
    Column("last_used", UtcTime),
    Column("revoked", UtcTime),
)

# Machines serve every tenant: the one table without it.
worker = Table(
    "worker",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("role", String(32), nullable=False),
    Column("host", String(256), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("device", String(64)),
    Column("precision", String(16)),
    Column("models", JSON, nullable=False),
    Column("capacity", Integer),  # of a supervisor of live streams: how many it can hold
    Column("started", UtcTime, nullable=False),
    Column("seen", UtcTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", COUNTER, primary_key=True, autoincrement=True),
    tenant_column(),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", ID, nullable=False),
    Column("detail", JSON, nullable=False),
    created_column(),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "actor", "action", "created"),
    sqlite_autoincrement=True,
)
