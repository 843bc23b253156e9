"""The parts of a video job: claimed, read, scored, ended; the last one brings the job on.

While its chunks are worked on the job is parked: RUNNING, without owner and lease. Whoever ends
a chunk locks the job first, so two never both think, or both not, that theirs was the last.
(job, number, attempt, owner) names a claim of a chunk; what another one writes is refused. A
chunk is gone with its job: a write after that finds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from moderation.policy import Policy
from moderation.store.codec import clock, load_policy
from moderation.store.ending import OpenJob, lock_job, parked, send_task_again
from moderation.store.engine import Database
from moderation.store.records import JobState, NewMedia, TaskHint, VideoOptions
from moderation.store.tables import chunk, item, job, media, policy_version

BACKOFF_S: Final = 1.0
BACKOFF_CAP_S: Final = 30.0
HINT_GRACE: Final = timedelta(seconds=2)
"""Whoever ends the last chunk sends the job's message itself; the sweeper does it after this."""


class Stage(StrEnum):
    """WAITING -> READ -> SCORE -> DONE; a lost pack: SCORE -> READ. SKIPPED: not needed any more.
    FAILED: out of attempts; its moments were not seen."""

    WAITING = "waiting"
    READ = "read"
    SCORE = "score"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


ACTIVE: Final = (Stage.READ, Stage.SCORE)
OPEN: Final = (Stage.WAITING, *ACTIVE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that somebody may claim; the one that sorts first comes first. `attempt`: how
    often it has been claimed."""

    urgency: int
    due: datetime
    job_id: str
    number: int
    attempt: int

    @property
    def name(self) -> str:
        return chunk_name(self.job_id, self.number)


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """A chunk that this owner works on until its lease ends. `attempt` counts from 1, over
    reading and scoring. `film`: as the job keeps it."""

    job_id: str
    number: int
    round: int
    stage: Stage
    attempt: int
    owner: str
    asks: bytes
    media: NewMedia
    policy: Policy
    film: dict[str, Any]
    video: VideoOptions

    @property
    def name(self) -> str:
        """`<job>/<number>`, as messages and logs have it."""
        return chunk_name(self.job_id, self.number)


def chunk_name(job_id: str, number: int) -> str:
    return f"{job_id}/{number}"


def chunk_keys(names: Iterable[str]) -> list[tuple[str, int]]:
    """(job, number) of those names that are of chunks."""
    parts = (name.partition("/") for name in names)
    return sorted((job_id, int(number)) for job_id, _, number in parts if number)


def candidate(
    db: Database,
    stage: Stage,
    *,
    max_attempts: int,
    without: Collection[str] = (),
    now: datetime | None = None,
) -> Candidate | None:
    """The chunk of a stage that should be claimed next: of the most urgent job, then the one
    that has waited longest. without: names of chunks that are not wanted. Raises StoreError."""
    moment = clock(now)
    query = (
        select(job.c.priority, chunk.c.due, chunk.c.job_id, chunk.c.number, chunk.c.attempt)
        .join(job, job.c.id == chunk.c.job_id)
        .where(
            chunk.c.stage == stage.value,
            chunk.c.due <= moment,
            chunk.c.attempt < attempts_of(stage, max_attempts),
            tuple_(chunk.c.job_id, chunk.c.number).not_in(chunk_keys(without)),
            _free(moment),
            *_works_on(moment),
        )
        .order_by(job.c.priority.desc(), chunk.c.due, chunk.c.job_id, chunk.c.number)
        .limit(1)
    )
    with db.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Candidate(-row.priority, row.due, row.job_id, row.number, row.attempt)


def claim_chunk(
    db: Database,
    job_id: str,
    number: int,
    stage: Stage,
    owner: str,
    lease_s: float,
    *,
    max_attempts: int,
    now: datetime | None = None,
) -> ChunkClaim | None:
    """Takes a chunk that is to be read or scored, for `lease_s` seconds.

    None: somebody else has it, it is at another stage, its job is called off, past its deadline
    or over, or it has had its attempts (the sweeper ends those). Raises StoreError.
    """
    moment = clock(now)
    take = (
        update(chunk)
        .where(
            chunk.c.job_id == job_id,
            chunk.c.number == number,
            chunk.c.stage == stage.value,
            chunk.c.attempt < attempts_of(stage, max_attempts),
            _free(moment),
            exists().where(job.c.id == chunk.c.job_id, *_works_on(moment)),
        )
        .values(
            owner=owner,
            attempt=chunk.c.attempt + 1,
            lease_until=moment + timedelta(seconds=lease_s),
            updated=moment,
        )
        .returning(chunk.c.attempt, chunk.c.round, chunk.c.asks)
    )
    with db.begin() as connection:
        taken = connection.execute(take).one_or_none()
        if taken is None:
            return None
        row = connection.execute(_CLAIMED.where(job.c.id == job_id)).one()
    return ChunkClaim(
        job_id=job_id,
        number=number,
        round=taken.round,
        stage=stage,
        attempt=taken.attempt,
        owner=owner,
        asks=taken.asks,
        media=NewMedia(row.sha256, row.size, row.format, row.blob_key, row.kind),
        policy=load_policy(row.body),
        film=row.film,
        video=VideoOptions.from_json(row.options),
    )


_CLAIMED = (
    select(
        job.c.film,
        job.c.options,
        media.c.sha256,
        media.c.size,
        media.c.format,
        media.c.blob_key,
        media.c.kind,
        policy_version.c.body,
    )
    .join(item, item.c.id == job.c.item_id)
    .join(media, media.c.id == item.c.media_id)
    .join(policy_version, policy_version.c.id == job.c.policy_version)
)


def read_done(
    db: Database, claim: ChunkClaim, *, now: datetime | None = None
) -> tuple[TaskHint, ...] | None:
    """The chunk's pack lies ready. What to send; None when the claim no longer holds."""
    moment = clock(now)
    with db.begin() as connection:
        if not _change(connection, claim, moment, stage=Stage.SCORE.value, due=moment):
            return None
        return (_hint(connection, claim.job_id, claim.number, Stage.SCORE),)


def score_done(
    db: Database,
    claim: ChunkClaim,
    *,
    frames: bytes,
    hashes: bytes,
    ahead: int,
    enough: bool = False,
    now: datetime | None = None,
) -> tuple[TaskHint, ...] | None:
    """Keeps what was seen, ends the chunk, lets the next one in. enough: what else is open of
    the job is skipped. What to send; None when the claim no longer holds."""
    moment = clock(now)
    with db.begin() as connection:
        held = _lock_parked(connection, claim.job_id)
        if held is None:
            return None
        if enough:
            _lock_open(connection, claim.job_id)
        ended = _change(
            connection, claim, moment, stage=Stage.DONE.value, frames=frames, hashes=hashes
        )
        if not ended:
            return None
        if enough:
            _skip_open(connection, claim.job_id, moment)
        return advance(connection, held, ahead, moment)


def give_back(
    db: Database,
    claim: ChunkClaim,
    *,
    error: str,
    ahead: int,
    max_attempts: int,
    to: Stage | None = None,
    now: datetime | None = None,
) -> tuple[TaskHint, ...]:
    """Gives a chunk back for another attempt, saying what went wrong: after a back-off, or at
    once `to` another stage. Out of attempts, it fails. What to send. Raises StoreError."""
    moment = clock(now)
    stage = claim.stage if to is None else to
    if claim.attempt >= attempts_of(stage, max_attempts):
        return fail(db, claim, error=error, ahead=ahead, now=moment)
    due = moment + backoff(claim.attempt) if to is None else moment
    with db.begin() as connection:
        if not _change(connection, claim, moment, stage=stage.value, due=due, error=error):
            return ()
        return () if to is None else (_hint(connection, claim.job_id, claim.number, stage),)


def fail(
    db: Database, claim: ChunkClaim, *, error: str, ahead: int, now: datetime | None = None
) -> tuple[TaskHint, ...]:
    """Ends a chunk whose moments cannot be seen. What to send. Raises StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        held = _lock_parked(connection, claim.job_id)
        if held is None or not _change(
            connection, claim, moment, stage=Stage.FAILED.value, error=error
        ):
            return ()
        return advance(connection, held, ahead, moment)


def advance(
    connection: Connection, held: OpenJob, ahead: int, now: datetime
) -> tuple[TaskHint, ...]:
    """Lets waiting chunks of a locked job in, up to `ahead`; queues the job when none is left
    open. What to send."""
    query = select(chunk.c.stage, func.count().label("number")).where(chunk.c.job_id == held.id)
    found = {
        row.stage: row.number for row in connection.execute(query.group_by(chunk.c.stage)).all()
    }
    active = sum(found.get(stage.value, 0) for stage in ACTIVE)
    waiting = found.get(Stage.WAITING.value, 0)
    if active + waiting == 0:
        connection.execute(
            update(job)
            .where(job.c.id == held.id)
            .values(state=JobState.QUEUED.value, queued=now, updated=now)
        )
        send_task_again(connection, [held.id], now + HINT_GRACE)
        row = connection.execute(select(job.c.kind, job.c.priority).where(job.c.id == held.id))
        kind, priority = row.one()
        return (TaskHint(held.id, kind, priority),)
    room = ahead - active
    if room <= 0 or waiting == 0:
        return ()
    first = (
        select(chunk.c.number)
        .where(chunk.c.job_id == held.id, chunk.c.stage == Stage.WAITING.value)
        .order_by(chunk.c.number)
        .limit(room)
    )
    numbers = list(connection.execute(first).scalars())
    connection.execute(
        update(chunk)
        .where(chunk.c.job_id == held.id, chunk.c.number.in_(numbers))
        .values(stage=Stage.READ.value, due=now, updated=now)
    )
    return tuple(_hint(connection, held.id, number, Stage.READ) for number in numbers)


def open_counts(db: Database) -> dict[str, int]:
    """How many chunks are at each stage that is not the last, over all tenants."""
    query = select(chunk.c.stage, func.count().label("number")).where(_open())
    with db.connect() as connection:
        rows = connection.execute(query.group_by(chunk.c.stage)).all()
    found = {row.stage: row.number for row in rows}
    return {stage.value: found.get(stage.value, 0) for stage in OPEN}


def packs_in_use(db: Database) -> set[tuple[str, int]]:
    """(job, number) of every chunk whose pack may be being written or read."""
    query = select(chunk.c.job_id, chunk.c.number).where(
        chunk.c.stage.in_([stage.value for stage in ACTIVE])
    )
    with db.connect() as connection:
        return {(row.job_id, row.number) for row in connection.execute(query)}


def expired(now: datetime) -> ColumnElement[bool]:
    """Its worker went silent."""
    return and_(chunk.c.stage.in_([stage.value for stage in ACTIVE]), chunk.c.lease_until < now)


def attempts_of(stage: Stage, max_attempts: int) -> int:
    """How often a chunk may have been claimed by the end of a stage: a chunk that was read at
    its last attempt is still to be scored."""
    return max_attempts + (1 if stage is Stage.SCORE else 0)


def backoff(attempt: int) -> timedelta:
    return timedelta(seconds=min(BACKOFF_CAP_S, BACKOFF_S * 2 ** (attempt - 1)))


def _works_on(now: datetime) -> Sequence[ColumnElement[bool]]:
    """The job wants its chunks worked on."""
    return (
        parked(),
        job.c.cancel_requested.is_(False),
        or_(job.c.deadline.is_(None), job.c.deadline > now),
    )


def _free(now: datetime) -> ColumnElement[bool]:
    return or_(chunk.c.owner.is_(None), chunk.c.lease_until < now)


def _lock_parked(connection: Connection, job_id: str) -> OpenJob | None:
    return lock_job(connection, job.c.id == job_id, parked())


def _change(connection: Connection, claim: ChunkClaim, now: datetime, **values: Any) -> bool:
    """Writes, and lets go of the chunk, if the claim still holds."""
    changed = connection.execute(
        update(chunk)
        .where(
            chunk.c.job_id == claim.job_id,
            chunk.c.number == claim.number,
            chunk.c.stage == claim.stage.value,
            chunk.c.owner == claim.owner,
            chunk.c.attempt == claim.attempt,
        )
        .values(owner=None, lease_until=None, updated=now, **values)
    )
    return changed.rowcount == 1


def _lock_open(connection: Connection, job_id: str) -> None:
    """In the order of their numbers, as everybody does who takes more than one."""
    query = select(chunk.c.number).where(chunk.c.job_id == job_id, _open())
    connection.execute(query.order_by(chunk.c.number).with_for_update()).all()


def _skip_open(connection: Connection, job_id: str, now: datetime) -> None:
    connection.execute(
        update(chunk)
        .where(chunk.c.job_id == job_id, _open())
        .values(stage=Stage.SKIPPED.value, owner=None, lease_until=None, updated=now)
    )


def _open() -> ColumnElement[bool]:
    return chunk.c.stage.in_([stage.value for stage in OPEN])


def _hint(connection: Connection, job_id: str, number: int, stage: Stage) -> TaskHint:
    query = select(job.c.priority).where(job.c.id == job_id)
    return TaskHint(chunk_name(job_id, number), stage.value, connection.execute(query).scalar_one())
