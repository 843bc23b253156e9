"""One analysis for videos that come while it runs, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import delete

from moderation.store import films, items, jobs
from moderation.store.engine import Database
from moderation.store.followers import HELD
from moderation.store.records import Finished, JobState, NewItem, Submission, VideoOptions
from moderation.store.sweep import SweepResult
from moderation.store.tables import job, outbox
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


def test_after_a_leader_that_is_gone_one_follower_leads_the_others(db: Database) -> None:
    """As when it is deleted at the moment at which somebody begins to follow it."""
    first, second, third = (submit(db) for _ in range(3))
    with db.begin() as connection:
        connection.execute(delete(outbox).where(outbox.c.job_id == first.job_id))
        connection.execute(delete(job).where(job.c.id == first.job_id))
    swept = sweep(db)
    assert [(hint.job_id, hint.kind) for hint in swept.republish] == [(second.job_id, "video")]
    end(db, second.job_id)
    assert third.job_id in sweep(db).ended


def test_to_find_what_to_follow_costs_the_same_among_many(db: Database) -> None:
    """A submission reads the jobs on its own bytes, not all that its policy has judged; and what
    is next is not asked of each follower by itself."""
    if db.dialect != "sqlite":
        pytest.skip("the plans are SQLite's")
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, words: str, values: Any, *_: Any) -> None:
        if "FROM job" in words and HELD in values:
            asked.append((words, values))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        submit(db)
        films.next_step(db, at_once=2, max_attempts=3, now=NOW)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    leader, following = (plan(db, *one) for one in asked)
    assert "SEARCH job USING INDEX ix_job_policy_version_item_id" in leader
    assert "(policy_version=? AND item_id=?)" in leader
    assert "CORRELATED" not in leader + following
    assert "LIST SUBQUERY" in following


def plan(db: Database, words: str, values: Any) -> str:
    with db.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values)
        return "\n".join(row[3] for row in rows)


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
