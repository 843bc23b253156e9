"""A gateway in the test's own process: real store on SQLite, no broker, a finisher thread."""

from __future__ import annotations

import asyncio
import queue
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from api.app import Broker, create_app
from api.deps import NewestLike, cached_counts, cached_workers
from moderation.blobs import BlobStore
from moderation.errors import BrokerError
from moderation.settings import Settings, load_settings
from moderation.store import fleet, items, jobs, keys
from moderation.store.engine import Database, open_database
from moderation.store.records import Claim, Finished, WorkerRow
from moderation.tasks.messages import JobMessage
from moderation.types import Coverage, Decision, Status, Verdict
from moderation.wake import ANY
from tests.fakes.databases import migrated

KEY = "bootstrap-0123456789abcdef0123456789abcdef"
MODEL = {"id": "fake", "version": "1", "labels": ["porn.explicit"], "licence": "Apache-2.0"}
MODELS = ("fake@1",)


def png(width: int = 8, height: int = 6, *, shade: int = 0, comment: bytes = b"") -> bytes:
    """A small valid PNG; another `shade` or `comment` gives other bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes((shade % 256, 2, 3)) * width for _ in range(height))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunk(b"tEXt", b"Comment\0" + comment) if comment else b"",
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def bomb_header() -> bytes:
    """A PNG header that claims 60000 x 60000 pixels."""
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + b"\0\0\0\0"


class FakeListener:
    """Wake-ups without a broker; `wake` may be called from any thread."""

    def __init__(self) -> None:
        self.waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = self.stopped = False
        self.registered: list[str] = []

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = True

    async def stop(self) -> None:
        self.stopped = True
        self._set(None)

    @contextmanager
    def register(self, job_id: str) -> Iterator[FakeWaiter]:
        event = asyncio.Event()
        self.registered.append(job_id)
        self.waiting[job_id].add(event)
        try:
            yield FakeWaiter(event)
        finally:
            self.waiting[job_id].discard(event)

    def wake(self, job_id: str) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._set, job_id)

    def _set(self, job_id: str | None) -> None:
        for name, events in self.waiting.items():
            if job_id is None or name in (job_id, ANY):
                for event in events:
                    event.set()


class FakeWaiter:
    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return
        self._event.clear()


class FakeWaker:
    def __init__(self, listener: FakeListener) -> None:
        self._listener = listener
        self.woken: list[str] = []

    def wake(self, job_id: str) -> None:
        self.woken.append(job_id)
        self._listener.wake(job_id)

    def close(self) -> None:
        pass


class FakeProducer:
    """Collects messages. `down`: every call raises BrokerError."""

    def __init__(self) -> None:
        self.down = False
        self.sent: list[tuple[JobMessage, int]] = []
        self.queue: queue.Queue[str | None] = queue.Queue()

    def enqueue(self, message: JobMessage, priority: int = 0) -> None:
        self.ping()
        self.sent.append((message, priority))
        self.queue.put(message.job_id)

    def ping(self) -> None:
        if self.down:
            raise BrokerError("the broker does not answer")

    def close(self) -> None:
        pass


def fake_verdict(claim: Claim) -> Verdict:
    """What the finisher says of every picture."""
    return Verdict(
        id=claim.item_id,
        job_id=claim.job_id,
        source=claim.source,
        data_id=claim.data_id,
        status=Status.DONE,
        decision=Decision.PASS,
        scores={"porn.explicit": 0.01},
        coverage=Coverage(frames_total=1, frames_scored=1, views_scored=1, complete=True),
        policy=claim.policy.ref,
        models=list(MODELS),
        device="fake",
        timings_ms={"total": 1.0},
    )


class Stack:
    """App, database and the fakes around them.

    `finish()` starts a thread that ends every published job through the store.
    """

    def __init__(self, home: Path, newest: NewestLike | None = None, **changes: object) -> None:
        self.settings: Settings = load_settings(
            **{"home": home, "bootstrap_key": KEY, "wait_default": 30.0, "backend": "fake"}
            | changes
        )
        home.mkdir(parents=True, exist_ok=True)
        self.db: Database = open_database(migrated(self.settings.database))
        self.producer = FakeProducer()
        self.listener = FakeListener()
        self.waker = FakeWaker(self.listener)
        broker = Broker(
            producer=lambda _: self.producer,
            listener=lambda _: self.listener,
            waker=lambda _: self.waker,
        )
        if newest is not None:
            broker = replace(broker, newest=lambda _: newest)
        self.app: FastAPI = create_app(self.settings, broker=broker)
        self._thread: threading.Thread | None = None
        self._beating: threading.Thread | None = None
        self._closing = threading.Event()
        self.failures: list[BaseException] = []

    def worker(self, **changes: object) -> WorkerRow:
        """Let an infer worker be alive."""
        facts: dict[str, object] = {
            "id": "infer-test-1",
            "role": "infer",
            "host": "test",
            "pid": 1,
            "state": "ready",
            "device": "cpu",
            "precision": "f32",
            "models": [MODEL],
            "started": datetime.now(UTC),
        }
        row = WorkerRow(**(facts | changes))  # type: ignore[arg-type]
        fleet.heartbeat(self.db, row)
        return row

    def keep_worker(self) -> None:
        """Let an infer worker be alive until the end, by a heartbeat."""
        self.worker()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        while not self._closing.wait(1.0):
            self.worker()

    def finish(self, verdict_of: Callable[[Claim], Verdict] = fake_verdict) -> None:
        self._thread = threading.Thread(target=self._run, args=(verdict_of,), daemon=True)
        self._thread.start()

    def finish_one(
        self, job_id: str, verdict_of: Callable[[Claim], Verdict] = fake_verdict
    ) -> None:
        """Run one job, as a worker does, and wake who waits for it."""
        if self.finish_silently(job_id, verdict_of):
            self.listener.wake(job_id)

    def finish_silently(
        self, job_id: str, verdict_of: Callable[[Claim], Verdict] = fake_verdict
    ) -> bool:
        """The same without the wake-up; False when the job was not to be had."""
        claim = jobs.claim(self.db, job_id, "infer-test-1", 30.0)
        if claim is None:
            return False
        return jobs.finish(self.db, claim, Finished(verdict=verdict_of(claim)))

    def _run(self, verdict_of: Callable[[Claim], Verdict]) -> None:
        while (job_id := self.producer.queue.get()) is not None:
            try:
                self.finish_one(job_id, verdict_of)
            except Exception as error:  # noqa: BLE001 - shown by the test at its end
                self.failures.append(error)

    def key(self, *scopes: str, tenant: str = "default") -> dict[str, str]:
        """Headers with a new key."""
        _, secret = keys.create_key(self.db, tenant=tenant, name="test", scopes=frozenset(scopes))
        return {"Authorization": f"Bearer {secret}"}

    def forget_counts(self) -> None:
        """Let the gateway count the jobs anew at its next look."""
        self.app.state.gateway = replace(
            self.app.state.gateway, counts=cached_counts(self.db), workers=cached_workers(self.db)
        )

    def verdict(self, job_id: str) -> Verdict | None:
        return items.verdict_of_job(self.db, job_id)

    def close(self) -> None:
        self._closing.set()
        if self._beating is not None:
            self._beating.join(10)
        if self._thread is not None:
            self.producer.queue.put(None)
            self._thread.join(10)
        self.db.close()
        assert self.failures == []


class Client:
    """Requests to an app in this process, in a thread of their own with an event loop."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url="http://gateway",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60.0,
        )
        # Tests send the cookies that they mean.
        self._http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._portal = portal
        self.get = partial(self.request, "GET")
        self.post = partial(self.request, "POST")
        self.put = partial(self.request, "PUT")
        self.patch = partial(self.request, "PATCH")
        self.delete = partial(self.request, "DELETE")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As httpx.Client.request; iterable `content` is sent without a length."""
        if isinstance(options.get("content"), Iterator):
            options["content"] = _async(options["content"])
        return self._portal.call(partial(self._http.request, method, path, **options))


async def _async(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@dataclass(frozen=True, slots=True)
class Gate:
    """A started app: `client` sends the admin key unless told otherwise."""

    stack: Stack
    client: Client

    @property
    def blobs(self) -> BlobStore:
        store: BlobStore = self.stack.app.state.gateway.blobs
        return store

    def post(self, data: bytes, query: str = "", **headers: str) -> httpx.Response:
        return self.client.post(f"/v1/images{query}", content=data, headers=headers)


@contextmanager
def running(
    home: Path,
    *,
    finish: bool = True,
    prepare: Callable[[Stack], None] | None = None,
    newest: NewestLike | None = None,
    **changes: object,
) -> Iterator[Gate]:
    """An app in its lifespan. `finish`: with a thread that ends published jobs. `prepare` may
    change the stack before it starts. `newest`: frames of live streams; else those of a broker that
    is away."""
    stack = Stack(home, newest, **changes)
    if prepare is not None:
        prepare(stack)
    if finish:
        stack.finish()
    try:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(stack.app.router.lifespan_context(stack.app)),
        ):
            yield Gate(stack, Client(stack.app, portal))
    finally:
        stack.close()
