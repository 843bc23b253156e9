"""What the routes work with: made once per app in its lifespan, never global."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, ParamSpec, Protocol, TypeVar, cast

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Request

from api.auth import Keyring
from api.cached import Cached
from api.incoming import Incoming
from api.limits import RateLimiter, Readers, UploadRoom
from api.metrics import Metrics
from moderation.blobs import BlobStore
from moderation.live.figures import Figures
from moderation.live.newest import NewestFrame
from moderation.oidc import Attempt, Person
from moderation.settings import Settings
from moderation.store import fleet, jobs
from moderation.store.engine import Database
from moderation.store.listed import Lists
from moderation.store.records import JobState, WorkerRow
from moderation.store.releases import Policies
from moderation.tasks.messages import JobMessage

P = ParamSpec("P")
T = TypeVar("T")

FLEET_TTL_S: Final = 1.0
COUNTS_TTL_S: Final = 5.0
PROBE_THREADS: Final = 2
FETCH_THREADS: Final = 16
FILM_THREADS: Final = 4
EVENT_THREADS: Final = 4
PASSWORD_THREADS: Final = 2
"""Each takes 64 MiB while it looks at a password."""
PROVIDER_THREADS: Final = 4
MAX_READERS: Final = 500
MAX_READERS_OF_A_TENANT: Final = 200
"""Requests that read events as they come, in one process."""


class ProducerLike(Protocol):
    """The sending side of the queue (moderation.tasks.enqueue.Producer)."""

    def enqueue(self, message: JobMessage, priority: int = 0) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


class WaiterLike(Protocol):
    async def wait(self, timeout_s: float) -> None: ...


class ListenerLike(Protocol):
    """The subscription to wake-ups (moderation.wake.WakeListener)."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def register(self, job_id: str) -> AbstractContextManager[WaiterLike]: ...


class WakerLike(Protocol):
    """The publisher of wake-ups (moderation.wake.Waker)."""

    def wake(self, job_id: str) -> None: ...
    def close(self) -> None: ...


class FiguresLike(Protocol):
    """What supervisors of live streams counted (moderation.live.figures.FigureStore)."""

    def read(self) -> Mapping[str, Figures]:
        """By supervisor. Raises BrokerError."""

    def close(self) -> None: ...


class NewestLike(Protocol):
    """The newest frames of live streams (moderation.live.newest.NewestStore)."""

    def captured(self, streams: Sequence[str]) -> Mapping[str, int]:
        """When each was captured, in milliseconds UTC. Raises BrokerError."""

    def read(self, stream: str) -> NewestFrame | None:
        """Raises BrokerError."""

    def close(self) -> None: ...


class SignOnLike(Protocol):
    """The way to an identity provider (api.console.sign_on)."""

    @property
    def name(self) -> str: ...
    def url(self, attempt: Attempt, back: str, /) -> str: ...
    def person(self, attempt: Attempt, code: str, back: str, /) -> Person: ...


class SourceCheck(Protocol):
    """Says how a live stream's URL is shown, without credentials (moderation.live.source)."""

    def __call__(self, url: str, settings: Settings, /) -> str:
        """Raises FetchError for one that may not be opened. Blocking: it resolves the host."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Separate shares of threads, so that a slow site, a large film or a dead broker delays its
    own kind of request alone. Submissions and reads use the event loop's own share.

    films: videos are read from URLs. stores: videos go to the media store. events: those who read
    them as they come. passwords: people sign in. providers: they do so by an identity provider.
    """

    probes: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(PROBE_THREADS)
    )
    fetches: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(FETCH_THREADS)
    )
    films: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(FILM_THREADS)
    )
    stores: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(FILM_THREADS)
    )
    events: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(EVENT_THREADS)
    )
    passwords: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(PASSWORD_THREADS)
    )
    providers: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(PROVIDER_THREADS)
    )


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one running gateway."""

    settings: Settings
    db: Database
    blobs: BlobStore
    producer: ProducerLike
    listener: ListenerLike
    waker: WakerLike
    figures: FiguresLike
    newest: NewestLike
    policies: Policies
    keyring: Keyring
    limiter: RateLimiter
    uploads: UploadRoom
    incoming: Incoming
    metrics: Metrics
    workers: Cached[tuple[WorkerRow, ...]]
    counts: Cached[Mapping[JobState, int]]
    threads: Threads
    readers: Readers
    source: SourceCheck
    stopping: asyncio.Event
    lists: Lists = field(default_factory=Lists)
    sign_on: SignOnLike | None = None

    async def stop_waiting(self) -> None:
        """Answer all who wait with what there is: the process is about to end."""
        self.stopping.set()
        await self.listener.stop()


def ready_workers(db: Database) -> tuple[WorkerRow, ...]:
    """Living infer workers whose models are loaded."""
    rows = fleet.living(db, role="infer")
    return tuple(row for row in rows if row.state == "ready" and row.models)


def cached_workers(db: Database) -> Cached[tuple[WorkerRow, ...]]:
    return Cached(partial(ready_workers, db), FLEET_TTL_S)


def cached_counts(db: Database) -> Cached[Mapping[JobState, int]]:
    def read() -> Mapping[JobState, int]:
        return jobs.counts(db)

    return Cached(read, COUNTS_TTL_S)


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call (store, blobs, broker) beside the event loop."""
    return await run_sync(partial(call, *args, **kwargs))


async def in_share(share: anyio.CapacityLimiter, call: Callable[[], T]) -> T:
    """As `in_thread`, within a share of threads."""
    return await run_sync(call, limiter=share)


async def gateway_of(request: Request) -> Gateway:  # async: a plain one would cost a thread
    state: Any = request.app.state
    return cast(Gateway, state.gateway)


GatewayDep = Annotated[Gateway, Depends(gateway_of)]
