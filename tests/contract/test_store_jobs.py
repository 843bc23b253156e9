"""The life cycle of a job, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import func, select

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy, Rule
from moderation.store import events, items, jobs, outbox
from moderation.store.codec import unpack_f16
from moderation.store.engine import Database
from moderation.store.records import Claim, JobState
from moderation.store.tables import audit, embedding, media, policy_version
from moderation.types import Decision, Status
from tests.contract.store_data import (
    LABELS,
    MODELS,
    NOW,
    POLICY,
    new_item,
    result_for,
    together,
)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def claimed(db: Database, job_id: str, owner: str = "w1", *, at: float = 0) -> Claim:
    claim = jobs.claim(db, job_id, owner, 15, now=later(at))
    assert claim is not None
    return claim


def test_a_submission_is_queued_and_can_be_read(db: Database) -> None:
    new = new_item(source="a.jpg", data_id="d1", priority=3)
    sub = jobs.submit(db, new, now=NOW)
    assert (sub.state, sub.verdict, sub.replayed) == (JobState.QUEUED, None, False)
    job = jobs.get_job(db, "default", sub.job_id)
    assert (job.state, job.attempt, job.kind) == (JobState.QUEUED, 0, "image")
    assert (job.created, job.policy, job.item_id) == (NOW, "default@1", sub.item_id)
    item = items.get_item(db, "default", sub.item_id)
    assert (item.job_id, item.state, item.verdict) == (sub.job_id, JobState.QUEUED, None)
    assert (item.source, item.data_id, item.sha256) == ("a.jpg", "d1", new.media.sha256)
    assert (item.format, item.size, item.width) == ("jpeg", 1234, None)


def test_a_claim_carries_all_that_the_worker_needs(db: Database) -> None:
    new = new_item(source="a.jpg", data_id="d1", callback_url="https://h.example/x")
    sub = jobs.submit(db, new, now=NOW)
    claim = claimed(db, sub.job_id, at=2.5)
    assert (claim.job_id, claim.item_id, claim.tenant) == (sub.job_id, sub.item_id, "default")
    assert (claim.attempt, claim.owner, claim.created) == (1, "w1", NOW)
    assert claim.queued_ms == pytest.approx(2500)
    assert claim.media == new.media
    assert claim.policy == POLICY
    assert (claim.source, claim.data_id) == ("a.jpg", "d1")
    assert claim.callback_url == "https://h.example/x"
    job = jobs.get_job(db, "default", sub.job_id)
    assert (job.state, job.attempt) == (JobState.RUNNING, 1)


def test_a_second_claim_finds_nothing(db: Database) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    claimed(db, sub.job_id)
    assert jobs.claim(db, sub.job_id, "w2", 15, now=later(14)) is None
    assert jobs.claim(db, "job_unknown", "w2", 15, now=NOW) is None


def test_finish_writes_everything_once(db: Database) -> None:
    sub = jobs.submit(db, new_item(callback_url="https://h.example/x"), now=NOW)
    claim = claimed(db, sub.job_id)
    result = result_for(claim)
    assert jobs.finish(db, claim, result, now=later(1)) is True
    assert jobs.finish(db, claim, result, now=later(2)) is False

    assert jobs.get_job(db, "default", sub.job_id).state is JobState.DONE
    item = items.get_item(db, "default", sub.item_id)
    assert item.verdict == result.verdict
    assert (item.width, item.height) == (640, 480)
    assert items.history(db, "default", sub.item_id) == [result.verdict]
    assert items.verdict_of_job(db, sub.job_id) == result.verdict

    (packed,) = items.scores_of_job(db, "default", sub.job_id)
    assert (packed.labels, packed.models) == (LABELS, tuple(sorted(MODELS)))
    assert result.scores is not None
    np.testing.assert_array_equal(packed.values, result.scores.values)
    np.testing.assert_array_equal(packed.times, result.scores.times)
    with db.connect() as connection:
        (row,) = connection.execute(select(embedding)).mappings().all()
        assert connection.execute(select(media.c.pdq)).scalar_one() == "ab" * 32
    assert row["encoder"] == "lite0@1"
    assert result.embedding is not None
    np.testing.assert_array_equal(unpack_f16(row["vector"]), result.embedding)

    (callback,) = outbox.due_callbacks(db, 10, now=later(1))
    assert callback.target == "https://h.example/x"
    assert callback.payload == {
        "type": "item.decided",
        "timestamp": "2026-03-01T12:00:01.000Z",
        "data": result.verdict.to_json(),
    }
    kinds = [(e.kind, e.item_id) for e in events.after(db, "default", 0)]
    assert kinds == [("item.queued", sub.item_id), ("item.decided", sub.item_id)]


def test_a_failed_verdict_ends_the_job_failed(db: Database) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    claim = claimed(db, sub.job_id)
    assert jobs.finish(db, claim, result_for(claim, status=Status.FAILED), now=NOW)
    assert jobs.get_job(db, "default", sub.job_id).state is JobState.FAILED


def test_the_verdict_of_another_item_is_refused(db: Database) -> None:
    one, two = (jobs.submit(db, new_item(n), now=NOW) for n in (1, 2))
    first, second = claimed(db, one.job_id), claimed(db, two.job_id)
    with pytest.raises(ValueError, match=second.item_id):
        jobs.finish(db, first, result_for(second))
    assert jobs.get_job(db, "default", one.job_id).state is JobState.RUNNING


def test_a_worker_that_lost_its_lease_writes_nothing(db: Database) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    slow = claimed(db, sub.job_id, "slow")
    fast = claimed(db, sub.job_id, "fast", at=16)
    assert fast.attempt == 2
    assert jobs.finish(db, slow, result_for(slow, Decision.BLOCK), now=later(17)) is False
    assert items.history(db, "default", sub.item_id) == []
    assert items.scores_of_job(db, "default", sub.job_id) == []
    assert jobs.release(db, slow, error="late", max_attempts=1, now=later(17)) is JobState.RUNNING
    assert jobs.finish(db, fast, result_for(fast, Decision.PASS), now=later(18)) is True
    (verdict,) = items.history(db, "default", sub.item_id)
    assert verdict.decision is Decision.PASS


def test_renewed_leases_do_not_expire(db: Database) -> None:
    subs = [jobs.submit(db, new_item(n), now=NOW) for n in range(3)]
    for sub in subs[:2]:
        claimed(db, sub.job_id)
    claimed(db, subs[2].job_id, "w2")
    assert jobs.renew(db, "w1", 15, now=later(10)) == 2
    result = jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(20))
    assert result.expired == 1
    states = [jobs.get_job(db, "default", sub.job_id).state for sub in subs]
    assert states == [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED]


def test_a_job_past_its_deadline_is_not_renewed(db: Database) -> None:
    hanging = jobs.submit(db, new_item("hangs", deadline=later(60)), now=NOW)
    claimed(db, hanging.job_id)
    assert jobs.renew(db, "w1", 15, now=later(59)) == 1
    assert jobs.renew(db, "w1", 15, now=later(61)) == 0
    assert jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(73)).ended == ()
    swept = jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(75))
    assert (swept.ended, swept.overdue) == ((hanging.job_id,), 1)
    verdict = items.verdict_of_job(db, hanging.job_id)
    assert verdict is not None
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)


def test_release_queues_again_after_a_back_off_until_attempts_are_used_up(db: Database) -> None:
    sub = jobs.submit(db, new_item(callback_url="https://h.example/x"), now=NOW)
    outbox.task_sent(db, sub.job_id, now=NOW)
    first = claimed(db, sub.job_id)
    assert jobs.release(db, first, error="boom", max_attempts=2, now=NOW) is JobState.QUEUED
    assert jobs.get_job(db, "default", sub.job_id).error == "boom"

    def to_publish(at: float) -> list[str]:
        swept = jobs.sweep(db, republish_after_s=100, max_attempts=2, now=later(at))
        return [hint.job_id for hint in swept.republish]

    assert to_publish(0.5) == []
    assert to_publish(1.1) == [sub.job_id]
    second = claimed(db, sub.job_id, at=2)
    assert jobs.release(db, second, error="bang", max_attempts=2, now=later(3)) is JobState.FAILED
    verdict = items.verdict_of_job(db, sub.job_id)
    assert verdict is not None
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
    assert verdict.error is not None
    assert verdict.error.code == "attempts_exhausted"
    assert not verdict.coverage.complete
    assert len(outbox.due_callbacks(db, 10, now=later(3))) == 1
    assert to_publish(1000) == []


def test_a_dead_workers_jobs_are_queued_at_once(db: Database) -> None:
    subs = [jobs.submit(db, new_item(n), now=NOW) for n in range(3)]
    claims = [claimed(db, sub.job_id, "dead") for sub in subs[:2]]
    claimed(db, subs[2].job_id, "alive")
    assert jobs.release_owner(db, "dead", now=later(1)) == 2
    swept = jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(1))
    assert {hint.job_id for hint in swept.republish} == {sub.job_id for sub in subs[:2]}
    assert not jobs.finish(db, claims[0], result_for(claims[0]), now=later(2))
    assert claimed(db, subs[0].job_id, "w2", at=2).attempt == 2


def test_a_queued_job_is_cancelled_at_once(db: Database) -> None:
    sub = jobs.submit(db, new_item(callback_url="https://h.example/x"), now=NOW)
    row = jobs.cancel(db, "default", sub.job_id, actor="key_1", now=later(1))
    assert (row.state, row.cancel_requested) == (JobState.CANCELLED, True)
    verdict = items.verdict_of_job(db, sub.job_id)
    assert verdict is not None
    assert (verdict.status, verdict.decision) == (Status.CANCELLED, Decision.REVIEW)
    assert jobs.claim(db, sub.job_id, "w1", 15, now=later(2)) is None
    assert jobs.cancel(db, "default", sub.job_id, now=later(3)).state is JobState.CANCELLED
    assert len(outbox.due_callbacks(db, 10, now=later(4))) == 1
    with db.connect() as connection:
        notes = connection.execute(select(audit.c.actor, audit.c.action, audit.c.target)).all()
    assert [tuple(note) for note in notes] == [("key_1", "job.cancel", sub.job_id)]


def test_a_running_job_is_cancelled_when_its_worker_is_through(db: Database) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    claim = claimed(db, sub.job_id)
    row = jobs.cancel(db, "default", sub.job_id, now=later(1))
    assert (row.state, row.cancel_requested) == (JobState.RUNNING, True)
    assert jobs.finish(db, claim, result_for(claim, Decision.PASS), now=later(2)) is True
    assert jobs.get_job(db, "default", sub.job_id).state is JobState.CANCELLED
    (verdict,) = items.history(db, "default", sub.item_id)
    assert (verdict.status, verdict.decision) == (Status.CANCELLED, Decision.REVIEW)


@pytest.mark.parametrize("lost_by", ["lease", "release_owner", "release"])
def test_a_cancelled_job_whose_worker_is_lost_ends_cancelled(db: Database, lost_by: str) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    claim = claimed(db, sub.job_id)
    jobs.cancel(db, "default", sub.job_id, now=later(1))
    if lost_by == "release_owner":
        assert jobs.release_owner(db, "w1", now=later(2)) == 1
    if lost_by == "release":
        jobs.release(db, claim, error="stopping", max_attempts=5, now=later(2))
    swept = jobs.sweep(db, republish_after_s=1, max_attempts=5, now=later(20))
    assert swept.republish == ()
    assert jobs.get_job(db, "default", sub.job_id).state is JobState.CANCELLED
    assert len(items.history(db, "default", sub.item_id)) == 1


def test_jobs_of_another_tenant_do_not_exist(db: Database) -> None:
    sub = jobs.submit(db, new_item(), now=NOW)
    for call in (
        lambda: jobs.get_job(db, "other", sub.job_id),
        lambda: jobs.cancel(db, "other", sub.job_id),
        lambda: items.get_item(db, "other", sub.item_id),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert items.history(db, "other", sub.item_id) == []
    assert jobs.get_job(db, "default", sub.job_id).state is JobState.QUEUED


def test_same_bytes_share_one_medium_per_tenant(db: Database) -> None:
    for tenant in ("default", "default", "other"):
        jobs.submit(db, new_item(tenant=tenant), now=NOW)
    with db.connect() as connection:
        rows = connection.execute(select(media.c.tenant, media.c.refs)).all()
    assert sorted(tuple(row) for row in rows) == [("default", 2), ("other", 1)]


def test_a_policy_is_kept_as_it_was(db: Database) -> None:
    changed = Policy(id="default", version=1, rules=(Rule(label="porn.explicit", block_at=0.1),))
    old = jobs.submit(db, new_item(1), now=NOW)
    jobs.submit(db, new_item(2), now=NOW)
    new = jobs.submit(db, new_item(3, policy=changed), now=NOW)
    assert claimed(db, old.job_id).policy == POLICY
    assert claimed(db, new.job_id).policy == changed
    with db.connect() as connection:
        assert connection.execute(select(func.count()).select_from(policy_version)).scalar() == 2


class TestIdempotency:
    def test_the_same_request_gets_the_earlier_answer(self, db: Database) -> None:
        new = new_item(idempotency_key="k", request_hash="h")
        first = jobs.submit(db, new, now=NOW)
        again = jobs.submit(db, new, now=later(1))
        assert (again.item_id, again.job_id) == (first.item_id, first.job_id)
        assert (again.replayed, again.state, again.verdict) == (True, JobState.QUEUED, None)
        claim = claimed(db, first.job_id)
        result = result_for(claim)
        jobs.finish(db, claim, result, now=later(2))
        decided = jobs.submit(db, new, now=later(3))
        assert (decided.state, decided.verdict) == (JobState.DONE, result.verdict)
        assert sum(jobs.counts(db).values()) == 1

    def test_another_request_is_a_conflict(self, db: Database) -> None:
        jobs.submit(db, new_item(1, idempotency_key="k", request_hash="h"), now=NOW)
        with pytest.raises(ConflictError) as error:
            jobs.submit(db, new_item(2, idempotency_key="k", request_hash="g"), now=NOW)
        assert error.value.code == "idempotency_conflict"
        assert sum(jobs.counts(db).values()) == 1

    def test_keys_of_two_tenants_are_two(self, db: Database) -> None:
        for tenant in ("a", "b"):
            new = new_item(tenant=tenant, idempotency_key="k", request_hash="h")
            assert jobs.submit(db, new, now=NOW).replayed is False

    def test_eight_at_once_make_one_item(self, db: Database) -> None:
        new = new_item(idempotency_key="k", request_hash="h")
        made = together(lambda _n: jobs.submit(db, new))
        assert len({sub.item_id for sub in made}) == 1
        assert sorted(sub.replayed for sub in made) == [False] + [True] * 7
        assert jobs.counts(db)[JobState.QUEUED] == 1


class TestDuplicates:
    def decide(self, db: Database, **changes: object) -> None:
        sub = jobs.submit(db, new_item("same"), now=NOW)
        claim = claimed(db, sub.job_id)
        assert jobs.finish(db, claim, result_for(claim, **changes), now=NOW)  # type: ignore[arg-type]

    def test_known_bytes_are_answered_at_once(self, db: Database) -> None:
        self.decide(db)
        new = new_item("same", source="b.jpg", data_id="d2", callback_url="https://h.example/x")
        sub = jobs.submit(db, new, dedupe_models=("a@1", "b@2"), now=later(1))
        assert sub.state is JobState.DONE
        verdict = sub.verdict
        assert verdict is not None
        assert (verdict.id, verdict.job_id) == (sub.item_id, sub.job_id)
        assert (verdict.source, verdict.data_id) == ("b.jpg", "d2")
        assert (verdict.decided_by, verdict.decision) == ("duplicate", Decision.REVIEW)
        assert verdict.scores == {"porn.explicit": 0.6, "violence.gore": 0.1}
        assert [reason.label for reason in verdict.reasons] == ["porn.explicit"]
        assert items.get_item(db, "default", sub.item_id).verdict == verdict
        assert len(outbox.due_callbacks(db, 10, now=later(1))) == 1
        swept = jobs.sweep(db, republish_after_s=0, max_attempts=5, now=later(100))
        assert swept.republish == ()
        third = jobs.submit(db, new_item("same"), dedupe_models=MODELS, now=later(2))
        assert third.verdict is not None
        assert third.verdict.decided_by == "duplicate"

    @pytest.mark.parametrize(
        ("content", "models", "changes"),
        [
            ("other", MODELS, {}),
            ("same", ("a@1",), {}),
            ("same", (*MODELS, "c@1"), {}),
            ("same", None, {}),
            ("same", MODELS, {"tenant": "other"}),
            ("same", MODELS, {"policy": POLICY.model_copy(update={"version": 2})}),
            ("same", MODELS, {"policy": POLICY.model_copy(update={"on_failure": Decision.BLOCK})}),
        ],
    )
    def test_anything_else_is_analysed(
        self, db: Database, content: str, models: tuple[str, ...] | None, changes: dict[str, object]
    ) -> None:
        self.decide(db)
        sub = jobs.submit(db, new_item(content, **changes), dedupe_models=models, now=later(1))
        assert (sub.state, sub.verdict) == (JobState.QUEUED, None)

    def test_a_failure_is_tried_again(self, db: Database) -> None:
        self.decide(db, status=Status.FAILED)
        sub = jobs.submit(db, new_item("same"), dedupe_models=MODELS, now=later(1))
        assert sub.state is JobState.QUEUED


class TestSweep:
    def test_a_fresh_task_is_left_to_its_submitter(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(priority=4), now=NOW)
        early = jobs.sweep(db, republish_after_s=10, max_attempts=5, now=later(1))
        assert early.republish == ()
        swept = jobs.sweep(db, republish_after_s=10, max_attempts=5, now=later(3))
        assert swept.republish == (jobs.TaskHint(sub.job_id, "image", 4),)
        again = jobs.sweep(db, republish_after_s=10, max_attempts=5, now=later(4))
        assert again.republish == ()

    def test_an_unclaimed_task_is_published_again_ever_less_often(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(), now=NOW)
        outbox.task_sent(db, sub.job_id, now=NOW)
        published = [
            second
            for second in range(1, 161)
            if jobs.sweep(db, republish_after_s=10, max_attempts=5, now=later(second)).republish
        ]
        assert published == [10, 30, 70, 110, 150]

    def test_claimed_jobs_are_not_published(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(), now=NOW)
        claimed(db, sub.job_id)
        swept = jobs.sweep(db, republish_after_s=1, max_attempts=5, now=later(14))
        assert swept.republish == ()

    def test_an_expired_lease_is_queued_and_published_in_one_sweep(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(), now=NOW)
        claimed(db, sub.job_id)
        swept = jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(16))
        assert swept.expired == 1
        assert [hint.job_id for hint in swept.republish] == [sub.job_id]
        assert jobs.get_job(db, "default", sub.job_id).state is JobState.QUEUED

    def test_a_job_that_kills_its_workers_fails_to_review(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(), now=NOW)
        for attempt in range(3):
            claimed(db, sub.job_id, at=attempt)
            jobs.release_owner(db, "w1", now=later(attempt))
        assert jobs.claim(db, sub.job_id, "w1", 15, max_attempts=3, now=later(4)) is None
        swept = jobs.sweep(db, republish_after_s=1, max_attempts=3, now=later(5))
        assert (swept.failed, swept.republish) == (1, ())
        verdict = items.verdict_of_job(db, sub.job_id)
        assert verdict is not None
        assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)

    def test_an_overdue_job_fails_to_review_and_is_not_claimed(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(deadline=later(60)), now=NOW)
        assert jobs.claim(db, sub.job_id, "w1", 15, now=later(61)) is None
        swept = jobs.sweep(db, republish_after_s=1, max_attempts=5, now=later(61))
        assert (swept.overdue, swept.republish) == (1, ())
        verdict = items.verdict_of_job(db, sub.job_id)
        assert verdict is not None
        assert verdict.error is not None
        assert verdict.error.code == "deadline_passed"
        assert verdict.decision is Decision.REVIEW

    def test_a_job_that_runs_at_its_deadline_may_end(self, db: Database) -> None:
        sub = jobs.submit(db, new_item(deadline=later(5)), now=NOW)
        claim = claimed(db, sub.job_id)
        swept = jobs.sweep(db, republish_after_s=1, max_attempts=5, now=later(6))
        assert swept.overdue == 0
        assert jobs.finish(db, claim, result_for(claim), now=later(7))

    def test_the_limit_holds_and_urgent_ones_come_first(self, db: Database) -> None:
        for n in range(5):
            jobs.submit(db, new_item(n, priority=n), now=NOW)
        swept = jobs.sweep(db, republish_after_s=1, max_attempts=5, limit=3, now=later(3))
        assert [hint.priority for hint in swept.republish] == [4, 3, 2]

    def test_two_sweepers_publish_a_task_once(self, db: Database) -> None:
        for n in range(40):
            jobs.submit(db, new_item(n), now=NOW)
        swept = together(
            lambda _n: jobs.sweep(db, republish_after_s=100, max_attempts=5, now=later(3)), 4
        )
        hints = [hint.job_id for result in swept for hint in result.republish]
        assert len(hints) == len(set(hints)) == 40


def test_eight_threads_claim_each_job_once(db: Database) -> None:
    subs = [jobs.submit(db, new_item(n)) for n in range(50)]

    def take(number: int) -> list[Claim]:
        found = (jobs.claim(db, sub.job_id, f"w{number}", 60) for sub in subs)
        return [claim for claim in found if claim is not None]

    won = [claim.job_id for claims in together(take) for claim in claims]
    assert sorted(won) == sorted(sub.job_id for sub in subs)
    assert jobs.counts(db)[JobState.RUNNING] == 50


def test_one_of_many_finishes_ends_the_job(db: Database) -> None:
    sub = jobs.submit(db, new_item())
    claim = jobs.claim(db, sub.job_id, "w1", 60)
    assert claim is not None
    ended = together(lambda _n: jobs.finish(db, claim, result_for(claim)))
    assert sorted(ended) == [False] * 7 + [True]
    assert len(items.history(db, "default", sub.item_id)) == 1


def test_the_same_bytes_sent_by_eight_make_one_medium(db: Database) -> None:
    together(lambda n: jobs.submit(db, new_item("same", data_id=str(n))))
    with db.connect() as connection:
        assert connection.execute(select(media.c.refs)).scalars().all() == [8]


def test_finish_cancel_and_sweep_at_once_end_a_job_once(db: Database) -> None:
    subs = [jobs.submit(db, new_item(n, callback_url="https://h.example/x")) for n in range(12)]
    claims = [jobs.claim(db, sub.job_id, "w1", -1) for sub in subs]

    def act(number: int) -> None:
        for sub, claim in zip(subs, claims, strict=True):
            assert claim is not None
            if number % 3 == 0:
                jobs.finish(db, claim, result_for(claim))
            elif number % 3 == 1:
                jobs.cancel(db, "default", sub.job_id)
            else:
                jobs.sweep(db, republish_after_s=100, max_attempts=1)

    together(act, 6)
    for sub in subs:
        assert jobs.get_job(db, "default", sub.job_id).state.ended
        assert len(items.history(db, "default", sub.item_id)) == 1
    assert len(outbox.due_callbacks(db, 100)) == len(subs)


def test_counts_and_age_of_the_queue(db: Database) -> None:
    assert jobs.oldest_queued_s(db, now=NOW) == 0
    assert jobs.counts(db) == dict.fromkeys(JobState, 0)
    first = jobs.submit(db, new_item(1), now=NOW)
    jobs.submit(db, new_item(2), now=later(30))
    assert jobs.oldest_queued_s(db, now=later(40)) == pytest.approx(40)
    claim = claimed(db, first.job_id, at=41)
    assert jobs.oldest_queued_s(db, now=later(42)) == pytest.approx(12)
    jobs.finish(db, claim, result_for(claim))
    counts = jobs.counts(db)
    assert (counts[JobState.QUEUED], counts[JobState.DONE]) == (1, 1)
