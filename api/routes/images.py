"""Pictures in: one, or many in one request."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from api import bodies
from api.auth import WriteKey, charge
from api.deps import Gateway, GatewayDep, in_share, in_thread
from api.ingest import (
    Options,
    Origin,
    Upload,
    accept,
    fetch_picture,
    known_submission,
    refuse_when_fetching_is_off,
)
from api.limits import declared_length, too_large
from api.problems import problem_for, request_id_of
from api.schemas import examples, params
from api.schemas.answers import Batch, BatchPart
from api.schemas.problems import KEYED, problems
from api.submitting import Answer, OptionsDep, WaitDep, answer, as_json, respond
from moderation.errors import ModerationError
from moderation.store.records import KeyRow, Submission
from moderation.types import Problem, Verdict

router = APIRouter(tags=["images"])

BATCH_AT_ONCE = 4
"""Parts of one batch that are read and submitted at the same time."""


@router.post(
    "/v1/images",
    summary="Moderate one picture",
    response_model=None,
    responses={
        200: examples.verdict("The verdict was ready in time, or was known already"),
        202: examples.accepted(),
        **problems(*KEYED, 408, 409, 413, 415),
    },
    openapi_extra={"requestBody": examples.IMAGE_BODY},
)
async def post_image(
    request: Request, gateway: GatewayDep, key: WriteKey, options: OptionsDep, seconds: WaitDep
) -> Response:
    """A picture as `multipart/form-data` (part `file`), as the raw body, or as JSON with a
    `url`. Answers the verdict when it is ready within `wait` seconds, else 202.

    A picture whose header is fine but that cannot be decoded has a verdict with status
    `failed`; a header that is no picture's is refused at once with 415.
    """
    with gateway.uploads.hold(_size(request, gateway.settings.max_image_bytes)):
        # The bytes are not named here: they are given up before the wait begins.
        submission = await _submission(request, gateway, key, options)
    return respond(await answer(gateway, submission, options, seconds))


@router.post(
    "/v1/images:batch",
    summary="Moderate many pictures",
    response_model=None,
    responses={
        200: examples.batch(),
        **problems(*KEYED, 408, 413, 415),
    },
    openapi_extra={"requestBody": examples.BATCH_BODY},
)
async def post_batch(
    request: Request, gateway: GatewayDep, key: WriteKey, options: OptionsDep, seconds: WaitDep
) -> Response:
    """Files of one multipart body, each answered on its own and in order. `wait` is shared by
    all parts. Under an Idempotency-Key each place in the request has its own."""
    kind = bodies.media_type(request)
    if kind != bodies.MULTIPART:
        raise bodies.unsupported(kind, bodies.MULTIPART)
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(BATCH_AT_ONCE)
    request_id = request_id_of(request.scope)

    async def take(index: int, part: UploadFile) -> Submission | Problem:
        try:
            async with gate:
                upload = await _read(gateway, part)
                return await _accept(gateway, key, upload, options.for_part(index))
        except ModerationError as error:
            return problem_for(error, request_id)

    async def answer_to(taken: Submission | Problem) -> Answer | Problem:
        if isinstance(taken, Problem):
            return taken
        try:
            return await answer(gateway, taken, options, max(0.0, until - loop.time()))
        except ModerationError as error:
            return problem_for(error, request_id)

    # All parts are stored, and their bytes given up, before the wait begins.
    with gateway.uploads.hold(_size(request, gateway.settings.max_batch_bytes)):
        async with bodies.files(request, at_most=gateway.settings.max_batch_parts) as parts:
            if not parts:
                raise bodies.no_file()
            charge(request, gateway, key, cost=len(parts) - 1)
            until = loop.time() + seconds
            names = [part.filename for part in parts]
            taken = await asyncio.gather(*(take(i, part) for i, part in enumerate(parts)))
    answers = await asyncio.gather(*(answer_to(one) for one in taken))
    results = [_part(i, *told) for i, told in enumerate(zip(names, answers, strict=True))]
    return as_json(Batch(results=results).model_dump_json())


def _part(index: int, name: str | None, told: Answer | Problem) -> BatchPart:
    if isinstance(told, Problem):
        return BatchPart(index=index, source=name, status=told.status, problem=told)
    if isinstance(told, Verdict):
        return BatchPart(index=index, source=name, status=200, verdict=told)
    return BatchPart(index=index, source=name, status=202, accepted=told)


async def _submission(
    request: Request, gateway: Gateway, key: KeyRow, options: Options
) -> Submission:
    """What the picture of a request became, whichever of the three ways it came."""
    if bodies.media_type(request) == bodies.JSON:
        body = await bodies.read_json(request, params.UrlBody)
        return await _fetched(gateway, key, body.url, options)
    return await _accept(gateway, key, await _upload(request, gateway), options)


async def _fetched(gateway: Gateway, key: KeyRow, url: str, options: Options) -> Submission:
    refuse_when_fetching_is_off(gateway)
    # Before it is fetched: its answer may be another one by now, or none.
    origin = Origin(source=url, identity=url.encode())
    earlier = await in_thread(known_submission, gateway, key.tenant, origin, options)
    if earlier is not None:
        return earlier
    upload = await in_share(gateway.threads.fetches, partial(fetch_picture, gateway, url))
    return await _accept(gateway, key, upload, options)


async def _upload(request: Request, gateway: Gateway) -> Upload:
    """The picture that a request brings."""
    kind = bodies.media_type(request)
    if kind == bodies.MULTIPART:
        async with bodies.files(request, at_most=1) as parts:
            if not parts:
                raise bodies.no_file()
            return await _read(gateway, parts[0])
    if kind in (bodies.RAW, bodies.FORM) or kind.startswith("image/"):
        return Upload(await bodies.read(request, gateway.settings.max_image_bytes))
    raise bodies.unsupported(
        kind, "multipart/form-data, image/*, application/octet-stream or application/json"
    )


def _size(request: Request, limit: int) -> int:
    """Bytes that a request may bring: what it declares, or `limit` where that tells nothing
    (a body in chunks, a URL)."""
    declared = declared_length(request.scope)
    return limit if declared == 0 or bodies.media_type(request) == bodies.JSON else declared


async def _read(gateway: Gateway, part: UploadFile) -> Upload:
    """A part's bytes and name. Raises LimitError before it reads too large a one."""
    limit = gateway.settings.max_image_bytes
    if part.size is not None and part.size > limit:
        raise too_large(limit)
    return Upload(await part.read(), part.filename)


async def _accept(gateway: Gateway, key: KeyRow, upload: Upload, options: Options) -> Submission:
    call = partial(accept, gateway, key.tenant, upload, options)
    if options.callback_url is not None:  # its host is resolved, which may be slow
        return await in_share(gateway.threads.fetches, call)
    return await in_thread(call)
