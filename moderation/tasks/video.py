"""A video job's steps: plan what to look at, look closer where something is found, conclude.

Between the steps the job is parked, and its chunks are read and scored by whoever is free.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from moderation.aggregate import Frame, merged
from moderation.analyse import failure, to_verdict
from moderation.clips import Seen, judged, look_on
from moderation.errors import MediaError, NotFoundError, ServiceError
from moderation.film import ROUNDS, Film, begin, conclude, film_verdict
from moderation.known import BankKind, objected
from moderation.packed_scores import pack_film
from moderation.policy import problem_of
from moderation.store import films, jobs
from moderation.store.chunks import Stage
from moderation.store.engine import Database
from moderation.store.films import ChunkRow, NewChunk, Planned
from moderation.store.frames import (
    Asks,
    dump_asks,
    load_asks,
    load_hashes,
    load_looked,
)
from moderation.store.listed import Lists
from moderation.store.records import Claim, Finished, JobState, VideoOptions
from moderation.tasks.announce import Enqueue, Wake, announce_end, send_hints
from moderation.tasks.image import MEDIA_MISSING
from moderation.tasks.lot import Lot
from moderation.tasks.secret import sampling_seed
from moderation.types import Problem, Windows
from moderation.video.dedupe import FrameHash
from moderation.video.index import FrameIndex
from moderation.video.probe import Probed, ProbeLimits, VideoInfo
from moderation.video.sampling import Chunk, SamplingOptions
from moderation.video.source import ReadOptions

log = logging.getLogger(__name__)

KEPT_FRAMES: Final = 2_000_000
"""Frames of all kept indexes: 18 MB."""
TIMINGS: Final = "timings_ms"
"""Beside the film's own facts, as the job keeps them."""


class Files(Protocol):
    """Media as files of this machine; raises NotFoundError, BlobError."""

    def open(self, blob_key: str) -> AbstractContextManager[Path]: ...


class Indexes:
    """The frame indexes of the films that were worked on last; used by many threads."""

    def __init__(self, most_frames: int = KEPT_FRAMES) -> None:
        self._most_frames = most_frames
        self._lock = threading.Lock()
        # In the order of their last use.
        self._kept: dict[str, FrameIndex] = {}

    def get(self, sha256: str) -> FrameIndex | None:
        with self._lock:
            found = self._kept.pop(sha256, None)
            if found is not None:
                self._kept[sha256] = found
            return found

    def put(self, sha256: str, index: FrameIndex) -> None:
        with self._lock:
            self._kept.pop(sha256, None)
            self._kept[sha256] = index
            while len(self._kept) > 1 and self._frames() > self._most_frames:
                del self._kept[next(iter(self._kept))]

    def _frames(self) -> int:
        return sum(len(index) for index in self._kept.values())


@dataclass(frozen=True)
class VideoRuntime:
    """What a media worker has ready for the steps of videos. `owner`: the worker's id. `ahead`:
    chunks of one video under way at a time. `sampling`: unless the job asks otherwise.
    `windows`: what the clip models of the infer workers read."""

    db: Database
    files: Files
    waker: Wake
    producer: Enqueue
    owner: str
    probe: Callable[[Path, ProbeLimits], Probed]
    scenes: Callable[[Path, VideoInfo, ReadOptions], tuple[float, ...]]
    limits: ProbeLimits
    reading: ReadOptions
    sampling: SamplingOptions
    secret: bytes
    lease_s: float
    max_attempts: int
    ahead: int
    windows: Windows = field(default_factory=dict)
    indexes: Indexes = field(default_factory=Indexes)
    lists: Lists = field(default_factory=Lists)
    lot: Lot = field(default_factory=Lot)


def run_video(job_id: str, runtime: VideoRuntime) -> JobState | None:
    """The next step of a job, if it is still to be run; its state afterwards, None if not ours.

    A file that is no usable video ends the job FAILED with the policy's `on_failure`. A failure
    of our own side puts the job back, until its attempts are used up. Raises ServiceError only
    when the database itself cannot be reached: the lease then runs out.
    """
    claim = jobs.claim(
        runtime.db, job_id, runtime.owner, runtime.lease_s, max_attempts=runtime.max_attempts
    )
    if claim is None:
        return None
    try:
        state = _step(claim, runtime)
    except MediaError as error:
        state = _fail(claim, problem_of(error), runtime)
    except NotFoundError:
        state = _fail(claim, MEDIA_MISSING, runtime)
    except ServiceError as error:
        log.warning("job %s attempt %d: %s: %s", job_id, claim.attempt, error.code, error)
        state = _release(claim, error.code, runtime)
    except Exception as error:
        # A defect of ours: give the job back at once instead of sitting on its lease.
        log.exception("job %s attempt %d", job_id, claim.attempt)
        state = _release(claim, f"internal: {type(error).__name__}", runtime)
    if state is None:
        log.warning("job %s attempt %d: somebody else owns it now", job_id, claim.attempt)
    elif state.ended:
        announce_end(job_id, claim.callback_url, runtime.waker, runtime.producer)
    return state


