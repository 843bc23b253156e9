"""A video job between the rounds of looking: planned, parked, taken up again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, null, or_, select, update

from moderation.store.chunks import OPEN, Stage, advance
from moderation.store.codec import clock
from moderation.store.ending import cancelled, end_job, held_by, lock_job
from moderation.store.engine import Database
from moderation.store.followers import follows
from moderation.store.records import Claim, JobRow, JobState, TaskHint
from moderation.store.tables import chunk, item, job, scores

VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Step:
    """A video job that is to be brought on; the one that sorts first comes first."""

    urgency: int
    queued: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class NewChunk:
    """asks: as `frames.dump_asks` gives them; moments: how many there are."""

    number: int
    moments: int
    asks: bytes


@dataclass(frozen=True, slots=True)
class ChunkRow:
    number: int
    round: int
    stage: Stage
    asks: bytes
    frames: bytes | None
    hashes: bytes | None


@dataclass(frozen=True, slots=True)
class Planned:
    """state: RUNNING, or CANCELLED where the job was called off meanwhile. hints: to send."""

    state: JobState
    hints: tuple[TaskHint, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Moments of a video that were looked at, and that are known to be needed so far; more may
    be needed where something is found. eta_s: seconds, None before the first one."""

    frames_done: int
    frames_known: int
    eta_s: float | None

    @property
    def fraction(self) -> float:
        return self.frames_done / self.frames_known if self.frames_known else 0.0


def next_step(
    db: Database,
    *,
    at_once: int,
    max_attempts: int,
    without: Collection[str] = (),
    now: datetime | None = None,
) -> Step | None:
    """The video job that should be brought on next. While `at_once` of them are under way, no
    other is begun; one that follows another never is. without: ids of jobs that are not wanted.
    Raises StoreError."""
    moment = clock(now)
    waiting = (
        select(job.c.id, job.c.priority, job.c.queued)
        .where(
            job.c.state == JobState.QUEUED.value,
            job.c.kind == VIDEO,
            job.c.queued <= moment,
            job.c.attempt < max_attempts,
            job.c.cancel_requested.is_(False),
            or_(job.c.deadline.is_(None), job.c.deadline > moment),
            job.c.id.not_in(sorted(without)),
            ~follows(),
        )
        .order_by(job.c.priority.desc(), job.c.queued, job.c.id)
        .limit(1)
    )
    running = (
        select(func.count())
        .select_from(job)
        .where(job.c.state == JobState.RUNNING.value, job.c.kind == VIDEO)
    )
    with db.connect() as connection:
        row = connection.execute(waiting).one_or_none()
        if row is not None and connection.execute(running).scalar_one() >= at_once:
            begun = waiting.where(job.c.film.is_not(null()))
            row = connection.execute(begun).one_or_none()
    return None if row is None else Step(-row.priority, row.queued, row.id)


def plan(
    db: Database,
    claim: Claim,
    parts: Sequence[NewChunk],
    *,
    round_: int,
    film: dict[str, Any],
    ahead: int,
    now: datetime | None = None,
) -> Planned | None:
    """Writes a round's chunks and parks the job, in one transaction.

    film: what the job keeps between the rounds. ahead: how many chunks may be under way at a
    time. None when the claim no longer holds. Raises StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_job(connection, *held_by(claim))
        if held is None:
            return None
        if held.cancel_requested:
            end_job(connection, held, JobState.CANCELLED, cancelled(connection, held), moment)
            return Planned(JobState.CANCELLED, ())
        rows = [
            {
                "job_id": held.id,
                "number": part.number,
                "tenant": held.tenant,
                "round": round_,
                "stage": Stage.WAITING.value,
                "attempt": 0,
                "moments": part.moments,
                "asks": part.asks,
                "due": moment,
                "created": moment,
                "updated": moment,
            }
            for part in parts
        ]
        if rows:
            connection.execute(insert(chunk), rows)
        connection.execute(
            update(job)
            .where(job.c.id == held.id)
            .values(owner=None, lease_until=None, attempt=0, film=film, updated=moment)
        )
        return Planned(JobState.RUNNING, advance(connection, held, ahead, moment))


def chunks_of(db: Database, job_id: str) -> tuple[ChunkRow, ...]:
    """All chunks of a job, by number. Raises StoreError."""
    columns = (chunk.c.number, chunk.c.round, chunk.c.stage, chunk.c.asks)
    query = select(*columns, chunk.c.frames, chunk.c.hashes).where(chunk.c.job_id == job_id)
    with db.connect() as connection:
        rows = connection.execute(query.order_by(chunk.c.number)).all()
    return tuple(
        ChunkRow(row.number, row.round, Stage(row.stage), row.asks, row.frames, row.hashes)
        for row in rows
    )


def film_of_media(db: Database, media_id: str) -> dict[str, Any] | None:
    """What the latest job that has looked at a video keeps of it, as `film.Film.from_json` takes
    it; None where none has."""
    query = (
        select(job.c.film)
        .join(item, item.c.id == job.c.item_id)
        .where(item.c.media_id == media_id, job.c.film.is_not(null()))
        .order_by(job.c.id.desc())
        .limit(1)
    )
    with db.connect() as connection:
        found: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
    return found


def progress(db: Database, row: JobRow, *, now: datetime | None = None) -> Progress | None:
    """How far a video job is; None for one that is no video, or ended without looking."""
    if row.kind != VIDEO:
        return None
    parts: Sequence[Any] = ()
    with db.connect() as connection:
        if not row.state.ended:
            query = select(chunk.c.stage, chunk.c.moments, chunk.c.created)
            parts = connection.execute(query.where(chunk.c.job_id == row.id)).all()
        if not parts:  # it has ended, perhaps since the row was read, or has not begun
            looked = select(scores.c.views).where(scores.c.job_id == row.id).limit(1)
            count = connection.execute(looked).scalar_one_or_none()
            if count is not None:
                return Progress(count, count, 0.0)
            return None if row.state.ended else Progress(0, 0, None)
    known = sum(part.moments for part in parts)
    done = sum(part.moments for part in parts if Stage(part.stage) not in OPEN)
    if done == 0:
        return Progress(0, known, None)
    elapsed_s = (clock(now) - min(part.created for part in parts)).total_seconds()
    return Progress(done, known, max(0.0, elapsed_s) / done * (known - done))
