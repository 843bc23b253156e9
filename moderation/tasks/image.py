"""One image job: claim, bytes, analysis, one transaction, wake-up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from moderation.analyse import Analysis, Known, failure, to_verdict
from moderation.blobs import BlobStore
from moderation.errors import NotFoundError, ServiceError
from moderation.known import MIN_QUALITY, Listed, decide, looks_through
from moderation.packed_scores import PackedScores, pack_picture
from moderation.policy import Policy
from moderation.store import jobs
from moderation.store.engine import Database
from moderation.store.listed import Lists
from moderation.store.records import Claim, Finished, JobState
from moderation.tasks.announce import Enqueue, Wake, announce_end
from moderation.tasks.lot import Lot
from moderation.types import DecodedImage, Problem

log = logging.getLogger(__name__)

MEDIA_MISSING: Final = Problem(
    title="Media missing",
    status=422,
    code="media_missing",
    detail="the bytes are no longer in the media store",
)


class Analyse(Protocol):
    """`moderation.analyse.Analyser`, as far as a job needs it."""

    def analyse(
        self,
        data: bytes,
        policy: Policy,
        *,
        deadline: float | None = None,
        known: Known | None = None,
    ) -> Analysis: ...


@dataclass(frozen=True)
class ImageRuntime:
    """What an infer worker has ready before the first job. `owner`: the worker's id."""

    db: Database
    blobs: BlobStore
    analyser: Analyse
    waker: Wake
    producer: Enqueue
    owner: str
    models: tuple[str, ...]
    device: str
    lease_s: float
    max_attempts: int
    lists: Lists = field(default_factory=Lists)
    lot: Lot = field(default_factory=Lot)


class _Asked:
    """The lists, asked what they say of a decoded picture. version: as they were then; None where
    they were not asked. newest: of the entries that decided."""

    def __init__(self, claim: Claim, runtime: ImageRuntime) -> None:
        self._claim = claim
        self._runtime = runtime
        self.version: int | None = None
        self.newest: int | None = None

    def __call__(self, decoded: DecodedImage) -> Listed | None:
        pdq, quality = decoded.info.pdq, decoded.info.pdq_quality
        if pdq is None or quality is None or quality < MIN_QUALITY:
            return None
        runtime = self._runtime
        near = runtime.lists.near(runtime.db, self._claim.tenant, pdq)
        self.version = near.version
        found = decide(near.hits, may_pass=looks_through(decoded))
        self.newest = None if found is None else found.newest
        return found


def run_image(job_id: str, runtime: ImageRuntime) -> JobState | None:
    """Run one job, if it is still to be run; returns its state afterwards, None if not ours.

    Bytes that are no usable picture end the job FAILED with the policy's `on_failure`. A
    failure of our own side puts the job back, until its attempts are used up. Raises
    ServiceError only when the database itself cannot be reached: the lease then runs out.
    """
    claim = jobs.claim(
        runtime.db, job_id, runtime.owner, runtime.lease_s, max_attempts=runtime.max_attempts
    )
    if claim is None:
        log.debug("job %s: nothing to do", job_id)
        return None
    try:
        asked = _Asked(claim, runtime)
        state = _finish(claim, _analyse(claim, runtime, asked), asked, runtime)
    except ServiceError as error:
        log.warning("job %s attempt %d: %s: %s", job_id, claim.attempt, error.code, error)
        state = _release(claim, error.code, runtime)
    except Exception as error:
        # A defect of ours: give the job back at once instead of sitting on its lease.
        log.exception("job %s attempt %d", job_id, claim.attempt)
        state = _release(claim, f"internal: {type(error).__name__}", runtime)
    if state is not None and state.ended:
        announce_end(claim.job_id, claim.callback_url, runtime.waker, runtime.producer)
    return state


def _analyse(claim: Claim, runtime: ImageRuntime, known: Known) -> Analysis:
    try:
        data = runtime.blobs.get(claim.media.blob_key)
    except NotFoundError:
        return failure(claim.policy, MEDIA_MISSING)
    return runtime.analyser.analyse(data, claim.policy, known=known)


def _finish(
    claim: Claim, analysis: Analysis, asked: _Asked, runtime: ImageRuntime
) -> JobState | None:
    scored = analysis.decided_by != "list"
    verdict = to_verdict(
        analysis,
        id=claim.item_id,
        job_id=claim.job_id,
        source=claim.source,
        data_id=claim.data_id,
        policy=claim.policy,
        models=runtime.models if scored else (),
        device=runtime.device if scored else None,
        timings_ms={"queued": claim.queued_ms},
    )
    media = analysis.media
    packed, embedding, encoder = pack(analysis, runtime.models)
    finished = Finished(
        verdict=verdict,
        scores=packed,
        embedding=embedding,
        encoder=encoder,
        pdq=media.pdq if media else None,
        pdq_quality=media.pdq_quality if media else None,
        width=media.width if media else None,
        height=media.height if media else None,
        lists=asked.version,
        listed=asked.newest,
        drawn=runtime.lot.draws(claim.media.sha256),
    )
    if not jobs.finish(runtime.db, claim, finished):
        log.warning("job %s attempt %d: somebody else owns it now", claim.job_id, claim.attempt)
        return None
    log.info(
        "job %s %s %s attempt %d in %.0f ms",
        claim.job_id,
        verdict.status.value,
        verdict.decision.value,
        claim.attempt,
        verdict.timings_ms.get("total", 0.0),
    )
    return JobState(verdict.status.value)


def _release(claim: Claim, error: str, runtime: ImageRuntime) -> JobState | None:
    return jobs.release(runtime.db, claim, error=error, max_attempts=runtime.max_attempts)


def pack(
    analysis: Analysis, models: Sequence[str]
) -> tuple[PackedScores | None, NDArray[np.float16] | None, str | None]:
    """Scores, embeddings (views, width) and the encoder's name, as they are stored.
    (None, None, None) when nothing was scored."""
    scores = analysis.scores
    if scores is None or not scores.scores:
        return None, None, None
    vectors = [view.embedding for view in scores.scores if view.embedding is not None]
    embedding = np.stack(vectors) if len(vectors) == len(scores.scores) else None
    encoder = scores.scores[0].encoder if embedding is not None else None
    packed = pack_picture(scores, models, complete=analysis.coverage.complete)
    return packed, embedding, encoder
