"""Is the process alive, can it do its work, and how is it doing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth import ADMIN, Credentials, require
from api.deps import Gateway, GatewayDep, in_share
from api.problems import request_id_of, respond
from api.schemas.answers import Live, Ready
from api.schemas.problems import KEYED, OPEN, Missing, NotReady, problems
from moderation.errors import BrokerError, StoreError
from moderation.live.figures import Figures
from moderation.store import chunks, jobs, outbox, stream_leases, streams
from moderation.store.engine import schema_is_current
from moderation.store.records import WorkerRow

log = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])

admin = require(ADMIN)


@router.get(
    "/live",
    summary="Liveness",
    response_model=None,
    responses={200: {"model": Live, "description": "The process answers"}, **problems(*OPEN)},
)
async def live() -> Response:
    """The process answers. Restart it when this fails, and only then."""
    return Response(Live().model_dump_json(), media_type="application/json")


@router.get(
    "/ready",
    summary="Readiness",
    response_model=None,
    responses={
        200: {"model": Ready, "description": "Pictures can be moderated now"},
        **problems(*OPEN, 503),
    },
)
async def ready(request: Request, gateway: GatewayDep) -> Response:
    """Database, migrations, broker and a worker with loaded models are there. 503 lists what
    is missing in `missing`. Pictures are accepted all the same as long as the database
    answers: their jobs wait."""
    told = await in_share(gateway.threads.probes, partial(readiness, gateway))
    if isinstance(told, Ready):
        return Response(told.model_dump_json(), media_type="application/json")
    problem = NotReady(
        title="Not ready",
        status=503,
        code="not_ready",
        detail="Missing: " + ", ".join(one.name for one in told) + ".",
        request_id=request_id_of(request.scope),
        missing=told,
    )
    return respond(problem)


def readiness(gateway: Gateway) -> Ready | list[Missing]:
    """What is there, or all that is missing. Blocking."""
    missing: list[Missing] = []
    workers: tuple[WorkerRow, ...] = ()
    try:
        gateway.db.ping()
        if not schema_is_current(gateway.db):
            missing.append(
                Missing(name="migrations", detail="The database schema is not the current one.")
            )
        elif not (workers := gateway.workers.get()):
            missing.append(
                Missing(name="infer_worker", detail="No worker with loaded models is alive.")
            )
    except StoreError as error:
        missing.append(Missing(name="database", detail=error.message))
    try:
        gateway.producer.ping()
    except BrokerError as error:
        missing.append(Missing(name="broker", detail=error.message))
    if missing:
        return missing
    devices = sorted({worker.device or "unknown" for worker in workers})
    precisions = sorted({worker.precision or "unknown" for worker in workers})
    models = {f"{model['id']}@{model['version']}" for row in workers for model in row.models}
    return Ready(
        device=", ".join(devices),
        precision=", ".join(precisions),
        devices=devices,
        models=sorted(models),
        workers=len(workers),
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_model=None,
    responses={
        200: {
            "description": "The text exposition format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(*KEYED),
    },
)
async def metrics(request: Request, gateway: GatewayDep, credentials: Credentials) -> Response:
    """Needs an admin key unless MODERATION_METRICS_OPEN is set."""
    if not gateway.settings.metrics_open:
        await admin(request, credentials)
    text = await in_share(gateway.threads.probes, partial(_scrape, gateway))
    return Response(text, headers={"Content-Type": gateway.metrics.content_type})


def _scrape(gateway: Gateway) -> bytes:
    gateway.metrics.observe_queue(
        jobs.counts(gateway.db),
        jobs.oldest_queued_s(gateway.db),
        outbox.undelivered(gateway.db),
        chunks.open_counts(gateway.db),
        len(gateway.workers.get()),
    )
    gateway.metrics.observe_streams(
        streams.counts(gateway.db),
        stream_leases.census(gateway.db).free,
        _figures(gateway),
        streams.running(gateway.db),
    )
    return gateway.metrics.text()


def _figures(gateway: Gateway) -> Mapping[str, Figures]:
    """Of the supervisors; none while the broker is away."""
    try:
        return gateway.figures.read()
    except BrokerError as error:
        log.info("no figures of live streams: %s", error)
        return {}
