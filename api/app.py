"""The gateway as an ASGI application. Everything it uses is opened in its lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import console, openapi, problems, tus
from api.auth import Keyring
from api.console.access import PATH as CONSOLE
from api.console.sign_on import sign_on_of
from api.deps import (
    MAX_READERS,
    MAX_READERS_OF_A_TENANT,
    FiguresLike,
    Gateway,
    ListenerLike,
    NewestLike,
    ProducerLike,
    SourceCheck,
    Threads,
    WakerLike,
    cached_counts,
    cached_workers,
)
from api.incoming import Incoming
from api.limits import BodyGuard, RateLimiter, Readers, UploadRoom
from api.metrics import Metrics
from api.middleware import Envelope
from api.routes import (
    audit,
    catalog,
    events,
    evidence,
    health,
    images,
    items,
    jobs,
    lists,
    reviews,
    streams,
    uploads,
    videos,
)
from api.routes import policies as policy_routes
from moderation import __version__
from moderation.blobs import open_blobs
from moderation.live.figures import FigureStore
from moderation.live.newest import NewestStore
from moderation.live.source import plan
from moderation.policy import choose_policy, load_policies
from moderation.settings import Settings
from moderation.store.engine import open_database
from moderation.store.releases import Policies
from moderation.tasks.enqueue import Producer
from moderation.wake import WakeListener, Waker

log = logging.getLogger(__name__)

FORM_OVERHEAD = 64 * 1024
"""Bytes that a multipart body may have beside one file: boundaries, headers, fields."""
SMALL_BODY = 64 * 1024
MAX_FORM = 640 * 1024
"""The console's longest form: 64,000 characters of hashes and notes, each up to nine bytes."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How the sides of the broker are opened; tests give others."""

    producer: Callable[[Settings], ProducerLike] = lambda settings: Producer(settings.broker)
    listener: Callable[[Settings], ListenerLike] = lambda settings: WakeListener(settings.redis)
    waker: Callable[[Settings], WakerLike] = lambda settings: Waker(settings.redis)
    figures: Callable[[Settings], FiguresLike] = lambda settings: FigureStore(settings.redis)
    newest: Callable[[Settings], NewestLike] = lambda settings: NewestStore(settings.redis)


def shown_source(url: str, settings: Settings) -> str:
    """A live stream's URL without credentials, once it is known that it may be opened. Raises
    FetchError."""
    return plan(url, settings).shown


def create_app(
    settings: Settings, *, broker: Broker | None = None, source: SourceCheck = shown_source
) -> FastAPI:
    """The application for these settings. source: checks the URLs of live streams.

    Raises ConfigError at once for policies and addresses that cannot be used, and BlobError
    for a media folder that cannot. Database, broker and S3 may be away when it starts: /ready
    tells, and they are used as soon as they answer.
    """
    policies = load_policies(settings.policy_dir)
    choose_policy(policies, settings.default_policy)
    sign_on = sign_on_of(settings)
    db = open_database(settings.database)  # connects when it is first used
    blobs = open_blobs(settings.blobs, endpoint=settings.s3_endpoint)
    metrics = Metrics()
    broker = broker or Broker()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        secret = settings.bootstrap_key
        incoming = Incoming(settings.incoming, settings.max_incoming_bytes)
        if left := await run_sync(incoming.sweep):
            log.warning("%d files of a gateway that died were removed", left)
        gateway = Gateway(
            settings=settings,
            db=db,
            blobs=blobs,
            producer=broker.producer(settings),
            listener=broker.listener(settings),
            waker=broker.waker(settings),
            figures=broker.figures(settings),
            newest=broker.newest(settings),
            policies=Policies(policies),
            keyring=Keyring(db, secret.get_secret_value() if secret else None),
            limiter=RateLimiter(settings.rate_limit_per_minute),
            uploads=UploadRoom(settings.max_upload_bytes),
            incoming=incoming,
            metrics=metrics,
            workers=cached_workers(db),
            counts=cached_counts(db),
            threads=Threads(),
            readers=Readers(MAX_READERS, MAX_READERS_OF_A_TENANT),
            source=source,
            stopping=asyncio.Event(),
            sign_on=sign_on,
        )
        app.state.gateway = gateway
        await gateway.listener.start()
        try:
            yield
        finally:
            await gateway.stop_waiting()
            gateway.producer.close()
            gateway.waker.close()
            gateway.figures.close()
            gateway.newest.close()
            await run_sync(db.close)

    app = FastAPI(
        title="moderation",
        version=__version__,
        summary="Moderates pictures, videos and live streams for porn, violence and smoking.",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # the pages load scripts from elsewhere; the document itself is served
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    for routes in (
        images,
        videos,
        uploads,
        streams,
        events,
        items,
        evidence,
        lists,
        policy_routes,
        reviews,
        audit,
        jobs,
        catalog,
        health,
    ):
        app.include_router(routes.router)
    console.install(app)
    problems.install(app)
    openapi.install(app, policies)
    app.add_middleware(tus.Tus)
    app.add_middleware(
        BodyGuard, cap_of=partial(body_cap, settings), stall_s=settings.stall_timeout
    )
    app.add_middleware(Envelope, metrics=metrics)
    return app


def body_cap(settings: Settings, path: str) -> int:
    """The longest body that a path reads, in bytes."""
    if path == "/v1/images":
        return settings.max_image_bytes + FORM_OVERHEAD
    if path == "/v1/images:batch":
        return settings.max_batch_bytes
    if path == "/v1/videos":
        return settings.max_video_bytes + FORM_OVERHEAD
    if path.startswith("/v1/lists/") and path.endswith("/import"):
        return lists.MAX_IMPORT
    if path.startswith(f"{CONSOLE}/lists/") and path.endswith("/entries"):
        return MAX_FORM
    if path == tus.PATH or path.startswith(f"{tus.PATH}/"):
        return settings.max_video_bytes
    return SMALL_BODY


def _operation_id(route: APIRoute) -> str:
    return route.name
