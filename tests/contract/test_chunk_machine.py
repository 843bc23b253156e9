"""Whatever the order of claims, losses, ends, cancels and sweeps of chunks: a film comes on."""

from __future__ import annotations

import tempfile
from collections import Counter
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

from moderation.store import chunks, films, items, jobs
from moderation.store.chunks import ChunkClaim, Stage
from moderation.store.engine import Database, open_database
from moderation.store.films import NewChunk
from moderation.store.records import JobState, NewItem, NewMedia
from moderation.types import Decision
from tests.contract.store_data import NOW, POLICY, result_for
from tests.fakes.databases import template

MAX_ATTEMPTS = 3
AHEAD = 2
ROUNDS = 2
LEASE_S = 10.0
OWNERS = st.sampled_from(["w1", "w2"])
STAGES = st.sampled_from(chunks.ACTIVE)
ENDS = (Stage.DONE, Stage.FAILED, Stage.SKIPPED)


class Film(RuleBasedStateMachine):
    """One film. Claims are kept for ever, so that workers act on ones they have long lost."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "test.db"
        path.write_bytes(template().read_bytes())
        self.db: Database = open_database(f"sqlite:///{path}", pool_size=2)
        self.now = NOW
        self.kept: dict[int, bytes | None] = {}
        self.ended: dict[int, Stage] = {}

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.db.close()
            self.folder.cleanup()

    @initialize(deadline_s=st.one_of(st.none(), st.integers(5, 60)))
    def submit(self, deadline_s: int | None) -> None:
        deadline = None if deadline_s is None else self.now + timedelta(seconds=deadline_s)
        media = NewMedia("a" * 64, 9, "mp4", "default/a", kind="video")
        new = NewItem("default", media, POLICY, deadline=deadline)
        made = jobs.submit(self.db, new, now=self.now)
        self.job_id, self.item_id = made.job_id, made.item_id

    def state(self) -> JobState:
        return jobs.get_job(self.db, "default", self.job_id).state

    @rule(owner=OWNERS, count=st.integers(0, 4))
    def step(self, owner: str, count: int) -> None:
        """The next round, or the verdict."""
        claim = jobs.claim(
            self.db, self.job_id, owner, LEASE_S, max_attempts=MAX_ATTEMPTS, now=self.now
        )
        if claim is None:
            return
        rows = films.chunks_of(self.db, self.job_id)
        assert all(row.stage in ENDS for row in rows), "nothing is open when a step is taken"
        round_ = max((row.round for row in rows), default=-1) + 1
        if round_ == ROUNDS or (round_ and not count):
            assert jobs.finish(self.db, claim, result_for(claim, Decision.PASS), now=self.now)
            return
        new = [NewChunk(len(rows) + n, 3, b"asks") for n in range(max(1, count))]
        made = films.plan(self.db, claim, new, round_=round_, film={}, ahead=AHEAD, now=self.now)
        assert made is not None
        assert len(made.hints) == min(AHEAD, len(new))

    @rule(owner=OWNERS)
    def lose_step(self, owner: str) -> None:
        """A worker takes the job and dies over it."""
        jobs.claim(self.db, self.job_id, owner, LEASE_S, max_attempts=MAX_ATTEMPTS, now=self.now)

    @rule(target=claims, stage=STAGES, owner=OWNERS, number=st.integers(0, 5))
    def claim(self, stage: Stage, owner: str, number: int) -> Any:
        claim = chunks.claim_chunk(
            self.db,
            self.job_id,
            number,
            stage,
            owner,
            LEASE_S,
            max_attempts=MAX_ATTEMPTS,
            now=self.now,
        )
        if claim is None:
            return multiple()
        assert self.state() is JobState.RUNNING
        assert claim.attempt <= chunks.attempts_of(stage, MAX_ATTEMPTS)
        return claim

    @rule(claim=claims, enough=st.booleans())
    def go_on(self, claim: ChunkClaim, enough: bool) -> None:
        if claim.stage is Stage.READ:
            chunks.read_done(self.db, claim, now=self.now)
            return
        frames = f"{claim.owner} {claim.attempt}".encode()
        hints = chunks.score_done(
            self.db,
            claim,
            frames=frames,
            hashes=b"",
            ahead=AHEAD,
            enough=enough,
            now=self.now,
        )
        if hints is not None:
            assert claim.number not in self.kept, "a chunk ends once"
            self.kept[claim.number] = frames

    @rule(claim=claims, to=st.sampled_from([None, Stage.READ]))
    def give_back(self, claim: ChunkClaim, to: Stage | None) -> None:
        chunks.give_back(
            self.db,
            claim,
            error="x",
            ahead=AHEAD,
            max_attempts=MAX_ATTEMPTS,
            to=to,
            now=self.now,
        )

    @rule(owner=OWNERS)
    def lose_worker(self, owner: str) -> None:
        jobs.release_owner(self.db, owner, now=self.now)

    @rule(owner=OWNERS)
    def renew(self, owner: str) -> None:
        jobs.renew(self.db, owner, LEASE_S, now=self.now)

    @precondition(lambda self: self.now > NOW + timedelta(seconds=20))
    @rule()
    def cancel(self) -> None:
        jobs.cancel(self.db, "default", self.job_id, now=self.now)

    @rule(seconds=st.sampled_from([0.5, 3, 11]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        jobs.sweep(
            self.db,
            republish_after_s=5,
            max_attempts=MAX_ATTEMPTS,
            chunks_ahead=AHEAD,
            now=self.now,
        )

    @invariant()
    def what_is_open_fits_to_the_job(self) -> None:
        row = jobs.get_job(self.db, "default", self.job_id)
        parts = films.chunks_of(self.db, self.job_id)
        count = Counter(part.stage for part in parts)
        active = count[Stage.READ] + count[Stage.SCORE]
        assert active <= AHEAD
        if row.state.ended:
            assert parts == ()
            assert len(items.history(self.db, "default", self.item_id)) == 1
            return
        if active + count[Stage.WAITING]:
            assert (row.state, row.attempt) == (JobState.RUNNING, 0), "parked"
            assert active > 0, "somebody can go on with it"
        for part in parts:
            if part.stage in ENDS:
                assert self.ended.setdefault(part.number, part.stage) is part.stage
            assert part.frames == self.kept.get(part.number)

    def settle(self) -> None:
        """Workers that behave from now on: the film has its verdict."""
        for _ in range(60):
            if self.state().ended:
                break
            self.now += timedelta(seconds=LEASE_S + 1)
            self.sweep()
            found = films.next_step(self.db, at_once=1, max_attempts=MAX_ATTEMPTS, now=self.now)
            if found is not None:
                self.step("last", 1)
            for stage in chunks.ACTIVE:
                part = chunks.candidate(self.db, stage, max_attempts=MAX_ATTEMPTS, now=self.now)
                if part is not None:
                    claim = self.claim(stage, "last", part.number)
                    assert isinstance(claim, ChunkClaim)
                    self.go_on(claim, enough=False)
        assert self.state().ended
        self.what_is_open_fits_to_the_job()


TestFilm = Film.TestCase
TestFilm.settings = settings(
    max_examples=24,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
