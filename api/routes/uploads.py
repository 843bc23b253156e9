"""Large files in, piece by piece: tus 1.0, with any client of it (tus.io)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from api import bodies, tus
from api.auth import WriteKey
from api.deps import GatewayDep, in_thread
from api.limits import declared_length, too_large
from api.schemas import examples, params
from api.schemas.problems import KEYED, OPEN, problems
from moderation.errors import LimitError
from moderation.store import uploads

router = APIRouter(prefix=tus.PATH, tags=["uploads"])

MAX_LENGTH = 2**53
Length = Annotated[
    int,
    Header(alias="Upload-Length", ge=0, le=MAX_LENGTH, description="bytes of the whole file"),
]
Offset = Annotated[
    int,
    Header(alias="Upload-Offset", ge=0, le=MAX_LENGTH, description="where these bytes belong"),
]
Metadata = Annotated[
    str | None,
    Header(
        alias="Upload-Metadata",
        max_length=4096,
        pattern=tus.METADATA,
        description="pairs of a name and a value in base64; `filename` becomes the item's source",
        examples=["filename ZmlsbS5tcDQ="],
    ),
]
ChecksumHeader = Annotated[
    str | None,
    Header(
        alias="Upload-Checksum",
        max_length=200,
        description=f"of these bytes: one of {', '.join(tus.CHECKSUMS)}, a blank, and the digest "
        "in base64",
    ),
]


@router.options(
    "",
    summary="What this server can",
    response_class=Response,
    status_code=204,
    responses={204: examples.tus("The protocol's facts", *examples.TUS_FACTS), **problems(*OPEN)},
)
@router.options("/{upload_id}", status_code=204, include_in_schema=False)
async def upload_options(gateway: GatewayDep) -> Response:
    """The protocol's version, extensions and limits; needs no key."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": tus.VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(gateway.settings.max_video_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.CHECKSUMS),
        },
    )


@router.post(
    "",
    summary="Begin an upload",
    response_class=Response,
    status_code=201,
    responses={
        201: examples.tus("It may begin", "Location", "Upload-Offset", "Upload-Expires"),
        **problems(*KEYED, 400, 408, 409, 412, 413, 415, 460),
    },
    openapi_extra=examples.tus_request(required=False),
)
async def create_upload(
    request: Request,
    gateway: GatewayDep,
    key: WriteKey,
    length: Length,
    metadata: Metadata = None,
    checksum: ChecksumHeader = None,
) -> Response:
    """Announce a file. The first bytes may come with the request, as
    `application/offset+octet-stream`. `POST /v1/videos` takes the finished upload by its id,
    the last part of `Location`."""
    most = gateway.settings.max_video_bytes
    if length > most:
        raise too_large(most)
    wanted = tus.Checksum.parse(checksum)
    declared = declared_length(request.scope)
    if declared > length:
        raise LimitError(f"The upload was announced with {length} bytes.", code="too_large")
    brings = _brings_bytes(request)
    row = await in_thread(
        uploads.create,
        gateway.db,
        key.tenant,
        length=length,
        metadata=tus.metadata_of(metadata),
        expires=tus.expiry(gateway),
        room=gateway.settings.max_pending_bytes,
    )
    if brings:
        try:
            row = await tus.take(gateway, row, request.stream(), wanted)
        except Exception:  # nobody will know its id
            await in_thread(uploads.discard, gateway.db, gateway.blobs, row.id)
            raise
    location = {"Location": f"{tus.PATH}/{row.id}"}
    return Response(status_code=201, headers=location | tus.facts(row))


@router.head(
    "/{upload_id}",
    summary="How far an upload is",
    response_class=Response,
    responses={
        200: examples.tus("So far", "Upload-Offset", "Upload-Length", "Upload-Expires"),
        **problems(*KEYED, 404, 412),
    },
    openapi_extra=examples.tus_request(body=False),
)
async def head_upload(gateway: GatewayDep, key: WriteKey, upload_id: params.UploadId) -> Response:
    """Where the next bytes belong: `Upload-Offset`."""
    row = await in_thread(uploads.get, gateway.db, key.tenant, upload_id)
    headers = {"Upload-Length": str(row.length), "Cache-Control": "no-store"}
    if row.metadata:
        pairs = (f"{name} {value}".rstrip() for name, value in row.metadata.items())
        headers["Upload-Metadata"] = ",".join(pairs)
    return Response(status_code=200, headers=headers | tus.facts(row))


@router.patch(
    "/{upload_id}",
    summary="Send bytes",
    response_class=Response,
    status_code=204,
    responses={
        204: examples.tus("They are kept", "Upload-Offset", "Upload-Expires"),
        **problems(*KEYED, 400, 404, 408, 409, 412, 413, 415, 460),
    },
    openapi_extra=examples.tus_request(),
)
async def patch_upload(
    request: Request,
    gateway: GatewayDep,
    key: WriteKey,
    upload_id: params.UploadId,
    offset: Offset,
    checksum: ChecksumHeader = None,
) -> Response:
    """The next bytes, as many as there are. Where the connection breaks, what arrived is kept;
    HEAD tells how much. With `Upload-Checksum` all of them count, or none."""
    if not _brings_bytes(request):
        raise bodies.unsupported(bodies.media_type(request), tus.MEDIA_TYPE)
    wanted = tus.Checksum.parse(checksum)
    row = await in_thread(uploads.get, gateway.db, key.tenant, upload_id)
    if row.received != offset:
        raise uploads.misplaced(row)
    if offset + declared_length(request.scope) > row.length:
        raise LimitError(f"The upload was announced with {row.length} bytes.", code="too_large")
    row = await tus.take(gateway, row, request.stream(), wanted)
    return Response(status_code=204, headers=tus.facts(row))


@router.delete(
    "/{upload_id}",
    summary="Give an upload up",
    response_class=Response,
    status_code=204,
    responses={204: examples.tus("It is gone"), **problems(*KEYED, 404, 412)},
    openapi_extra=examples.tus_request(body=False),
)
async def delete_upload(gateway: GatewayDep, key: WriteKey, upload_id: params.UploadId) -> Response:
    """Delete it with all its bytes."""
    await in_thread(uploads.get, gateway.db, key.tenant, upload_id)
    await in_thread(uploads.discard, gateway.db, gateway.blobs, upload_id)
    return Response(status_code=204)


def _brings_bytes(request: Request) -> bool:
    """Whether the body is one of an upload. Raises UnsupportedMediaError for another body."""
    kind = bodies.media_type(request)
    if kind == tus.MEDIA_TYPE:
        return True
    if declared_length(request.scope) or "transfer-encoding" in request.headers:
        raise bodies.unsupported(kind, tus.MEDIA_TYPE)
    return False
