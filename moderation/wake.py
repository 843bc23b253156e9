"""Waking those who wait for a job: a publish after commit, one subscription per process.

A wake-up is a hint as well: a waiter reads the row before it waits and once more after. It
sleeps on its own event meanwhile, so nobody polls the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from typing import Final

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

CHANNEL: Final = "moderation.wake"
CONNECT_TIMEOUT_S: Final = 2.0
SOCKET_TIMEOUT_S: Final = 2.0
RECONNECT_S: Final = 0.25
ANY: Final = "*"
"""Whoever listens for this is woken by every wake-up: something has happened."""
IDLE_CHECK_S: Final = 10.0
"""After this long without a message the subscription is pinged."""


class Waker:
    """Publishes that a job has ended, or that a stream has news. Thread-safe.

    `redis_url`: as redis-py spells it (`redis://…`, `unix://…`).
    """

    def __init__(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(
            redis_url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )

    def wake(self, job_id: str) -> None:
        """Wake all who wait for this job. A broker that is away is logged, not raised."""
        try:
            self._client.publish(CHANNEL, job_id)
        except (redis.RedisError, OSError) as error:
            log.warning("wake %s not sent: %s", job_id, error)

    def close(self) -> None:
        self._client.close()


class WakeListener:
    """The receiving side, one per gateway process, in its event loop."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()

    async def start(self) -> None:
        """Start listening. Returns at once, whether the broker is there or not."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="wake-listener")

    async def stop(self) -> None:
        """Stop listening, and wake everybody who still waits."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._wake_all()

    async def ready(self, timeout_s: float) -> bool:
        """Wait until the subscription stands; False when it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._subscribed.wait()
        except TimeoutError:
            return False
        return True

    def register(self, job_id: str) -> Waiter:
        """Start to listen for one job, or stream, or ANY: register, read the row, then wait.

        Use as a context manager; a wake-up between the registration and the wait is kept.
        """
        return Waiter(self._waiting, job_id)

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Return when the job was woken, when the subscription was made anew (wake-ups may
        have been missed meanwhile), or after `timeout_s` seconds."""
        with self.register(job_id) as waiter:
            await waiter.wait(timeout_s)

    async def _run(self) -> None:
        while True:
            client = redis.asyncio.Redis.from_url(
                self._url,
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                retry=None,
            )
            try:
                await self._listen(client)
            except (redis.RedisError, OSError) as error:
                if self._subscribed.is_set():
                    log.warning("wake subscription lost: %s", error)
            finally:
                self._subscribed.clear()
                with contextlib.suppress(redis.RedisError, OSError):
                    await client.aclose()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self, client: redis.asyncio.Redis) -> None:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            pinged = False
            while True:
                message = await pubsub.get_message(timeout=IDLE_CHECK_S)
                if message is None:
                    if pinged:
                        raise redis.ConnectionError("the subscription does not answer")
                    await pubsub.ping()
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self._subscribed.set()
                    self._wake_all()
                elif message["type"] == "message":
                    self._wake(message["data"].decode("utf-8", "replace"))

    def _wake(self, job_id: str) -> None:
        for name in (job_id, ANY):
            for event in self._waiting.get(name, ()):
                event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()


class Waiter:
    """One who waits for one job: made by `WakeListener.register`."""

    def __init__(self, registry: defaultdict[str, set[asyncio.Event]], job_id: str) -> None:
        self._registry = registry
        self._job_id = job_id
        self._event = asyncio.Event()

    def __enter__(self) -> Waiter:
        self._registry[self._job_id].add(self._event)
        return self

    def __exit__(self, *exc: object) -> None:
        events = self._registry[self._job_id]
        events.discard(self._event)
        if not events:
            del self._registry[self._job_id]

    async def wait(self, timeout_s: float) -> None:
        """See `WakeListener.wait`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        self._event.clear()
