"""Tables of live streams: what is wanted, who does it, what was found."""

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
    String,
    Table,
    Text,
    false,
    text,
)

from moderation.store.columns import ID, UtcTime, created_column, metadata, tenant_column

# What a caller wants (`desired` and above it), and what its owner last told (below it).
stream = Table(
    "stream",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    # With the credentials: read by the owner of its lease alone. `shown` has none.
    Column("url", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("policy_version", ID, ForeignKey("policy_version.id"), nullable=False),
    # To that version: a newer one does not take its place.
    Column("pinned", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("interval_ms", Integer, nullable=False),
    Column("hold_s", Float, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("data_id", Text),
    Column("callback_url", Text),
    Column("cut_callback_url", Text),
    Column("desired", String(16), nullable=False),  # run | stop
    # Counts up with every change that the owner has to take over.
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("detail", Text),
    Column("since", UtcTime, nullable=False),  # of the state
    Column("frames_seen", BigInteger, nullable=False),
    Column("frames_dropped", BigInteger, nullable=False),
    Column("reconnects", BigInteger, nullable=False),
    Column("last_frame", UtcTime),
    Column("scores", JSON, nullable=False),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    Column("deleted", UtcTime),
    Index(None, "tenant", "id"),
    Index(None, "deleted"),
)

# A row of its own, narrow, since it is renewed every few seconds. Whoever writes of a stream as its
# owner locks this row first.
stream_lease = Table(
    "stream_lease",
    metadata,
    Column("stream_id", ID, ForeignKey("stream.id"), primary_key=True),
    # The stream is to run and is not over: the row alone tells that it may be taken.
    Column("wanted", Boolean(create_constraint=False), nullable=False),
    Column("owner", String(128)),
    Column("generation", BigInteger, nullable=False),  # counts up whenever the owner changes
    Column("lease_until", UtcTime),
    # What an owner leaves to the next one: open segments, above all.
    Column("memory", JSON),
    Index(None, "wanted", "lease_until"),
    Index(None, "owner"),
)

alert = Table(
    "alert",
    metadata,
    Column("id", ID, primary_key=True),
    tenant_column(),
    Column("stream_id", ID, ForeignKey("stream.id"), nullable=False),
    Column("state", String(16), nullable=False),  # open | closed
    Column("label", String(128), nullable=False),
    Column("sublabel", String(128)),
    Column("decision", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("threshold", Float),
    Column("policy", String(128), nullable=False),
    # Times of the stream: the segment's first frame, the frame that opened it, its last one.
    Column("start", UtcTime, nullable=False),
    Column("captured", UtcTime, nullable=False),
    Column("end", UtcTime),
    Column("boxes", JSON, nullable=False),
    # The item that people decide, once it is made. No foreign key: either may be deleted alone.
    Column("item_id", ID),
    # What the item's medium is: {"clip": {key, media_type, size, begun}}.
    Column("evidence", JSON, nullable=False),
    created_column(),
    Column("updated", UtcTime, nullable=False),
    Index(None, "tenant", "id"),
    Index(None, "stream_id", "id"),
    Index(None, "item_id"),
    # Two owners in a row cannot both open an alert of one segment.
    Index(
        "uq_alert_open",
        "stream_id",
        "label",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)
