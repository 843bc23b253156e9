"""Waiting for a verdict: woken, never polling."""

from __future__ import annotations

import time
from collections.abc import Callable

from api.deps import Gateway, in_thread
from moderation.store import items
from moderation.types import Verdict


async def verdict_within(
    gateway: Gateway, job_id: str, seconds: float, first: Callable[[], Verdict | None]
) -> Verdict | None:
    """The job's verdict when it is there within `seconds`, else None.

    `first` runs once in a thread after the waiter was registered, so that no wake-up is
    missed: it publishes a new job, or reads the verdict of a known one. After it, every
    return of a wait is followed by one read. A wait returns when the job was woken, when the
    subscription was made anew, or when the time is over.
    """
    until = time.monotonic() + seconds
    with gateway.listener.register(job_id) as waiter:
        verdict = await in_thread(first)
        if verdict is not None:
            return verdict
        with gateway.metrics.waits.track_inprogress():
            while (left := until - time.monotonic()) > 0 and not gateway.stopping.is_set():
                await waiter.wait(left)
                verdict = await in_thread(items.verdict_of_job, gateway.db, job_id)
                if verdict is not None:
                    return verdict
    return None
