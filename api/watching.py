"""Live streams are made and changed: what the API and the console share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TypeVar

from api.deps import Gateway
from api.schemas.streams import StreamBody
from api.submitting import pins
from moderation import fetch
from moderation.errors import BrokerError
from moderation.policy import Policy
from moderation.store import streams
from moderation.store.live_records import NewStream, StreamRow
from moderation.tasks.messages import DELIVER, JobMessage

log = logging.getLogger(__name__)

T = TypeVar("T")


def create(
    gateway: Gateway, tenant: str, body: StreamBody, policy: Policy, idempotency_key: str | None
) -> StreamRow:
    """A stream to be watched from now on. Slow: hosts are resolved. Raises FetchError for URLs that
    may not be opened, ConflictError, StoreError."""
    settings = gateway.settings
    shown = gateway.source(body.url, settings)
    for url in (body.callback_url, body.cut_callback_url):
        if url is not None:
            fetch.check_url(url, settings.fetch_allow)
    new = NewStream(
        tenant=tenant,
        url=body.url,
        shown=shown,
        policy=policy,
        interval_ms=body.interval_ms,
        hold_s=body.hold_s,
        priority=body.priority,
        data_id=body.data_id,
        callback_url=body.callback_url,
        cut_callback_url=body.cut_callback_url,
        idempotency_key=idempotency_key,
        pinned=pins(gateway, body.policy),
        request_hash=hashlib.sha256(body.model_dump_json().encode()).hexdigest(),
    )
    row = streams.create(gateway.db, new)
    gateway.waker.wake(row.id)
    return row


def announced(gateway: Gateway, stream_id: str, change: Callable[[], T]) -> T:
    """Make a change, then wake who reads the stream's events, and say that callbacks are due."""
    outcome = change()
    gateway.waker.wake(stream_id)
    try:
        gateway.producer.enqueue(JobMessage(DELIVER, stream_id))
    except BrokerError as error:
        log.info("callbacks of %s are left to the deliverer: %s", stream_id, error)
    return outcome
