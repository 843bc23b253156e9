"""Bytes -> checked header -> sha256 -> blob -> one transaction -> message.

All of it is blocking and runs in one thread call per picture or video. Nothing is decoded: the
header alone is read, in pure Python.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from api.deps import Gateway
from api.incoming import IncomingFile
from api.limits import too_large
from moderation import fetch
from moderation.blobs import blob_key
from moderation.errors import (
    BrokerError,
    FetchError,
    MediaError,
    NotFoundError,
    OverloadedError,
    ServiceError,
)
from moderation.policy import Policy
from moderation.settings import Settings
from moderation.sniff import HEAD_BYTES, sniff, sniff_video
from moderation.store import jobs, opening, outbox, uploads
from moderation.store.deletion import BytesRemovedError
from moderation.store.records import JobState, NewItem, NewMedia, Submission, VideoOptions
from moderation.store.uploads import UploadRow
from moderation.tasks.messages import JobMessage

log = logging.getLogger(__name__)

MAX_SOURCE = 1024
RESTORED = 3
"""Times that bytes are stored once more, should they be deleted each time."""


IMAGE = "image"
VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes come from. `source`: the file's name or URL, as told by the caller.

    `identity`: what a repeated Idempotency-Key is compared by, the bytes themselves unless they
    were named by a URL (whose answer may change from one request to the next) or by an upload
    (which is gone by the next request).
    """

    source: str | None = None
    identity: bytes | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that a caller sent."""

    data: bytes
    source: str | None = None
    identity: bytes | None = None

    @property
    def origin(self) -> Origin:
        return Origin(self.source, self.identity)


@dataclass(frozen=True, slots=True)
class Options:
    """The query parameters and headers of a submission. `policy_name` is as the caller wrote
    it, `policy` what it means now. `video`: how to look at a video."""

    policy: Policy
    policy_name: str
    data_id: str | None = None
    callback_url: str | None = None
    priority: int = 0
    dedupe: bool = True
    idempotency_key: str | None = None
    video: VideoOptions | None = None

    def for_part(self, index: int) -> Options:
        """The options of one part of a batch: its place has an Idempotency-Key of its own."""
        if self.idempotency_key is None:
            return self
        return replace(self, idempotency_key=f"{self.idempotency_key}#{index}")


def accept(gateway: Gateway, tenant: str, upload: Upload, options: Options) -> Submission:
    """Store a picture and make its job, or find the answer that already exists.

    Raises MediaError (415, 422) and LimitError (413) for bytes that cannot be a usable
    picture, FetchError for a forbidden callback URL, ConflictError for a reused
    Idempotency-Key, OverloadedError, StoreError, BlobError. The message is not sent yet.
    """
    began = time.perf_counter()
    media = inspect(upload.data, tenant, gateway.settings)
    check(gateway, options)
    store = partial(gateway.blobs.put, media.blob_key, upload.data)
    return _submit(gateway, tenant, media, upload.origin, options, began, store)


def accept_video(
    gateway: Gateway, tenant: str, file: IncomingFile, origin: Origin, options: Options
) -> Submission:
    """The same for a video that has come in; `check` was called before that. Raises as `accept`
    does but for that."""
    began = time.perf_counter()
    media = NewMedia(
        sha256=file.sha256,
        size=file.size,
        format=sniff_video(file.head).format,
        blob_key=blob_key(tenant, file.sha256),
        kind=VIDEO,
    )
    store = partial(gateway.blobs.put_file, media.blob_key, file.path)
    return _submit(gateway, tenant, media, origin, options, began, store)


def check(gateway: Gateway, options: Options) -> None:
    """What can be refused whatever the bytes are. Raises FetchError, OverloadedError."""
    if options.callback_url is not None:
        fetch.check_url(options.callback_url, gateway.settings.fetch_allow)
    refuse_when_overloaded(gateway)


def _submit(
    gateway: Gateway,
    tenant: str,
    media: NewMedia,
    origin: Origin,
    options: Options,
    began: float,
    store: Callable[[], None],
) -> Submission:
    settings = gateway.settings
    seconds = settings.video_deadline if media.kind == VIDEO else settings.job_deadline
    new = NewItem(
        tenant=tenant,
        media=media,
        policy=options.policy,
        source=clean_source(origin.source),
        data_id=options.data_id,
        callback_url=options.callback_url,
        priority=options.priority,
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        idempotency_key=options.idempotency_key,
        request_hash=request_hash(origin.identity, media.sha256, options),
        video=options.video,
    )
    submission = _earlier(gateway, new) or _new(gateway, new, options, store)
    gateway.metrics.accepted(time.perf_counter() - began)
    return submission


def _earlier(gateway: Gateway, new: NewItem) -> Submission | None:
    """What came of an earlier request under the same key, asked before bytes are stored that
    would be nobody's. Raises ConflictError, StoreError."""
    if new.idempotency_key is None:
        return None
    return jobs.submitted_before(gateway.db, new.tenant, new.idempotency_key, new.request_hash)


def _new(gateway: Gateway, new: NewItem, options: Options, store: Callable[[], None]) -> Submission:
    """Store the bytes, make the rows; without those the bytes do not stay."""
    models = loaded_models(gateway) if options.dedupe else None
    # A film is long: one that lies there already is not written again.
    if new.media.kind != VIDEO or not gateway.blobs.exists(new.media.blob_key):
        store()
    try:
        return _kept(gateway, new, models, store)
    except BytesRemovedError:
        raise  # they are being deleted
    except ServiceError:
        _discard(gateway, new)
        raise


