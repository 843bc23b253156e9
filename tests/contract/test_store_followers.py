"""One analysis for videos that come while it runs, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from moderation.store import items, jobs
from moderation.store.engine import Database
from moderation.store.records import Finished, JobState, NewItem, Submission, VideoOptions
from moderation.store.sweep import SweepResult
from moderation.types import Decision, Status
from tests.contract.store_data import MODELS, NOW, new_item, together, verdict_for

OPTIONS = VideoOptions(mode="interval", interval_s=0.1, stop_on=Decision.BLOCK)


def film(**changes: object) -> NewItem:
    new = new_item("film", **({"video": OPTIONS} | changes))
    return replace(new, media=replace(new.media, kind="video"))


def submit(db: Database, **changes: object) -> Submission:
    return jobs.submit(db, film(**changes), dedupe_models=MODELS, now=NOW)


def end(db: Database, job_id: str, status: Status = Status.DONE) -> None:
    claim = jobs.claim(db, job_id, "w", 30.0, now=NOW)
    assert claim is not None
    assert jobs.finish(db, claim, Finished(verdict_for(claim, status=status)), now=NOW)


def sweep(db: Database, minutes: int = 0) -> SweepResult:
    later = NOW + timedelta(minutes=minutes)
    return jobs.sweep(db, republish_after_s=0.0, max_attempts=5, now=later)


def state(db: Database, submission: Submission) -> JobState:
    return jobs.get_job(db, "default", submission.job_id).state


def test_a_follower_is_not_published_and_has_its_leaders_verdict(db: Database) -> None:
    first, second = submit(db), submit(db, data_id="two", callback_url="https://a.example/")
    assert (first.follows, second.follows) == (False, True)
    hints = sweep(db, minutes=5).republish
    assert [hint.job_id for hint in hints] == [first.job_id]
    end(db, first.job_id)
    assert sweep(db).ended == (second.job_id,)
    verdict = items.verdict_of_job(db, second.job_id)
    assert verdict is not None
    assert (verdict.id, verdict.decided_by) == (second.item_id, "duplicate")
    assert verdict.data_id == "two"
    assert state(db, second) is JobState.DONE
    assert sweep(db).ended == ()


def test_only_the_very_same_is_followed(db: Database) -> None:
    submit(db)
    assert not submit(db, video=replace(OPTIONS, interval_s=0.2)).follows
    assert not submit(db, video=VideoOptions()).follows
    assert not submit(db, tenant="other").follows
    assert not jobs.submit(db, film(), now=NOW).follows, "it wants an analysis of its own"
    assert submit(db).follows
    picture = new_item("picture")
    assert not jobs.submit(db, picture, dedupe_models=MODELS, now=NOW).follows
    assert not jobs.submit(db, picture, dedupe_models=MODELS, now=NOW).follows


def test_options_are_part_of_what_is_known(db: Database) -> None:
    end(db, submit(db).job_id)
    assert submit(db).verdict is not None
    assert submit(db, video=VideoOptions()).verdict is None
    assert submit(db, video=None).verdict is None


def test_after_a_failure_one_follower_leads_the_others(db: Database) -> None:
    first, second, third = (submit(db) for _ in range(3))
    end(db, first.job_id, Status.FAILED)
    swept = sweep(db)
    assert swept.ended == ()
    assert [(hint.job_id, hint.kind) for hint in swept.republish] == [(second.job_id, "video")]
    assert submit(db).follows
    end(db, second.job_id)
    assert third.job_id in sweep(db).ended


def test_a_follower_past_its_deadline_ends_by_itself(db: Database) -> None:
    submit(db)
    second = submit(db, deadline=NOW + timedelta(minutes=1))
    assert sweep(db, minutes=2).ended == (second.job_id,)
    assert state(db, second) is JobState.FAILED


def test_of_many_at_once_one_is_looked_at(db: Database) -> None:
    made = together(lambda _: submit(db))
    assert sum(not one.follows for one in made) == 1
    [leader] = [one for one in made if not one.follows]
    end(db, leader.job_id)
    together(lambda _: sweep(db), threads=3)
    assert all(state(db, one) is JobState.DONE for one in made)
