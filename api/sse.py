"""Events as they come: Server-Sent Events, resumed by `Last-Event-ID`.

Nobody polls: a reader sleeps until it is woken by the gateway's one subscription, and reads what
the database has after the last id that it sent. A wake-up that was lost costs `LOOK_AGAIN_S`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Final

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth import KEY_TTL_S
from api.deps import Gateway, in_share
from moderation.errors import ServiceError
from moderation.store import events, keys
from moderation.store.codec import iso
from moderation.store.events import EventRow
from moderation.store.records import KeyRow
from moderation.wake import ANY

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 5.0
KEEP_ALIVE_S: Final = 15.0
"""After so long without an event a comment is sent, so that nobody on the way hangs up."""
MIN_GAP_S: Final = 0.1
"""Between two reads of one reader, however much happens."""
AT_ONCE: Final = 200
RETRY_MS: Final = 2000
STUCK_S: Final = 30.0
"""A client that does not read is left so long after its time."""
KEEP_ALIVE: Final = b": \n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """A response of events, which ends after `seconds` at the latest. It takes one of the
    gateway's places for readers; raises OverloadedError when there is none."""

    media_type = "text/event-stream"

    def __init__(
        self, gateway: Gateway, tenant: str, content: AsyncGenerator[bytes], seconds: float
    ) -> None:
        super().__init__(content, headers=HEADERS)
        self._events = content
        self._gateway = gateway
        self._tenant = tenant
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._gateway.readers.hold(self._tenant)
        with place, self._gateway.metrics.readers.track_inprogress():
            try:
                with anyio.move_on_after(self._seconds + STUCK_S):
                    await super().__call__(scope, receive, send)
            finally:  # whoever left while nothing was read waits no more
                with anyio.CancelScope(shield=True):
                    await self._events.aclose()


async def tail(
    gateway: Gateway, key: KeyRow, stream_id: str | None, last_id: int, seconds: float
) -> AsyncGenerator[bytes]:
    """Events of the key's tenant, or of one stream, with an id above `last_id`: those that are
    there, then, for `seconds`, those that come. It ends when the key was revoked. A database that
    is away is waited for."""
    until = time.monotonic() + seconds
    # Also for one who gets no event: it resumes here.
    yield f"retry: {RETRY_MS}\nid: {last_id}\n\n".encode()
    spoke = time.monotonic()
    read = spoke - MIN_GAP_S
    checked = spoke
    with gateway.listener.register(stream_id or ANY) as waiter:
        while True:
            await asyncio.sleep(max(0.0, read + MIN_GAP_S - time.monotonic()))
            read = time.monotonic()
            check = read - checked > KEY_TTL_S
            look = partial(_look, gateway, key, last_id, stream_id, check=check)
            try:
                rows = await in_share(gateway.threads.events, look)
                checked = read if check else checked
            except ServiceError as error:
                log.warning("events are read again in a moment: %s", error.message)
                rows = []
            if rows is None:
                return
            if rows:
                yield b"".join(encode(row) for row in rows)
                last_id, spoke = rows[-1].id, time.monotonic()
            left = until - time.monotonic()
            if left <= 0 or gateway.stopping.is_set():
                return
            if len(rows) == AT_ONCE:
                continue
            if time.monotonic() - spoke >= KEEP_ALIVE_S:
                yield KEEP_ALIVE
                spoke = time.monotonic()
            await waiter.wait(min(left, LOOK_AGAIN_S))


def _look(
    gateway: Gateway, key: KeyRow, last_id: int, stream_id: str | None, *, check: bool
) -> list[EventRow] | None:
    """What is new; None where the key was checked and holds no more."""
    if check and not keys.holds(gateway.db, key):
        return None
    return events.after(gateway.db, key.tenant, last_id, AT_ONCE, stream_id=stream_id)


def encode(row: EventRow) -> bytes:
    """One event on the wire."""
    told = json.dumps(as_json(row), ensure_ascii=False, separators=(",", ":"))
    return f"id: {row.id}\nevent: {row.kind}\ndata: {told}\n\n".encode()


def as_json(row: EventRow) -> Mapping[str, Any]:
    """What `data` holds: the event whole, for readers that see nothing else of it."""
    return {
        "id": row.id,
        "type": row.kind,
        "created": iso(row.created),
        "item_id": row.item_id,
        "stream_id": row.stream_id,
        "data": row.data,
    }