def _discard(gateway: Gateway, new: NewItem) -> None:
    try:
        opening.discard(gateway.db, gateway.blobs, new.tenant, new.media)
    except ServiceError as error:
        log.warning("%s was stored for nothing, and stays: %s", new.media.blob_key, error.message)


def _kept(
    gateway: Gateway, new: NewItem, models: tuple[str, ...] | None, store: Callable[[], None]
) -> Submission:
    """Make the rows; the bytes are stored once more where the same bytes were being deleted.
    Raises BytesRemovedError where that happens again and again."""
    restored: str | None = None
    for _ in range(RESTORED):
        try:
            return jobs.submit(gateway.db, new, dedupe_models=models, restored=restored)
        except BytesRemovedError as error:
            store()
            restored = error.removal
    return jobs.submit(gateway.db, new, dedupe_models=models, restored=restored)


def known_submission(
    gateway: Gateway, tenant: str, origin: Origin, options: Options
) -> Submission | None:
    """What came of an earlier request under this Idempotency-Key, where the bytes are named and
    not sent: asked before they are read. Raises ConflictError, StoreError."""
    if options.idempotency_key is None or origin.identity is None:
        return None
    told = request_hash(origin.identity, "", options)
    return jobs.submitted_before(gateway.db, tenant, options.idempotency_key, told)


def inspect(data: bytes, tenant: str, settings: Settings) -> NewMedia:
    """What the header tells, held against the limits. Raises MediaError, LimitError."""
    if len(data) > settings.max_image_bytes:
        raise too_large(settings.max_image_bytes)
    told = sniff(data[:HEAD_BYTES])
    if told.width is not None and told.height is not None:
        pixels = told.width * told.height
        if pixels > settings.max_pixels:
            raise MediaError(
                f"The picture has {pixels} pixels; the limit is {settings.max_pixels}.",
                code="too_many_pixels",
            )
    sha256 = hashlib.sha256(data).hexdigest()
    return NewMedia(
        sha256=sha256,
        size=len(data),
        format=told.format,
        blob_key=blob_key(tenant, sha256),
        width=told.width,
        height=told.height,
    )


def request_hash(identity: bytes | None, sha256: str, options: Options) -> str | None:
    """What must be the same under one Idempotency-Key; None without a key. `wait` may differ."""
    if options.idempotency_key is None:
        return None
    what = sha256 if identity is None else hashlib.sha256(identity).hexdigest()
    told: list[object] = [what, options.policy_name, options.data_id, options.callback_url]
    told += [options.priority, options.dedupe]
    if options.video is not None:
        told.append(options.video.to_json())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def clean_source(source: str | None) -> str | None:
    """A caller's file name or URL as it may be stored: no NUL, no lone surrogate, bounded."""
    if not source:
        return None
    text = source.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return text[:MAX_SOURCE] or None


def loaded_models(gateway: Gateway) -> tuple[str, ...] | None:
    """The models that would score a picture now: `id@version`. None when no worker is ready
    or the ready ones disagree; then nothing can be called a duplicate."""
    sets = {
        tuple(f"{model['id']}@{model['version']}" for model in row.models)
        for row in gateway.workers.get()
    }
    return sets.pop() if len(sets) == 1 else None


def refuse_when_overloaded(gateway: Gateway) -> None:
    """Raises OverloadedError when more jobs wait than the settings allow."""
    waiting = gateway.counts.get().get(JobState.QUEUED, 0)
    if waiting >= gateway.settings.max_queued:
        raise OverloadedError(f"{waiting} jobs wait already; try again later.")


def publish(gateway: Gateway, kind: str, job_id: str, priority: int) -> None:
    """Send a new job to the queue. A broker that is away does no harm: the job is in the
    database, and the sweeper publishes it."""
    try:
        gateway.producer.enqueue(JobMessage(kind, job_id), priority)
    except BrokerError as error:
        gateway.metrics.unpublished()
        log.warning("job %s was not published: %s", job_id, error.message)
    else:
        outbox.task_sent(gateway.db, job_id)


def fetch_picture(gateway: Gateway, url: str) -> Upload:
    """Read a picture from a user's URL. Raises FetchError."""
    settings = gateway.settings
    got = fetch.fetch(
        url,
        allow=settings.fetch_allow,
        timeout_s=settings.fetch_timeout,
        max_bytes=settings.max_image_bytes,
    )
    return Upload(data=got.data, source=url, identity=url.encode())


def fetch_video(gateway: Gateway, url: str, file: IncomingFile) -> None:
    """Read a video from a user's URL into a file. Raises FetchError, OverloadedError."""
    settings = gateway.settings
    fetch.pour(
        url,
        file.write,
        allow=settings.fetch_allow,
        timeout_s=settings.fetch_video_timeout,
        max_bytes=settings.max_video_bytes,
    )


def join(gateway: Gateway, upload: UploadRow, file: IncomingFile) -> None:
    """Write the pieces of a finished upload into one file. Raises NotFoundError when it is being
    deleted, OverloadedError, BlobError, StoreError."""
    for part in uploads.parts(gateway.db, upload.id):
        for chunk in gateway.blobs.open_range(part.blob_key, 0, part.size):
            file.write(chunk)
    if file.size != upload.length:
        raise NotFoundError(f"There is no upload {upload.id}.")


def refuse_when_fetching_is_off(gateway: Gateway) -> None:
    """Raises FetchError (fetch_disabled)."""
    if not gateway.settings.fetch_enabled:
        raise FetchError("Reading media from URLs is switched off.", code="fetch_disabled")