def _step(claim: Claim, runtime: VideoRuntime) -> JobState | None:
    if claim.film is None:
        return _plan(claim, runtime)
    rows = films.chunks_of(runtime.db, claim.job_id)
    film = Film.from_json(claim.film)
    seen = _seen(rows)
    rounds = max((row.round for row in rows), default=0) + 1
    if rounds < ROUNDS:
        parts = _next_round(claim, film, seen.rounds, rounds, len(rows), runtime)
        if parts:
            return _park(claim, parts, rounds, claim.film, runtime)
    return _conclude(claim, film, seen, rows, runtime)


def _plan(claim: Claim, runtime: VideoRuntime) -> JobState | None:
    began = datetime.now(UTC)
    sampling = sampling_of(claim, runtime)
    scenes = None
    with runtime.files.open(claim.media.blob_key) as path:
        probed = _remembered(claim, runtime.probe(path, runtime.limits), runtime)
        if sampling.mode == "scene":
            scenes = runtime.scenes(path, probed.info, runtime.reading)
    probe_ms = (datetime.now(UTC) - began).total_seconds() * 1000
    film, parts = begin(probed.info, probed.index, sampling, scenes)
    kept = {**film.to_json(), TIMINGS: {"queued": claim.queued_ms, "probe": probe_ms}}
    return _park(claim, parts, 0, kept, runtime)


def _next_round(
    claim: Claim, film: Film, seen: Seen, rounds: int, count: int, runtime: VideoRuntime
) -> tuple[Chunk, ...]:
    """What to look at after so many rounds; nothing where the file cannot be opened any more,
    since that takes away nothing of what was seen."""
    try:
        index = _index(claim, runtime)
    except (MediaError, NotFoundError) as error:
        log.warning("job %s: borders stay as they are: %s", claim.job_id, error)
        return ()
    return look_on(seen, claim.policy, film, index, runtime.windows, rounds=rounds, first=count)


def _index(claim: Claim, runtime: VideoRuntime) -> FrameIndex:
    """Of the file, whose bytes never change: all of it is read for it, so it is kept a while."""
    known = runtime.indexes.get(claim.media.sha256)
    if known is not None:
        return known
    with runtime.files.open(claim.media.blob_key) as path:
        return _remembered(claim, runtime.probe(path, runtime.limits), runtime).index


def _remembered(claim: Claim, probed: Probed, runtime: VideoRuntime) -> Probed:
    runtime.indexes.put(claim.media.sha256, probed.index)
    return probed


def _park(
    claim: Claim,
    parts: Sequence[Chunk],
    round_: int,
    film: dict[str, object],
    runtime: VideoRuntime,
) -> JobState | None:
    new = [
        NewChunk(
            part.number,
            len(part.asks),
            dump_asks(Asks(part.asks, part.seek_s, part.exact, part.window)),
        )
        for part in parts
    ]
    planned: Planned | None = films.plan(
        runtime.db, claim, new, round_=round_, film=film, ahead=runtime.ahead
    )
    if planned is None:
        return None
    log.info("job %s round %d: %d chunks", claim.job_id, round_, len(new))
    send_hints(runtime.producer, planned.hints)
    return planned.state


