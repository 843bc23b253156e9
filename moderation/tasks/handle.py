"""The consuming side: one Celery task that hands a message to what its kind asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from celery import Celery

from moderation.errors import ServiceError
from moderation.tasks.messages import TASK, JobMessage, UnknownMessageError

log = logging.getLogger(__name__)

Handler = Callable[[str], object]
"""Takes the job's id."""


def register(app: Celery, handlers: Mapping[str, Handler]) -> None:
    """Give the application its task. `handlers`: kind of message -> what to do."""

    def job(data: object = None) -> None:
        handle(data, handlers)

    app.task(job, name=TASK, ignore_result=True, acks_late=True)


def handle(data: object, handlers: Mapping[str, Handler]) -> None:
    """Handle one message; whatever comes of it, the message is acknowledged.

    A message that this version does not know is logged and left to the sweeper, which sends
    the job again from the database once somebody who knows it runs.
    """
    try:
        message = JobMessage.from_dict(data)
        handler = handlers.get(message.kind)
        if handler is None:
            raise UnknownMessageError(f"this worker does not take {message.kind!r} messages")
    except UnknownMessageError as error:
        log.warning("message left to the sweeper: %s", error)
        return
    try:
        handler(message.job_id)
    except ServiceError as error:
        log.warning("job %s left to the sweeper: %s", message.job_id, error)
