"""The parts of a video job, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import zlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from moderation.aggregate import Frame
from moderation.store import chunks, films, items, jobs
from moderation.store.chunks import ChunkClaim, Stage
from moderation.store.engine import Database
from moderation.store.films import ChunkRow, NewChunk
from moderation.store.frames import (
    Asks,
    Hash,
    Looked,
    dump_asks,
    dump_hashes,
    dump_looked,
    load_asks,
    load_hashes,
    load_looked,
)
from moderation.store.records import JobState, NewItem, NewMedia, TaskHint, VideoOptions
from moderation.store.tables import chunk
from moderation.types import Decision, InputKey, LabelScore, Status, Window
from tests.contract.store_data import NOW, POLICY, result_for, together

FILM: dict[str, Any] = {"info": {"codec": "h264"}, "gap_s": 2.5}
LEASE_S = 15.0


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def submit(db: Database, name: str = "a", **changes: Any) -> str:
    media = NewMedia(name.ljust(64, "0"), 9, "mp4", f"default/{name}", kind="video")
    values: dict[str, Any] = {"tenant": "default", "media": media, "policy": POLICY}
    return jobs.submit(db, NewItem(**(values | changes)), now=NOW).job_id


def planned(
    db: Database, count: int, *, ahead: int = 4, name: str = "a", first: int = 0, **changes: Any
) -> str:
    """A job that is parked on `count` chunks."""
    job_id = submit(db, name, **changes)
    plan(db, job_id, count, ahead=ahead, first=first)
    return job_id


def plan(
    db: Database, job_id: str, count: int, *, ahead: int = 4, first: int = 0, at: float = 0
) -> films.Planned:
    claim = jobs.claim(db, job_id, "media", LEASE_S, now=later(at))
    assert claim is not None
    parts = [NewChunk(first + n, 10, f"asks {first + n}".encode()) for n in range(count)]
    made = films.plan(db, claim, parts, round_=0, film=FILM, ahead=ahead, now=later(at))
    assert made is not None
    return made


def take(
    db: Database,
    job_id: str,
    number: int,
    stage: Stage,
    owner: str = "w1",
    *,
    at: float = 0,
    max_attempts: int = 5,
) -> ChunkClaim | None:
    return chunks.claim_chunk(
        db, job_id, number, stage, owner, LEASE_S, max_attempts=max_attempts, now=later(at)
    )


def taken(db: Database, job_id: str, number: int, stage: Stage, *, at: float = 0) -> ChunkClaim:
    claim = take(db, job_id, number, stage, at=at)
    assert claim is not None
    return claim


def through(
    db: Database, job_id: str, number: int, *, at: float = 0, enough: bool = False, ahead: int = 4
) -> tuple[TaskHint, ...]:
    """Read and score one chunk; what is to be sent then."""
    assert chunks.read_done(db, taken(db, job_id, number, Stage.READ, at=at), now=later(at))
    scoring = taken(db, job_id, number, Stage.SCORE, at=at)
    hints = chunks.score_done(
        db, scoring, frames=b"f", hashes=b"h", ahead=ahead, enough=enough, now=later(at)
    )
    assert hints is not None
    return hints


def stages(db: Database, job_id: str) -> list[str]:
    return [row.stage.value for row in films.chunks_of(db, job_id)]


def sweep(db: Database, at: float, *, max_attempts: int = 5) -> jobs.SweepResult:
    return jobs.sweep(db, republish_after_s=1000, max_attempts=max_attempts, now=later(at))


class TestPlan:
    def test_a_planned_job_is_parked_and_not_lost(self, db: Database) -> None:
        job_id = planned(db, 2)
        row = jobs.get_job(db, "default", job_id)
        assert (row.state, row.attempt) == (JobState.RUNNING, 0)
        assert jobs.claim(db, job_id, "w9", LEASE_S, now=later(10_000)) is None
        swept = sweep(db, 10_000)
        assert (swept.ended, swept.expired, swept.republish) == ((), 0, ())

    def test_so_many_chunks_are_let_in(self, db: Database) -> None:
        made = plan(db, job_id := submit(db, priority=3), 6, ahead=2)
        assert made.state is JobState.RUNNING
        assert made.hints == tuple(TaskHint(f"{job_id}/{n}", "read", 3) for n in range(2))
        assert stages(db, job_id) == ["read", "read", *["waiting"] * 4]

    def test_what_was_kept_comes_back_with_the_next_claim(self, db: Database) -> None:
        options = VideoOptions(interval_s=0.5, stop_on=Decision.BLOCK)
        job_id = planned(db, 1, video=options)
        through(db, job_id, 0)
        claim = jobs.claim(db, job_id, "media", LEASE_S, now=later(1))
        assert claim is not None
        assert (claim.film, claim.video, claim.attempt) == (FILM, options, 1)
        assert films.chunks_of(db, job_id) == (ChunkRow(0, 0, Stage.DONE, b"asks 0", b"f", b"h"),)

    def test_a_lost_claim_plans_nothing(self, db: Database) -> None:
        claim = jobs.claim(db, job_id := submit(db), "slow", LEASE_S, now=NOW)
        assert claim is not None
        assert jobs.claim(db, job_id, "fast", LEASE_S, now=later(16)) is not None
        part = NewChunk(0, 1, b"")
        lost = films.plan(db, claim, [part], round_=0, film=FILM, ahead=4, now=later(17))
        assert lost is None
        assert films.chunks_of(db, job_id) == ()

    def test_a_round_of_nothing_goes_on_at_once(self, db: Database) -> None:
        made = plan(db, job_id := submit(db), 0)
        assert made.hints == (TaskHint(job_id, "video", 0),)
        assert jobs.get_job(db, "default", job_id).state is JobState.QUEUED


class TestClaim:
    def test_it_carries_all_that_the_worker_needs(self, db: Database) -> None:
        job_id = planned(db, 1, video=VideoOptions(stop_on=Decision.REVIEW))
        claim = taken(db, job_id, 0, Stage.READ)
        assert (claim.attempt, claim.owner, claim.asks) == (1, "w1", b"asks 0")
        assert (claim.media.blob_key, claim.media.kind) == ("default/a", "video")
        assert (claim.policy, claim.film) == (POLICY, FILM)
        assert claim.video.stop_on is Decision.REVIEW
        assert claim.name == f"{job_id}/0"

    def test_only_one_gets_it(self, db: Database) -> None:
        job_id = planned(db, 1)
        won = together(lambda n: take(db, job_id, 0, Stage.READ, f"w{n}"))
        assert len([claim for claim in won if claim is not None]) == 1

    @pytest.mark.parametrize(
        ("number", "stage"), [(0, Stage.SCORE), (1, Stage.READ), (7, Stage.READ)]
    )
    def test_not_at_another_stage(self, db: Database, number: int, stage: Stage) -> None:
        job_id = planned(db, 2, ahead=1)
        assert take(db, job_id, number, stage) is None

    def test_not_past_the_deadline_nor_of_a_job_that_ended(self, db: Database) -> None:
        overdue = planned(db, 1, deadline=later(60))
        assert take(db, overdue, 0, Stage.READ, at=61) is None
        gone = planned(db, 1, name="b")
        jobs.cancel(db, "default", gone, now=later(1))
        assert take(db, gone, 0, Stage.READ) is None

    def test_the_urgent_and_then_the_one_that_waited_longest_come_first(self, db: Database) -> None:
        usual, urgent = planned(db, 2), planned(db, 1, name="b", priority=5)
        order = []
        while (found := chunks.candidate(db, Stage.READ, max_attempts=5, now=later(1))) is not None:
            order.append((found.job_id, found.number))
            assert take(db, found.job_id, found.number, Stage.READ, at=1) is not None
        assert order == [(urgent, 0), (usual, 0), (usual, 1)]

    def test_those_in_hand_are_left_out(self, db: Database) -> None:
        job_id = planned(db, 2)
        busy = [f"{job_id}/0", job_id, "job_other/7"]
        found = chunks.candidate(db, Stage.READ, max_attempts=5, without=busy, now=later(1))
        assert found is not None
        assert found.name == f"{job_id}/1"


class TestEnds:
    def test_each_end_lets_the_next_one_in_and_the_last_brings_the_job_on(
        self, db: Database
    ) -> None:
        job_id = planned(db, 3, ahead=1)
        assert through(db, job_id, 0, ahead=1) == (TaskHint(f"{job_id}/1", "read", 0),)
        assert through(db, job_id, 1, ahead=1) == (TaskHint(f"{job_id}/2", "read", 0),)
        assert through(db, job_id, 2, ahead=1) == (TaskHint(job_id, "video", 0),)
        assert jobs.get_job(db, "default", job_id).state is JobState.QUEUED
        step = films.next_step(db, at_once=1, max_attempts=5, now=later(1))
        assert step is not None
        assert step.job_id == job_id
        # Whoever ended the last one was to send the message; the sweeper does it otherwise.
        assert sweep(db, 1).republish == ()
        assert sweep(db, 3).republish == (TaskHint(job_id, "video", 0),)

    def test_of_many_that_end_at_once_one_is_the_last(self, db: Database) -> None:
        job_id = planned(db, 8, ahead=8)
        claims = []
        for number in range(8):
            chunks.read_done(db, taken(db, job_id, number, Stage.READ), now=NOW)
            claims.append(taken(db, job_id, number, Stage.SCORE))
        told = together(
            lambda n: chunks.score_done(db, claims[n], frames=b"", hashes=b"", ahead=8, now=NOW)
        )
        assert [hints for hints in told if hints] == [(TaskHint(job_id, "video", 0),)]

    def test_a_worker_that_lost_its_chunk_writes_nothing(self, db: Database) -> None:
        job_id = planned(db, 1)
        slow = taken(db, job_id, 0, Stage.READ)
        fast = take(db, job_id, 0, Stage.READ, "w2", at=16)
        assert fast is not None
        assert fast.attempt == 2
        assert chunks.read_done(db, slow, now=later(17)) is None
        assert chunks.read_done(db, fast, now=later(17)) is not None
        assert chunks.read_done(db, fast, now=later(18)) is None, "sent twice"
        scoring = taken(db, job_id, 0, Stage.SCORE, at=18)
        assert chunks.fail(db, fast, error="late", ahead=4, now=later(19)) == ()
        first = chunks.score_done(db, scoring, frames=b"1", hashes=b"", ahead=4, now=later(19))
        again = chunks.score_done(db, scoring, frames=b"2", hashes=b"", ahead=4, now=later(19))
        assert (first is None, again) == (False, None)
        assert films.chunks_of(db, job_id)[0].frames == b"1"

    def test_enough_skips_what_is_open(self, db: Database) -> None:
        job_id = planned(db, 4, ahead=3)
        busy = taken(db, job_id, 2, Stage.READ)
        hints = through(db, job_id, 0, enough=True)
        assert hints == (TaskHint(job_id, "video", 0),)
        assert stages(db, job_id) == ["done", "skipped", "skipped", "skipped"]
        assert chunks.read_done(db, busy, now=later(1)) is None

    def test_the_chunks_go_with_their_job(self, db: Database) -> None:
        job_id = planned(db, 1)
        through(db, job_id, 0)
        claim = jobs.claim(db, job_id, "media", LEASE_S, now=later(1))
        assert claim is not None
        assert jobs.finish(db, claim, result_for(claim), now=later(2))
        with db.connect() as connection:
            assert connection.execute(select(func.count()).select_from(chunk)).scalar_one() == 0


class TestFailures:
    def test_a_chunk_given_back_waits_and_fails_in_the_end(self, db: Database) -> None:
        job_id = planned(db, 1)
        first = taken(db, job_id, 0, Stage.READ)
        back = {"error": "disk full", "ahead": 4, "max_attempts": 2}
        assert chunks.give_back(db, first, **back, now=NOW) == ()
        assert chunks.candidate(db, Stage.READ, max_attempts=5, now=later(0.5)) is None
        assert chunks.candidate(db, Stage.READ, max_attempts=5, now=later(1)) is not None
        second = taken(db, job_id, 0, Stage.READ, at=2)
        assert chunks.give_back(db, second, **back, now=later(2)) == (TaskHint(job_id, "video", 0),)
        assert stages(db, job_id) == ["failed"]

    def test_a_lost_pack_is_read_again_at_once_but_not_for_ever(self, db: Database) -> None:
        job_id = planned(db, 1)
        for at in range(2):
            chunks.read_done(db, taken(db, job_id, 0, Stage.READ, at=at), now=later(at))
            scoring = taken(db, job_id, 0, Stage.SCORE, at=at)
            hints = chunks.give_back(
                db,
                scoring,
                error="pack",
                ahead=4,
                max_attempts=4,
                to=Stage.READ,
                now=later(at),
            )
            assert hints
        assert stages(db, job_id) == ["failed"]

    def test_dead_workers_chunks_are_free_at_once(self, db: Database) -> None:
        job_id = planned(db, 2)
        taken(db, job_id, 0, Stage.READ)
        assert jobs.release_owner(db, "w1", now=later(1)) == 1
        again = take(db, job_id, 0, Stage.READ, "w2", at=1)
        assert again is not None
        assert again.attempt == 2

    def test_a_silent_worker_loses_its_chunk_and_a_renewing_one_does_not(
        self, db: Database
    ) -> None:
        job_id = planned(db, 2)
        taken(db, job_id, 0, Stage.READ)
        assert take(db, job_id, 1, Stage.READ, "w2") is not None
        assert jobs.renew(db, "w2", LEASE_S, now=later(10)) == 1
        assert sweep(db, 16).expired == 1
        assert chunks.candidate(db, Stage.READ, max_attempts=5, now=later(16)) is not None
        assert take(db, job_id, 1, Stage.READ, "w3", at=16) is None

    def test_what_nobody_works_on_is_not_renewed_with_the_rest(self, db: Database) -> None:
        job_id = planned(db, 2)
        kept, lost = (taken(db, job_id, n, Stage.READ) for n in range(2))
        step = jobs.claim(db, submit(db, "b"), "w1", LEASE_S, now=NOW)
        assert step is not None
        assert jobs.renew(db, "w1", LEASE_S, only=[kept.name], now=later(10)) == 1
        assert jobs.renew(db, "w1", LEASE_S, only=[], now=later(10)) == 0
        assert sweep(db, 16).expired == 2
        assert take(db, job_id, lost.number, Stage.READ, "w2", at=16) is not None
        assert take(db, job_id, kept.number, Stage.READ, "w2", at=16) is None
        assert jobs.renew(db, "w1", LEASE_S, only=[step.job_id], now=later(17)) == 0

    def test_a_chunk_past_its_jobs_deadline_is_not_renewed(self, db: Database) -> None:
        job_id = planned(db, 1, deadline=later(60))
        taken(db, job_id, 0, Stage.READ)
        assert jobs.renew(db, "w1", LEASE_S, now=later(59)) == 1
        assert jobs.renew(db, "w1", LEASE_S, now=later(61)) == 0

    def test_a_chunk_that_kills_its_workers_fails_and_the_film_goes_on(self, db: Database) -> None:
        job_id = planned(db, 1)
        for at in range(3):
            assert take(db, job_id, 0, Stage.READ, at=at, max_attempts=3) is not None
            jobs.release_owner(db, "w1", now=later(at))
        assert take(db, job_id, 0, Stage.READ, at=4, max_attempts=3) is None
        assert chunks.candidate(db, Stage.READ, max_attempts=3, now=later(4)) is None
        swept = sweep(db, 5, max_attempts=3)
        assert swept.republish == (TaskHint(job_id, "video", 0),)
        assert stages(db, job_id) == ["failed"]
        assert jobs.get_job(db, "default", job_id).state is JobState.QUEUED

    def test_a_parked_job_past_its_deadline_fails_to_review(self, db: Database) -> None:
        job_id = planned(db, 2, deadline=later(60))
        swept = sweep(db, 61)
        assert (swept.ended, swept.overdue) == ((job_id,), 1)
        verdict = items.verdict_of_job(db, job_id)
        assert verdict is not None
        assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
        assert films.chunks_of(db, job_id) == ()

    def test_a_parked_job_is_cancelled_at_once(self, db: Database) -> None:
        job_id = planned(db, 2)
        busy = taken(db, job_id, 0, Stage.READ)
        assert jobs.cancel(db, "default", job_id, now=later(1)).state is JobState.CANCELLED
        assert chunks.read_done(db, busy, now=later(2)) is None
        assert chunks.fail(db, busy, error="x", ahead=4, now=later(2)) == ()

    def test_a_job_called_off_while_it_was_planned_is_cancelled(self, db: Database) -> None:
        claim = jobs.claim(db, job_id := submit(db), "media", LEASE_S, now=NOW)
        assert claim is not None
        jobs.cancel(db, "default", job_id, now=later(1))
        part = NewChunk(0, 1, b"")
        made = films.plan(db, claim, [part], round_=0, film=FILM, ahead=4, now=later(2))
        assert made == films.Planned(JobState.CANCELLED, ())

    def test_cancel_and_ends_at_once_end_the_job_once(self, db: Database) -> None:
        ids = [planned(db, 4, name=f"n{n}") for n in range(6)]
        claims = {job_id: [taken(db, job_id, n, Stage.READ) for n in range(4)] for job_id in ids}

        def act(number: int) -> None:
            for job_id in ids:
                if number == 0:
                    jobs.cancel(db, "default", job_id, now=later(1))
                else:
                    chunks.fail(db, claims[job_id][number - 1], error="x", ahead=4, now=later(1))

        together(act, 5)
        for job_id in ids:
            assert jobs.get_job(db, "default", job_id).state is JobState.CANCELLED
            assert films.chunks_of(db, job_id) == ()


def test_everybody_at_once_blocks_nobody_and_loses_nothing(db: Database) -> None:
    """Workers that die, stop early, renew and sweep over the same films."""
    ids = [planned(db, 12, name=f"n{n}", ahead=6) for n in range(4)]

    def look_for(stage: Stage, owner: str) -> ChunkClaim | None:
        found = chunks.candidate(db, stage, max_attempts=50)
        if found is None:
            return None
        return chunks.claim_chunk(
            db, found.job_id, found.number, stage, owner, LEASE_S, max_attempts=50
        )

    def work(number: int) -> None:
        owner = f"w{number % 4}"
        for turn in range(40):
            reading = look_for(Stage.READ, owner)
            if reading is not None:
                chunks.read_done(db, reading)
            scoring = look_for(Stage.SCORE, owner)
            if scoring is not None:
                enough = scoring.job_id == ids[0] and turn > 2
                chunks.score_done(db, scoring, frames=b"", hashes=b"", ahead=6, enough=enough)
            if turn % 7 == number % 7:
                jobs.release_owner(db, owner)
            if turn % 5 == number % 5:
                jobs.renew(db, owner, LEASE_S)
            if turn % 10 == number:
                jobs.sweep(db, republish_after_s=1000, max_attempts=50)

    together(work)
    for job_id in ids:
        row = jobs.get_job(db, "default", job_id)
        assert row.state is JobState.QUEUED
        assert {part.stage for part in films.chunks_of(db, job_id)} <= {Stage.DONE, Stage.SKIPPED}


class TestNextStep:
    def test_no_more_are_begun_than_may_be_under_way(self, db: Database) -> None:
        first = planned(db, 1)
        second = submit(db, "b")
        assert films.next_step(db, at_once=1, max_attempts=5, now=later(1)) is None
        step = films.next_step(db, at_once=2, max_attempts=5, now=later(1))
        assert step is not None
        assert step.job_id == second
        through(db, first, 0, at=2)
        assert jobs.claim(db, second, "media", LEASE_S, now=later(2)) is not None
        step = films.next_step(db, at_once=1, max_attempts=5, now=later(3))
        assert step is not None
        assert step.job_id == first, "what was begun goes on"

    def test_those_in_hand_are_left_out(self, db: Database) -> None:
        first, second = submit(db), submit(db, "b")
        for busy, expected in (([], first), ([first], second), ([first, second], None)):
            step = films.next_step(db, at_once=9, max_attempts=5, without=busy, now=later(1))
            assert (None if step is None else step.job_id) == expected

    def test_one_that_follows_another_waits_for_it(self, db: Database) -> None:
        submit(db)
        media = NewMedia("a".ljust(64, "0"), 9, "mp4", "default/a", kind="video")
        again = jobs.submit(
            db, NewItem("default", media, POLICY), dedupe_models=("m@1",), now=later(1)
        )
        assert again.follows
        planned_ = films.next_step(db, at_once=9, max_attempts=5, now=later(2))
        assert planned_ is not None
        assert planned_.job_id != again.job_id
        busy = [planned_.job_id]
        assert films.next_step(db, at_once=9, max_attempts=5, without=busy, now=later(2)) is None

    def test_a_job_given_back_waits(self, db: Database) -> None:
        claim = jobs.claim(db, submit(db), "media", LEASE_S, now=NOW)
        assert claim is not None
        jobs.release(db, claim, error="store away", max_attempts=5, now=NOW)
        assert films.next_step(db, at_once=1, max_attempts=5, now=later(0.5)) is None
        assert films.next_step(db, at_once=1, max_attempts=5, now=later(1)) is not None


def test_progress(db: Database) -> None:
    job_id = submit(db)

    def told(at: float) -> films.Progress | None:
        return films.progress(db, jobs.get_job(db, "default", job_id), now=later(at))

    assert told(0) == films.Progress(0, 0, None)
    plan(db, job_id, 4)
    assert told(1) == films.Progress(0, 40, None)
    through(db, job_id, 0, at=5)
    found = told(10)
    assert found == films.Progress(10, 40, 30.0)
    assert found is not None
    assert found.fraction == 0.25
    early = jobs.get_job(db, "default", job_id)
    for number in range(1, 4):
        through(db, job_id, number, at=5)
    claim = jobs.claim(db, job_id, "media", LEASE_S, now=later(6))
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim), now=later(7))
    assert told(12) == films.Progress(2, 2, 0.0), "as many as there are scores of"
    assert films.progress(db, early, now=later(12)) == told(12), "it ended between two looks"
    gone = planned(db, 1, name="b")
    jobs.cancel(db, "default", gone, now=later(11))
    assert films.progress(db, jobs.get_job(db, "default", gone)) is None


def test_open_chunks_are_counted_by_stage(db: Database) -> None:
    assert chunks.open_counts(db) == {"waiting": 0, "read": 0, "score": 0}
    job_id = planned(db, 4, ahead=2)
    chunks.read_done(db, taken(db, job_id, 0, Stage.READ), now=NOW)
    assert chunks.open_counts(db) == {"waiting": 2, "read": 1, "score": 1}
    through(db, job_id, 1, ahead=2)
    assert chunks.open_counts(db) == {"waiting": 1, "read": 1, "score": 1}


def test_packs_in_use_are_those_of_chunks_under_way(db: Database) -> None:
    job_id = planned(db, 3, ahead=2)
    assert chunks.packs_in_use(db) == {(job_id, 0), (job_id, 1)}
    through(db, job_id, 0)
    assert chunks.packs_in_use(db) == {(job_id, 1), (job_id, 2)}


def test_frames_survive_exactly() -> None:
    box = (0.1, 0.2, 0.3, 1 / 3, 0.9)
    peaks = {
        "a.b": LabelScore("a.b", 1 / 3, "m@1+n@2", "gun", (0, 3), (box,)),
        "c.d": LabelScore("c.d", 0.0, "m@1"),
    }
    frames = (
        Frame(0.1 + 0.2, peaks, 0.29, shared=True, views=2, picture="5e" * 32),
        Frame(7.0, None),
        Frame(8.0, {}),
    )
    looked = load_looked(dump_looked(Looked(frames, ("m@1", "n@2"), "cpu: x")))
    assert (looked.models, looked.device) == (("m@1", "n@2"), "cpu: x")
    for got, put in zip(looked.frames, frames, strict=True):
        assert (got.time_s, got.peaks, got.shown_s) == (put.time_s, put.peaks, put.shown_s)
        assert (got.shared, got.views, got.picture) == (put.shared, put.views, put.picture)


def test_frames_of_before_an_upgrade_are_read() -> None:
    rows = [[1.0, 0.9, False, 1, []], [2.0, None, False, 1, None]]
    told = {"models": ["m@1"], "device": "cpu", "frames": rows}
    first, second = load_looked(zlib.compress(json.dumps(told).encode())).frames
    assert (first.time_s, first.shown_s, first.peaks, first.picture) == (1.0, 0.9, {}, None)
    assert (second.time_s, second.peaks) == (2.0, None)


def test_asks_and_hashes_survive_exactly() -> None:
    asks = Asks(((0.1 + 0.2, 0.28), (1 / 3, 1 / 3)), 0.28, exact=True)
    assert load_asks(dump_asks(asks)) == asks
    assert asks.moments == asks.asks
    window = Window(InputKey(112, 96, "stretch", "bicubic"), 3, 1 / 3, every_s=2.7)
    six = tuple((i / 3, i / 7) for i in range(6))
    windows = Asks(six, 0.28, exact=True, window=window)
    assert load_asks(dump_asks(windows)) == windows
    assert windows.moments == (six[1], six[4])
    hashes = (Hash(1 / 3, "ab" * 32, 77),)
    assert load_hashes(dump_hashes(hashes)) == hashes
