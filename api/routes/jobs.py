"""The state of an analysis, and its cancellation."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import ReadKey, WriteKey
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas import examples, params
from api.schemas.answers import Job
from api.schemas.problems import KEYED, problems
from moderation.errors import ConflictError
from moderation.store import films, jobs
from moderation.store.records import JobRow, JobState, KeyRow

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}",
    summary="One job",
    response_model=None,
    responses={200: examples.job("The job"), **problems(*KEYED, 404)},
)
async def get_job(gateway: GatewayDep, key: ReadKey, job_id: params.JobId) -> Response:
    """How far the analysis of an item is."""
    return await in_thread(_get, gateway, key, job_id)


@router.delete(
    "/{job_id}",
    summary="Cancel a job",
    response_model=None,
    responses={
        200: examples.job("Cancelled; its item has a verdict that says so", state="cancelled"),
        202: examples.job(
            "It runs; its result will be dropped", state="running", cancel_requested=True
        ),
        **problems(*KEYED, 404, 409),
    },
)
async def cancel_job(gateway: GatewayDep, key: WriteKey, job_id: params.JobId) -> Response:
    """A job that waits is cancelled at once, and so is a video between two of its steps; one
    that runs, when it ends. The record stays: what was not looked at has a verdict by the
    policy's `on_failure`. 409 when the job has ended already; cancelling twice is fine."""
    return await in_thread(_cancel, gateway, key, job_id)


def _get(gateway: Gateway, key: KeyRow, job_id: str) -> Response:
    return _respond(gateway, jobs.get_job(gateway.db, key.tenant, job_id))


def _cancel(gateway: Gateway, key: KeyRow, job_id: str) -> Response:
    row = jobs.cancel(gateway.db, key.tenant, job_id, actor=key.id)
    if row.state is JobState.CANCELLED:
        gateway.waker.wake(job_id)
        return _respond(gateway, row)
    if row.state.ended:
        raise ConflictError(f"The job has ended: it is {row.state.value}.", code="job_ended")
    return _respond(gateway, row, status=202)


def _respond(gateway: Gateway, row: JobRow, *, status: int = 200) -> Response:
    body = Job.of(row, films.progress(gateway.db, row)).model_dump_json()
    return Response(body, status, media_type="application/json")
