"""What follows a person's decision: readers of events are woken, callbacks go out."""

from __future__ import annotations

import logging

from api.deps import Gateway
from moderation.errors import BrokerError
from moderation.tasks.messages import DELIVER, JobMessage

log = logging.getLogger(__name__)


def announced(gateway: Gateway, item_id: str) -> None:
    """A hint: the deliverer finds callbacks by itself, and readers look again."""
    gateway.waker.wake(item_id)
    try:
        gateway.producer.enqueue(JobMessage(DELIVER, item_id))
    except BrokerError as error:
        log.info("callbacks of %s are left to the deliverer: %s", item_id, error)