def _conclude(
    claim: Claim,
    film: Film,
    seen: _Seen,
    rows: Sequence[ChunkRow],
    runtime: VideoRuntime,
) -> JobState | None:
    frames = judged(seen.rounds, runtime.windows, film)
    timeline = conclude(frames, claim.policy, film)
    total_ms = (datetime.now(UTC) - claim.created).total_seconds() * 1000
    kept: Mapping[str, float] = (claim.film or {}).get(TIMINGS, {})
    verdict = film_verdict(
        timeline,
        film,
        id=claim.item_id,
        policy=claim.policy,
        models=seen.models,
        device=", ".join(seen.devices) or None,
        job_id=claim.job_id,
        source=claim.source,
        data_id=claim.data_id,
        notes=_notes(rows, claim.video),
        timings_ms={**kept, "total": total_ms},
    )
    hashes = tuple(one for row in rows if row.hashes is not None for one in load_hashes(row.hashes))
    near = runtime.lists.near_frames(runtime.db, claim.tenant, hashes)
    verdict = objected(verdict, near.hits)
    finished = Finished(
        verdict=verdict,
        scores=pack_film(
            [(one.time_s, one.peaks, one.picture) for one in merged(frames)],
            seen.models,
            complete=timeline.coverage.complete,
            gap_s=film.gap_s,
        ),
        width=film.info.width,
        height=film.info.height,
        duration_s=film.info.duration_s,
        hashes=hashes,
        lists=near.version,
        listed=max((one.version for one in near.hits if one.kind is BankKind.BLOCK), default=None),
        drawn=runtime.lot.draws(claim.media.sha256),
    )
    if not jobs.finish(runtime.db, claim, finished):
        return None
    log.info(
        "job %s done %s: %d moments in %.0f ms",
        claim.job_id,
        verdict.decision.value,
        len(frames),
        total_ms,
    )
    return JobState.DONE


@dataclass(frozen=True, slots=True)
class _Seen:
    """Every moment of all chunks that have ended, seen or not; which models said so, and where."""

    rounds: Seen
    models: tuple[str, ...]
    devices: tuple[str, ...]


def _seen(rows: Sequence[ChunkRow]) -> _Seen:
    rounds = Seen()
    models: set[str] = set()
    devices: set[str] = set()
    for row in rows:
        asks = load_asks(row.asks)
        if row.frames is None:
            unseen = [Frame(time_s, None) for time_s, _ in asks.moments]
            rounds.add(row.round, asks.window, unseen, ())
            continue
        looked = load_looked(row.frames)
        hashes = load_hashes(row.hashes) if row.hashes is not None else ()
        known = [FrameHash(one.time_s, one.pdq, one.quality) for one in hashes]
        rounds.add(row.round, asks.window, looked.frames, known)
        models |= set(looked.models)
        devices.add(looked.device)
    return _Seen(rounds, tuple(sorted(models)), tuple(sorted(devices)))


def _notes(rows: Sequence[ChunkRow], video: VideoOptions) -> list[str]:
    notes = []
    skipped = sum(_moments(row) for row in rows if row.stage is Stage.SKIPPED)
    if skipped and video.stop_on is not None:
        notes.append(f"stopped early at {video.stop_on.value}: {skipped} moments not looked at")
    failed = sum(_moments(row) for row in rows if row.stage is Stage.FAILED)
    if failed:
        notes.append(f"{failed} moments not looked at: their parts failed every attempt")
    return notes


def _moments(row: ChunkRow) -> int:
    return len(load_asks(row.asks).moments)


def _fail(claim: Claim, problem: Problem, runtime: VideoRuntime) -> JobState | None:
    """End a job whose file cannot be looked at."""
    verdict = to_verdict(
        failure(claim.policy, problem),
        id=claim.item_id,
        job_id=claim.job_id,
        source=claim.source,
        data_id=claim.data_id,
        policy=claim.policy,
        models=(),
        device=None,
        timings_ms={"queued": claim.queued_ms},
    )
    if not jobs.finish(runtime.db, claim, Finished(verdict)):
        return None
    log.info("job %s failed: %s", claim.job_id, problem.code)
    return JobState(verdict.status.value)


def _release(claim: Claim, error: str, runtime: VideoRuntime) -> JobState:
    return jobs.release(runtime.db, claim, error=error, max_attempts=runtime.max_attempts)


def sampling_of(claim: Claim, runtime: VideoRuntime) -> SamplingOptions:
    """How this video is sampled: as the job asks, within what the settings allow, at moments
    that nobody can tell who does not know our secret."""
    asked, usual = claim.video, runtime.sampling
    return replace(
        usual,
        mode=asked.mode or usual.mode,
        interval_s=asked.interval_s or usual.interval_s,
        rate=asked.rate or usual.rate,
        max_frames=min(asked.max_frames or usual.max_frames, usual.max_frames),
        seed=sampling_seed(runtime.secret, claim.media.sha256),
    )
