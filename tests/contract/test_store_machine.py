"""Whatever the order of claims, losses, cancels and sweeps: a job ends exactly once."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from moderation.store import items, jobs, outbox
from moderation.store.engine import Database, open_database
from moderation.store.records import Claim, JobState
from moderation.types import Decision, Status
from tests.contract.store_data import NOW, new_item, result_for
from tests.fakes.databases import template

MAX_ATTEMPTS = 3
MAX_JOBS = 3  # few, so that the rules meet on the same ones
LEASE_S = 10.0
OWNERS = st.sampled_from(["w1", "w2"])


class Life(RuleBasedStateMachine):
    """Claims are kept for ever, so that workers act on ones they have long lost."""

    job_ids = Bundle("job_ids")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "test.db"
        path.write_bytes(template().read_bytes())
        self.db: Database = open_database(f"sqlite:///{path}", pool_size=2)
        self.now = NOW
        self.made = 0
        self.items: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.ended: dict[str, JobState] = {}

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.db.close()
            self.folder.cleanup()

    @initialize(target=job_ids)
    def first_job(self) -> str:
        return self.submit_one(None)

    @precondition(lambda self: self.made < MAX_JOBS)
    @rule(target=job_ids, deadline_s=st.one_of(st.none(), st.integers(1, 60)))
    def submit(self, deadline_s: int | None) -> str:
        return self.submit_one(deadline_s)

    def submit_one(self, deadline_s: int | None) -> str:
        self.made += 1
        deadline = None if deadline_s is None else self.now + timedelta(seconds=deadline_s)
        new = new_item(self.made, deadline=deadline, callback_url="https://h.example/x")
        sub = jobs.submit(self.db, new, now=self.now)
        self.items[sub.job_id] = sub.item_id
        return sub.job_id

    @rule(target=claims, job_id=job_ids, owner=OWNERS)
    def claim(self, job_id: str, owner: str) -> Any:
        claim = self.take(job_id, owner)
        return multiple() if claim is None else claim

    @rule(target=claims, job_id=job_ids, owner=OWNERS)
    def claim_when_the_lease_ran_out(self, job_id: str, owner: str) -> Any:
        self.now += timedelta(seconds=LEASE_S + 1)
        return self.claim(job_id, owner)

    def take(self, job_id: str, owner: str) -> Claim | None:
        before = jobs.get_job(self.db, "default", job_id)
        claim = jobs.claim(self.db, job_id, owner, LEASE_S, max_attempts=MAX_ATTEMPTS, now=self.now)
        if claim is not None:
            assert not before.state.ended
            assert not before.cancel_requested
            assert claim.attempt == self.attempts.get(job_id, 0) + 1 <= MAX_ATTEMPTS
            self.attempts[job_id] = claim.attempt
        return claim

    @rule(claim=claims, failed=st.booleans())
    def finish(self, claim: Claim, failed: bool) -> None:
        before = jobs.get_job(self.db, "default", claim.job_id)
        status = Status.FAILED if failed else Status.DONE
        done = jobs.finish(self.db, claim, result_for(claim, status=status), now=self.now)
        if done:
            assert before.state is JobState.RUNNING
            assert before.attempt == claim.attempt

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        before = jobs.get_job(self.db, "default", claim.job_id)
        state = jobs.release(self.db, claim, error="x", max_attempts=MAX_ATTEMPTS, now=self.now)
        held = before.state is JobState.RUNNING and before.attempt == claim.attempt
        assert held or state is before.state

    @rule(owner=OWNERS)
    def lose_worker(self, owner: str) -> None:
        jobs.release_owner(self.db, owner, now=self.now)

    @rule(owner=OWNERS)
    def renew(self, owner: str) -> None:
        jobs.renew(self.db, owner, LEASE_S, now=self.now)

    @rule(job_id=job_ids)
    def cancel(self, job_id: str) -> None:
        jobs.cancel(self.db, "default", job_id, now=self.now)

    @rule(seconds=st.sampled_from([0.5, 3, 11, 40]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        swept = jobs.sweep(self.db, republish_after_s=5, max_attempts=MAX_ATTEMPTS, now=self.now)
        assert len(swept.ended) == swept.failed + swept.overdue + swept.cancelled
        for job_id in swept.ended:
            assert jobs.get_job(self.db, "default", job_id).state.ended
            assert job_id not in self.ended
        for hint in swept.republish:
            row = jobs.get_job(self.db, "default", hint.job_id)
            assert (row.state, row.cancel_requested) == (JobState.QUEUED, False)

    @invariant()
    def ended_jobs_have_one_verdict_and_stay_as_they_are(self) -> None:
        for job_id, item_id in self.items.items():
            row = jobs.get_job(self.db, "default", job_id)
            verdicts = items.history(self.db, "default", item_id)
            assert len(verdicts) == (1 if row.state.ended else 0)
            if row.state.ended:
                assert self.ended.setdefault(job_id, row.state) is row.state
            else:
                assert job_id not in self.ended

    def settle(self) -> None:
        """Workers that behave from now on: everything ends, every callback is there once."""
        for _ in range(MAX_ATTEMPTS + 2):
            self.now += timedelta(seconds=100)
            swept = jobs.sweep(
                self.db, republish_after_s=5, max_attempts=MAX_ATTEMPTS, now=self.now
            )
            for hint in swept.republish:
                claim = self.take(hint.job_id, "last")
                assert claim is not None
                result = result_for(claim, Decision.PASS)
                assert jobs.finish(self.db, claim, result, now=self.now)
        counts = jobs.counts(self.db)
        assert counts[JobState.QUEUED] == counts[JobState.RUNNING] == 0
        self.ended_jobs_have_one_verdict_and_stay_as_they_are()
        sent = outbox.due_callbacks(self.db, 1000, now=self.now)
        assert sorted(row.payload["data"]["job_id"] for row in sent) == sorted(self.items)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=24,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
