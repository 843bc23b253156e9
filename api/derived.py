"""Derivatives of items: made when they are first asked for, waited for, and given out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from api.deps import Gateway, in_thread
from api.ranges import stored
from moderation.errors import BrokerError, MediaError, NotFoundError
from moderation.store import derivatives, evidence
from moderation.store.derivatives import DerivativeRow, DerivativeState
from moderation.store.evidence import Shown
from moderation.tasks.messages import DERIVE, JobMessage

log = logging.getLogger(__name__)

NAME: Final = r"^(proxy\.mp4|(frame-[0-9]{1,9}|picture)(-blur)?\.webp)$"
RETRY_AFTER_S: Final = 2


async def give(
    gateway: Gateway,
    tenant: str,
    item_id: str,
    name: str,
    *,
    wait_s: float,
    asked: str | None,
    headers: Mapping[str, str],
    request_id: str | None,
) -> Response:
    """The bytes, or the `asked` range of them; 202 where they are not made within `wait_s`. Raises
    NotFoundError, MediaError where they cannot be made, StoreError, BlobError."""
    found = await in_thread(evidence.shown, gateway.db, tenant, item_id)
    check_name(found, name)
    row = await _made_within(gateway, tenant, item_id, name, wait_s)
    if row.state is DerivativeState.FAILED:
        code, _, detail = (row.error or "").partition(": ")
        raise MediaError(f"It cannot be made: {detail}.", code=code or "corrupt")
    if row.blob_key is None or row.media_type is None or row.size is None:
        return Response(status_code=202, headers={"Retry-After": str(RETRY_AFTER_S)})
    return await stored(
        gateway,
        row.blob_key,
        row.size,
        asked,
        media_type=row.media_type,
        headers=headers,
        request_id=request_id,
    )


def check_name(found: Shown, name: str) -> None:
    """Raises NotFoundError for what this medium cannot have."""
    of_image = name.startswith("picture")
    if of_image != (found.kind == "image"):
        raise NotFoundError(f"A medium of kind {found.kind} has nothing called {name}.")
    if name.startswith("frame-") and found.duration_s is not None:
        time_s = int(name.removeprefix("frame-").partition("-")[0].partition(".")[0]) / 1000
        if time_s > found.duration_s:
            raise NotFoundError(f"The video ends at {found.duration_s:.3f} s.")


async def _made_within(
    gateway: Gateway, tenant: str, item_id: str, name: str, seconds: float
) -> DerivativeRow:
    """The derivative as it is after at most `seconds`; asked for, where nobody has yet."""
    row, first = await in_thread(derivatives.want, gateway.db, tenant, item_id, name)
    if row.state.ended:
        return row
    until = time.monotonic() + seconds
    with gateway.listener.register(row.id) as waiter:
        if first:
            await in_thread(_send, gateway, row.id)
        current = await in_thread(derivatives.get, gateway.db, row.id)
        with gateway.metrics.waits.track_inprogress():
            while (
                current is not None
                and not current.state.ended
                and (left := until - time.monotonic()) > 0
                and not gateway.stopping.is_set()
            ):
                await waiter.wait(left)
                current = await in_thread(derivatives.get, gateway.db, row.id)
    if current is None:
        raise NotFoundError(f"There is no item {item_id} any more.")
    return current


def _send(gateway: Gateway, derivative_id: str) -> None:
    """A hint: workers also look by themselves."""
    try:
        gateway.producer.enqueue(JobMessage(DERIVE, derivative_id))
    except BrokerError as error:
        log.info("derivative %s is found by the workers: %s", derivative_id, error)
