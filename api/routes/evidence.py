"""What people look at: stills, a proxy of the film, score curves. Never the uploaded bytes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api import derived
from api.auth import ReadKey
from api.deps import Gateway, GatewayDep, in_thread
from api.problems import request_id_of
from api.ranges import SAFE, AskedRange
from api.schemas import evidence as shapes
from api.schemas import params
from api.schemas.evidence import Evidence, Scores, SegmentEvidence, Series, Still, Thresholds
from api.schemas.problems import KEYED, RETRY_AFTER, problems
from moderation.packed_scores import PackedScores
from moderation.store import evidence
from moderation.store.evidence import Shown
from moderation.types import Segment

router = APIRouter(prefix="/v1/items", tags=["evidence"])


Name = Annotated[
    str,
    Path(
        pattern=derived.NAME,
        description="`proxy.mp4`, `frame-<milliseconds>.webp` and `frame-<milliseconds>-blur.webp` "
        "of a video, `picture.webp` and `picture-blur.webp` of a picture",
        examples=["frame-13200-blur.webp"],
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="seconds to wait until it is made; longer than the gateway's maximum is cut "
        "to it",
    ),
]


@router.get(
    "/{item_id}/evidence",
    summary="What there is to look at",
    response_model=None,
    responses={200: shapes.evidence(), **problems(*KEYED, 404)},
)
async def get_evidence(gateway: GatewayDep, key: ReadKey, item_id: params.ItemId) -> Response:
    """Links to a still of every segment's peak and to a proxy of a film, or to the picture. The
    uploaded bytes are never given out."""
    found = await in_thread(evidence.shown, gateway.db, key.tenant, item_id)
    return _json(_evidence(found))


@router.get(
    "/{item_id}/scores",
    summary="Score curves",
    response_model=None,
    responses={200: shapes.scores(), **problems(*KEYED, 404)},
)
async def get_scores(gateway: GatewayDep, key: ReadKey, item_id: params.ItemId) -> Response:
    """The scores of every moment that was looked at, as data for a plot, with the policy's
    thresholds and the segments."""
    return _json(await in_thread(_scores, gateway, key.tenant, item_id))


@router.get(
    "/{item_id}/derivatives/{name}",
    summary="A picture or a proxy of an item",
    response_model=None,
    responses={
        200: shapes.derivative("The bytes"),
        206: shapes.derivative("The asked range of them"),
        202: {"description": "It is being made", "headers": RETRY_AFTER},
        **problems(*KEYED, 404, 413, 416),
    },
)
async def get_derivative(
    request: Request,
    gateway: GatewayDep,
    key: ReadKey,
    item_id: params.ItemId,
    name: Name,
    wait: Wait = 0.0,
    asked: AskedRange = None,
) -> Response:
    """Made when it is first asked for, and kept until the item is deleted. 422 with the reason
    when it cannot be made, as of a damaged file."""
    return await derived.give(
        gateway,
        key.tenant,
        item_id,
        name,
        wait_s=min(wait, gateway.settings.wait_max),
        asked=asked,
        headers=SAFE,
        request_id=request_id_of(request.scope),
    )


def _evidence(found: Shown) -> Evidence:
    base = f"/v1/items/{found.item_id}/derivatives"
    is_video = found.kind == "video"
    verdict = found.verdict
    reasons = verdict.reasons if verdict is not None else []
    segments = (verdict.segments if verdict is not None else None) or []
    return Evidence(
        item_id=found.item_id,
        kind="video" if is_video else "image",
        duration_s=_rounded(found.duration_s),
        still=None if is_video else _still(base, "picture"),
        boxes=[] if is_video else [box for reason in reasons for box in reason.boxes],
        proxy=f"{base}/proxy.mp4" if is_video else None,
        segments=[_segment(base, segment) for segment in segments],
    )


def _segment(base: str, segment: Segment) -> SegmentEvidence:
    marked_s = segment.boxes_s
    return SegmentEvidence(
        **segment.model_dump(exclude={"boxes"}),
        still=_frame(base, segment.peak_s),
        boxes=segment.boxes or [],
        boxes_still=None if marked_s is None else _frame(base, marked_s),
    )


def _frame(base: str, time_s: float) -> Still:
    return _still(base, f"frame-{round(time_s * 1000)}")


def _still(base: str, name: str) -> Still:
    return Still(clear=f"{base}/{name}.webp", blurred=f"{base}/{name}-blur.webp")


def _scores(gateway: Gateway, tenant: str, item_id: str) -> Scores:
    found = evidence.shown(gateway.db, tenant, item_id)
    verdict = found.verdict
    return Scores(
        item_id=item_id,
        policy=found.policy.ref,
        duration_s=_rounded(found.duration_s),
        thresholds={
            rule.label: Thresholds(review_at=rule.review_at, block_at=rule.block_at)
            for rule in found.policy.rules
        },
        segments=(verdict.segments if verdict is not None else None) or [],
        series=[_series(packed) for packed in evidence.scores_of(gateway.db, found)],
    )


def _series(packed: PackedScores) -> Series:
    order = np.argsort(packed.times, kind="stable")
    columns = packed.values[order].T
    return Series(
        models=list(packed.models),
        times=[round(float(time_s), 3) for time_s in packed.times[order]],
        scores={
            label: [None if np.isnan(score) else round(float(score), 4) for score in column]
            for label, column in zip(packed.labels, columns, strict=True)
        },
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _json(told: BaseModel) -> Response:
    return Response(told.model_dump_json(), media_type="application/json")
