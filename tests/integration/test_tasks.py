"""Image jobs and the sweeper on a real database, with what goes wrong painted in."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from moderation.analyse import Analysis, Known, failure
from moderation.blobs import BlobStore, blob_key, open_blobs
from moderation.errors import BrokerError, InferenceError
from moderation.policy import Outcome, Policy, load_policies
from moderation.settings import load_settings
from moderation.store import (
    events,
    items,
    jobs,
    list_expiry,
    outbox,
    reviews,
    streams,
    uploads,
)
from moderation.store.engine import Database
from moderation.store.records import DEFAULT_TENANT, JobState, NewItem, NewMedia
from moderation.store.review_records import ReviewFilter
from moderation.tasks.image import ImageRuntime, pack, run_image
from moderation.tasks.lot import Lot
from moderation.tasks.messages import DELIVER, IMAGE, JobMessage
from moderation.tasks.sweep import Sweeper
from moderation.types import (
    Coverage,
    Decision,
    Detection,
    MediaInfo,
    MediaScores,
    Problem,
    Status,
    StreamState,
    View,
    ViewScores,
)
from tests.contract.live_data import owned_stream

POLICY = load_policies()["default"]
DATA = b"a picture"
PASSED = Analysis(
    outcome=Outcome(Decision.PASS, ()),
    peaks={},
    coverage=Coverage(frames_total=1, frames_scored=1, complete=True),
    media=MediaInfo("png", 4, 3, 1, 1, len(DATA)),
    scores=None,
    problem=None,
    timings_ms={"total": 1.0},
)
BROKEN = Problem(title="Corrupt", status=422, code="corrupt")


@dataclass
class Recorder:
    """Waker and producer that write down what they were asked."""

    away: bool = False
    run: str = "first"
    woken: list[str] = field(default_factory=list)
    sent: list[JobMessage] = field(default_factory=list)

    def wake(self, job_id: str) -> None:
        self.woken.append(job_id)

    def enqueue(self, message: JobMessage, priority: int = 0) -> None:
        if self.away:
            raise BrokerError("away")
        self.sent.append(message)

    def run_id(self) -> str:
        if self.away:
            raise BrokerError("away")
        return self.run


class Answer:
    """An analyser that does what it is told."""

    def __init__(self, act: Callable[[], Analysis]) -> None:
        self.act = act

    def analyse(
        self,
        data: bytes,
        policy: Policy,
        *,
        deadline: float | None = None,
        known: Known | None = None,
    ) -> Analysis:
        assert data == DATA
        assert policy == POLICY
        return self.act()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs((tmp_path / "media").as_uri())


def submit(db: Database, blobs: BlobStore | None, *, callback: bool = False) -> str:
    sha = hashlib.sha256(DATA).hexdigest()
    key = blob_key(DEFAULT_TENANT, sha)
    if blobs is not None:
        blobs.put(key, DATA)
    new = NewItem(
        tenant=DEFAULT_TENANT,
        media=NewMedia(sha256=sha, size=len(DATA), format="png", blob_key=key),
        policy=POLICY,
        callback_url="http://receiver.example/" if callback else None,
    )
    return jobs.submit(db, new).job_id


def runtime(
    db: Database, blobs: BlobStore, recorder: Recorder, act: Callable[[], Analysis]
) -> ImageRuntime:
    return ImageRuntime(
        db=db,
        blobs=blobs,
        analyser=Answer(act),
        waker=recorder,
        producer=recorder,
        owner="infer-1",
        models=("fake@1",),
        device="fake",
        lease_s=10,
        max_attempts=2,
    )


def raising(error: Exception) -> Callable[[], Analysis]:
    def act() -> Analysis:
        raise error

    return act


def test_a_job_ends_once_and_then_wakes(db: Database, blobs: BlobStore) -> None:
    job_id, recorder = submit(db, blobs, callback=True), Recorder()

    def act() -> Analysis:
        assert recorder.woken == []
        return PASSED

    ready = runtime(db, blobs, recorder, act)
    assert run_image(job_id, ready) is JobState.DONE
    verdict = items.verdict_of_job(db, job_id)
    assert verdict is not None
    assert (verdict.decision, verdict.models) == (Decision.PASS, ["fake@1"])
    assert verdict.timings_ms["queued"] >= 0
    assert recorder.woken == [job_id]
    assert recorder.sent == [JobMessage(DELIVER, job_id)]
    assert run_image(job_id, ready) is None, "the message came twice"
    assert recorder.woken == [job_id]
    assert len(outbox.due_callbacks(db)) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_drawn_pass_waits_for_people_too(db: Database, blobs: BlobStore, share: float) -> None:
    ready = runtime(db, blobs, Recorder(), lambda: PASSED)
    job_id = submit(db, blobs)
    assert run_image(job_id, replace(ready, lot=Lot(share, b"secret"))) is JobState.DONE
    found = reviews.queue(db, DEFAULT_TENANT, ReviewFilter()).rows
    assert [row.audit for row in found] == [True] * int(share)


def test_a_job_without_callback_sends_none(db: Database, blobs: BlobStore) -> None:
    recorder = Recorder()
    run_image(submit(db, blobs), runtime(db, blobs, recorder, lambda: PASSED))
    assert recorder.sent == []


def test_a_broker_that_is_away_does_not_matter_afterwards(db: Database, blobs: BlobStore) -> None:
    recorder = Recorder(away=True)
    job_id = submit(db, blobs, callback=True)
    assert run_image(job_id, runtime(db, blobs, recorder, lambda: PASSED)) is JobState.DONE


def test_bytes_that_are_no_picture_fail_to_review(db: Database, blobs: BlobStore) -> None:
    job_id, recorder = submit(db, blobs), Recorder()
    ready = runtime(db, blobs, recorder, lambda: failure(POLICY, BROKEN))
    assert run_image(job_id, ready) is JobState.FAILED
    verdict = items.verdict_of_job(db, job_id)
    assert verdict is not None
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
    assert recorder.woken == [job_id]


def test_lost_bytes_fail_to_review(db: Database, blobs: BlobStore) -> None:
    job_id, recorder = submit(db, None), Recorder()
    assert run_image(job_id, runtime(db, blobs, recorder, lambda: PASSED)) is JobState.FAILED
    verdict = items.verdict_of_job(db, job_id)
    assert verdict is not None
    assert verdict.error is not None
    assert (verdict.error.code, verdict.decision) == ("media_missing", Decision.REVIEW)


@pytest.mark.parametrize("error", [InferenceError("device lost"), KeyError("a defect")])
def test_our_own_failures_are_tried_again_and_end_in_review(
    db: Database, blobs: BlobStore, error: Exception
) -> None:
    job_id, recorder = submit(db, blobs, callback=True), Recorder()
    ready = runtime(db, blobs, recorder, raising(error))
    assert run_image(job_id, ready) is JobState.QUEUED
    assert (recorder.woken, recorder.sent) == ([], [])
    assert run_image(job_id, ready) is JobState.FAILED
    verdict = items.verdict_of_job(db, job_id)
    assert verdict is not None
    assert verdict.error is not None
    assert (verdict.error.code, verdict.decision) == ("attempts_exhausted", Decision.REVIEW)
    assert recorder.woken == [job_id]
    assert recorder.sent == [JobMessage(DELIVER, job_id)]


def test_a_worker_that_lost_its_lease_writes_nothing(
    db: Database, blobs: BlobStore, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, recorder = submit(db, blobs), Recorder()
    other = replace(runtime(db, blobs, recorder, lambda: PASSED), owner="infer-2")

    def slow() -> Analysis:
        jobs.release_owner(db, "infer-1")
        assert run_image(job_id, other) is JobState.DONE
        return failure(POLICY, BROKEN)

    with caplog.at_level(logging.WARNING):
        assert run_image(job_id, runtime(db, blobs, recorder, slow)) is None
    assert "somebody else owns it" in caplog.text
    assert recorder.woken == [job_id], "by the other one alone"
    verdict = items.verdict_of_job(db, job_id)
    assert verdict is not None
    assert verdict.status is Status.DONE


def test_scores_are_packed_by_view_and_label() -> None:
    boxes = tuple(Detection("c.d", None, (0.0, 0.0, 1.0, 1.0), score) for score in (0.3, 0.4))
    one = ViewScores(
        {"a.b": 0.5, "c.d": 0.25},
        {},
        detections=boxes,
        embedding=np.ones(2, np.float16),
        encoder="e@1",
    )
    two = ViewScores({"a.b": 1.0}, {}, embedding=np.zeros(2, np.float16), encoder="e@1")
    scores = MediaScores((View(), View(1, 2.5)), (one, two))
    coverage = Coverage(frames_total=2, frames_scored=2, complete=True)
    seen = Analysis(Outcome(Decision.PASS, ()), {}, coverage, None, scores, None, {})
    packed, vectors, encoder = pack(seen, ("m@1",))
    assert packed is not None
    assert packed.basis is not None
    assert packed.basis.complete
    np.testing.assert_array_equal(packed.basis.boxes, [[np.nan, 0.4], [np.nan, np.nan]])
    assert vectors is not None
    assert packed.labels == ("a.b", "c.d")
    np.testing.assert_array_equal(packed.values, [[0.5, 0.25], [1.0, np.nan]])
    np.testing.assert_array_equal(packed.times, [0, 2.5])
    assert (vectors.shape, encoder) == ((2, 2), "e@1")
    assert pack(replace(seen, scores=None), ("m@1",)) == (None, None, None)


def backdate(db: Database, job_id: str) -> None:
    """As if the task had been published a minute ago."""
    outbox.task_sent(db, job_id, now=datetime.now(UTC) - timedelta(minutes=1))


def test_two_sweepers_share_the_work(db: Database, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    recorders = [Recorder(), Recorder()]
    sweepers = [Sweeper(db, recorder, recorder, settings) for recorder in recorders]
    for sweeper in sweepers:
        sweeper.once()  # each first sweep publishes everything anew: there is nothing yet
    ids = {submit(db, None) for _ in range(30)}
    for job_id in ids:
        backdate(db, job_id)
    start = threading.Barrier(2)

    def sweep(sweeper: Sweeper) -> None:
        start.wait()
        sweeper.once()

    threads = [threading.Thread(target=sweep, args=(sweeper,)) for sweeper in sweepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [message.job_id for recorder in recorders for message in recorder.sent]
    assert sorted(sent) == sorted(ids), "each published once"
    assert {message.kind for recorder in recorders for message in recorder.sent} == {IMAGE}


def test_a_new_broker_gets_every_queued_job_at_once(db: Database, tmp_path: Path) -> None:
    recorder = Recorder()
    sweeper = Sweeper(db, recorder, recorder, load_settings(home=tmp_path))
    sweeper.once()
    job_id = submit(db, None)
    outbox.task_sent(db, job_id)
    assert sweeper.once() == 0, "published just now"
    recorder.run = "second"
    assert sweeper.once() == 1
    assert recorder.sent == [JobMessage(IMAGE, job_id)]
    assert sweeper.once() == 0


def test_nothing_is_forgotten_while_the_broker_is_away(db: Database, tmp_path: Path) -> None:
    recorder = Recorder()
    sweeper = Sweeper(db, recorder, recorder, load_settings(home=tmp_path))
    sweeper.once()
    backdate(db, submit(db, None))
    recorder.away = True
    assert sweeper.once() == 0
    recorder.away = False
    assert sweeper.once() == 1


def test_who_waits_for_a_job_that_a_sweep_ends_is_woken(db: Database, tmp_path: Path) -> None:
    recorder = Recorder()
    sweeper = Sweeper(db, recorder, recorder, load_settings(home=tmp_path, max_attempts=1))
    job_id, other = submit(db, None), submit(db, None)
    assert jobs.claim(db, job_id, "dead", 0.0) is not None
    sweeper.once()
    assert recorder.woken == [job_id]
    assert jobs.get_job(db, DEFAULT_TENANT, job_id).state is JobState.FAILED
    assert jobs.get_job(db, DEFAULT_TENANT, other).state is JobState.QUEUED


def test_a_live_stream_without_its_supervisor_is_told_and_wakes_readers(
    db: Database, tmp_path: Path
) -> None:
    owned_stream(db)  # long ago: its lease has run out
    recorder = Recorder()
    sweeper = Sweeper(db, recorder, recorder, load_settings(home=tmp_path))
    assert (sweeper.unwatched(), sweeper.unwatched()) == (1, 0)
    (lost,) = streams.list_streams(db, DEFAULT_TENANT).streams
    assert (lost.state, recorder.woken) == (StreamState.RETRYING, [lost.id])


def test_old_rows_are_deleted_now_and_then(db: Database, tmp_path: Path) -> None:
    sweeper = Sweeper(db, Recorder(), Recorder(), load_settings(home=tmp_path, retain_days=2))
    long_ago = datetime.now(UTC) - timedelta(days=3)
    with db.begin() as connection:
        for _ in range(2):
            events.append(connection, tenant="t", kind="x", item_id=None, data={}, now=long_ago)
    assert sweeper.prune() == 2
    assert sweeper.prune() == 0
    with db.begin() as connection:
        events.append(connection, tenant="t", kind="x", item_id=None, data={}, now=long_ago)
    assert sweeper.prune() == 0, "it looked a moment ago"


def test_the_walk_through_entries_of_lists_goes_on_at_the_next_sweep(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        list_expiry.Step(0, "entry_1"),
        list_expiry.Step(2, "entry_2"),
        list_expiry.Step(0, None),
    ]
    begun: list[str] = []

    def step(_db: Database, *, after: str) -> list_expiry.Step:
        begun.append(after)
        return steps[len(begun) - 1]

    monkeypatch.setattr(list_expiry, "prune", step)
    sweeper = Sweeper(db, Recorder(), Recorder(), load_settings(home=tmp_path))
    assert [sweeper.prune() for _ in range(5)] == [0, 2, 0, 0, 0]
    assert begun == ["", "entry_1", "entry_2"], "then it rests"


HUNG = """
import sys, threading
from pathlib import Path
from moderation.store.engine import migrate, open_database
from workers.infer import watch
class Scorer:
    oldest_running_s = 5.0
url = "sqlite:///" + sys.argv[1]
migrate(url)
watch(Scorer(), 1.0, open_database(url), "infer-1")
threading.Event().wait(60)
"""


def test_a_hung_forward_pass_ends_the_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HUNG, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 70
    assert "a forward pass runs for 5.0 s" in ended.stderr


def test_uploads_that_expired_are_deleted_with_their_bytes(
    db: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    sweeper = Sweeper(db, Recorder(), Recorder(), load_settings(home=tmp_path), blobs=blobs)
    now = datetime.now(UTC)
    for expires in (now - timedelta(seconds=1), now + timedelta(hours=1)):
        row = uploads.create(
            db, "t", length=9, metadata={}, expires=now + timedelta(hours=1), room=100
        )
        part = uploads.Part(0, 3, uploads.part_key(row.id, 0))
        blobs.put(part.blob_key, b"abc")
        uploads.append(db, row, part, expires=expires)
    assert sweeper.prune() == 1
    left = [path for path in tmp_path.glob("**/uploads/*/*") if path.is_file()]
    assert [path.parent.name for path in left] == [row.id]
    assert uploads.get(db, "t", row.id).received == 3
