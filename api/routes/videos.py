"""Videos in: one in a request, by its bytes, its URL, or an upload that came in pieces."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import bodies, receive
from api.auth import WriteKey
from api.deps import Gateway, GatewayDep, in_share, in_thread
from api.incoming import IncomingFile
from api.ingest import (
    Options,
    Origin,
    accept_video,
    check,
    fetch_video,
    join,
    known_submission,
    refuse_when_fetching_is_off,
)
from api.limits import declared_length
from api.schemas import examples, params
from api.schemas.problems import KEYED, problems
from api.submitting import OptionsDep, answer, respond
from api.tus import file_name
from moderation.errors import ConflictError, InputError, NotFoundError, ServiceError
from moderation.store import uploads
from moderation.store.records import KeyRow, Submission, VideoOptions
from moderation.types import Decision

log = logging.getLogger(__name__)

router = APIRouter(tags=["videos"])


async def video_of(
    gateway: GatewayDep,
    mode: params.VideoMode = None,
    interval_ms: params.IntervalMs = None,
    max_frames: params.MaxFrames = None,
    fps: params.Fps = None,
    stop_on: params.StopOn = None,
) -> VideoOptions:
    """How a video is to be looked at. Raises InputError for two that contradict each other."""
    if interval_ms is not None and mode not in (None, "interval"):
        raise InputError("query.interval_ms: belongs to mode=interval")
    if fps is not None and mode not in (None, "fps"):
        raise InputError("query.fps: belongs to mode=fps")
    if fps is not None and interval_ms is not None:
        raise InputError("query.fps: say either fps or interval_ms")
    at_most = gateway.settings.video_max_frames
    return VideoOptions(
        mode="fps" if fps is not None else mode,
        interval_s=None if interval_ms is None else interval_ms / 1000,
        rate=fps,
        max_frames=None if max_frames is None else min(max_frames, at_most),
        stop_on=None if stop_on is None else Decision(stop_on),
    )


async def options_of_video(
    options: OptionsDep, video: Annotated[VideoOptions, Depends(video_of)]
) -> Options:
    return replace(options, video=video)


async def seconds_to_wait(gateway: GatewayDep, wait: params.WaitForVideo = 0.0) -> float:
    """`wait`, cut to the gateway's maximum."""
    return min(wait, gateway.settings.wait_max)


@router.post(
    "/v1/videos",
    summary="Moderate one video",
    response_model=None,
    responses={
        200: examples.verdict("The verdict was ready in time, or was known already"),
        202: examples.accepted(),
        **problems(*KEYED, 404, 408, 409, 413, 415),
    },
    openapi_extra={"requestBody": examples.VIDEO_BODY},
)
async def post_video(
    request: Request,
    gateway: GatewayDep,
    key: WriteKey,
    options: Annotated[Options, Depends(options_of_video)],
    seconds: Annotated[float, Depends(seconds_to_wait)],
) -> Response:
    """A video as `multipart/form-data` (part `file`), as the raw body, or as JSON with a `url`
    or with the id of an `upload` that came in pieces. Answers 202, or the verdict when it is
    known or ready within `wait` seconds.

    A file that turns out to be no usable video has a verdict with status `failed`; one whose
    first bytes are no video's is refused at once with 415. The same bytes under the same policy
    and parameters are looked at once: later requests have the verdict of the first.
    """
    await _check(gateway, options)
    submission = await _submission(request, gateway, key, options)
    return respond(await answer(gateway, submission, options, seconds))


async def _submission(
    request: Request, gateway: Gateway, key: KeyRow, options: Options
) -> Submission:
    """What the video of a request became, whichever way it came."""
    kind = bodies.media_type(request)
    if kind == bodies.MULTIPART:
        part = receive.FilePart(request.headers)
        async with receive.file(gateway, declared_length(request.scope)) as file:
            await receive.pour(part.read(request.stream()), file.write)
            return await _accept(gateway, key, file, Origin(part.name), options)
    if kind in (bodies.RAW, bodies.FORM) or kind.startswith(("video/", "image/")):
        async with receive.file(gateway, declared_length(request.scope)) as file:
            await receive.pour(request.stream(), file.write)
            return await _accept(gateway, key, file, Origin(), options)
    if kind == bodies.JSON:
        body = (await bodies.read_json(request, params.VideoBody)).root
        if isinstance(body, params.UploadBody):
            return await _uploaded(gateway, key, body.upload, options)
        return await _fetched(gateway, key, body.url, options)
    raise bodies.unsupported(
        kind, "multipart/form-data, video/*, application/octet-stream or application/json"
    )


async def _check(gateway: Gateway, options: Options) -> None:
    call = partial(check, gateway, options)
    if options.callback_url is not None:  # its host is resolved, which may be slow
        await in_share(gateway.threads.fetches, call)
    else:
        await in_thread(call)


async def _accept(
    gateway: Gateway, key: KeyRow, file: IncomingFile, origin: Origin, options: Options
) -> Submission:
    call = partial(accept_video, gateway, key.tenant, file, origin, options)
    return await in_share(gateway.threads.stores, call)


async def _fetched(gateway: Gateway, key: KeyRow, url: str, options: Options) -> Submission:
    refuse_when_fetching_is_off(gateway)
    origin = Origin(source=url, identity=url.encode())
    earlier = await in_thread(known_submission, gateway, key.tenant, origin, options)
    if earlier is not None:
        return earlier
    async with receive.file(gateway) as file:
        await in_share(gateway.threads.films, partial(fetch_video, gateway, url, file))
        return await _accept(gateway, key, file, origin, options)


async def _uploaded(gateway: Gateway, key: KeyRow, upload: str, options: Options) -> Submission:
    """What became of an upload that came in pieces; it is gone afterwards."""
    origin = Origin(identity=upload.encode())
    earlier = await in_thread(known_submission, gateway, key.tenant, origin, options)
    if earlier is None:
        try:
            earlier = await _joined(gateway, key, upload, origin, options)
        except NotFoundError:  # or another request under this key has just taken it
            earlier = await in_thread(known_submission, gateway, key.tenant, origin, options)
            if earlier is None:
                raise
    return earlier


async def _joined(
    gateway: Gateway, key: KeyRow, upload: str, origin: Origin, options: Options
) -> Submission:
    row = await in_thread(uploads.get, gateway.db, key.tenant, upload)
    if not row.complete:
        raise ConflictError(
            f"The upload has {row.received} of {row.length} bytes.", code="upload_incomplete"
        )
    named = replace(origin, source=file_name(row.metadata))
    async with receive.file(gateway, row.length) as file:
        await in_share(gateway.threads.stores, partial(join, gateway, row, file))
        submission = await _accept(gateway, key, file, named, options)
    try:
        await in_thread(uploads.discard, gateway.db, gateway.blobs, upload)
    except ServiceError as error:  # it expires
        log.warning("%s stays for a while: %s", upload, error.message)
    return submission
