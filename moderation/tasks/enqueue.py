"""The sending side of the queue: thread-safe, quick to fail, used by gateway and workers."""

from __future__ import annotations

from typing import Any, Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import BrokerError
from moderation.tasks.config import (
    CONNECT_TIMEOUT_S,
    broker_priority,
    celery_config,
)
from moderation.tasks.messages import MAX_PRIORITY, TASK, JobMessage

SEND_TIMEOUT_S: Final = 1.5
"""A broker that hangs costs a sender three times this at most."""

PRIORITY_SEPARATOR: Final = "\x06\x16"
"""kombu keeps one Redis list per priority: `queue`, then `queue<separator>1` and so on."""


class Producer:
    """Sends messages to one broker.

    `broker_url`: as kombu spells it (`redis://…`, `redis+socket://…`). No connection is made
    before the first use, and a broker that comes back is used again without a restart.
    """

    def __init__(self, broker_url: str) -> None:
        self._app = Celery("moderation-producer", set_as_current=False)
        self._app.conf.update(celery_config(broker_url, socket_timeout_s=SEND_TIMEOUT_S))
        self._redis = redis_client(broker_url)

    def enqueue(self, message: JobMessage, priority: int = 0) -> None:
        """Send one message; priority 0 (usual) to 9 (most urgent).

        Fails within seconds, never retries for long: the outbox already holds what was not
        sent. Raises BrokerError, and UnknownMessageError for a kind without a queue.
        """
        queue = message.queue
        try:
            self._app.send_task(
                TASK,
                args=[message.to_dict()],
                queue=queue,
                priority=broker_priority(priority),
                ignore_result=True,
                retry=True,
                # A pooled connection may be left over from a broker that restarted: the
                # second try gets a fresh one.
                retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
            )
        except (OperationalError, redis.RedisError, OSError) as error:
            raise BrokerError(f"the broker does not take messages: {brief(error)}") from error

    def ping(self) -> None:
        """Raises BrokerError when the broker does not answer."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError) as error:
            raise BrokerError(f"the broker does not answer: {brief(error)}") from error

    def run_id(self) -> str:
        """Identifies this run of the broker: another one means that it was restarted.

        Raises BrokerError.
        """
        try:
            info: Any = self._redis.info("server")
        except (redis.RedisError, OSError) as error:
            raise BrokerError(f"the broker does not answer: {brief(error)}") from error
        return str(info["run_id"])

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue, over all priorities. Raises BrokerError."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for step in range(MAX_PRIORITY + 1):
                    pipe.llen(f"{queue}{PRIORITY_SEPARATOR}{step}" if step else queue)
                lengths: list[Any] = pipe.execute()
        except (redis.RedisError, OSError) as error:
            raise BrokerError(f"the broker does not answer: {brief(error)}") from error
        return sum(int(length) for length in lengths)

    def close(self) -> None:
        self._app.close()
        self._redis.close()


def redis_client(broker_url: str) -> redis.Redis:
    """A redis-py client of a kombu broker URL, with bounded time-outs."""
    return redis.Redis.from_url(
        broker_url.replace("redis+socket://", "unix://", 1),
        socket_timeout=SEND_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        # A pooled connection may be left over from a broker that restarted; a time-out is
        # not tried again.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def brief(error: BaseException) -> str:
    """One line of an error: its first line, without the URL's credentials (it has none)."""
    return str(error).partition("\n")[0] or type(error).__name__
