"""What is said after a commit: hints alone, so that a broker that is away costs time, no more."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from moderation.errors import BrokerError
from moderation.store.records import TaskHint
from moderation.tasks.messages import DELIVER, JobMessage

log = logging.getLogger(__name__)


class Wake(Protocol):
    """`moderation.wake.Waker`, as far as a job needs it."""

    def wake(self, job_id: str) -> None: ...


class Enqueue(Protocol):
    """`moderation.tasks.enqueue.Producer`, as far as a job needs it."""

    def enqueue(self, message: JobMessage, priority: int = 0) -> None: ...


def announce_end(job_id: str, callback_url: str | None, waker: Wake, producer: Enqueue) -> None:
    """Wake the waiters of a job that has ended, and say that its callback is due."""
    waker.wake(job_id)
    if callback_url is None:
        return
    try:
        producer.enqueue(JobMessage(kind=DELIVER, job_id=job_id))
    except BrokerError as error:
        log.info("job %s: callback left to the sweeper: %s", job_id, error)


def send_hints(producer: Enqueue, hints: Iterable[TaskHint]) -> None:
    """Say what there is to do. Who is free looks for himself now and then all the same."""
    for hint in hints:
        try:
            producer.enqueue(JobMessage(hint.kind, hint.job_id), hint.priority)
        except BrokerError as error:
            log.info("%s of %s is found without a message: %s", hint.kind, hint.job_id, error)
            return
