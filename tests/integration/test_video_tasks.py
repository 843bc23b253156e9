"""Video jobs step by step on a real database, with what goes wrong painted in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from moderation.aggregate import Frame
from moderation.analyse_video import score_pack
from moderation.errors import MediaError, NotFoundError, ServiceError
from moderation.film import ROUNDS, begin, conclude, look_closer
from moderation.known import BankKind, MatchKind
from moderation.models.backends.fake import KEY
from moderation.models.runner import Scorer, load_scorer
from moderation.packs import PackStore, open_packs, pack_key
from moderation.policy import Policy, Rule
from moderation.redecide import redecide
from moderation.settings import load_settings
from moderation.store import chunks, films, items, jobs, list_entries, lists, reviews
from moderation.store.chunks import Stage
from moderation.store.decisions import decide
from moderation.store.engine import Database
from moderation.store.frames import load_asks
from moderation.store.list_records import NewBank, NewEntry
from moderation.store.records import DEFAULT_TENANT, JobState, NewItem, NewMedia, VideoOptions
from moderation.store.review_records import Action, Choice, ReviewFilter
from moderation.store.tables import fingerprint, media
from moderation.tasks.lot import Lot
from moderation.tasks.messages import DELIVER, READ, SCORE, VIDEO, JobMessage
from moderation.tasks.read import ReadRuntime, run_read
from moderation.tasks.reading import Reading
from moderation.tasks.score import ScoreRuntime, run_score
from moderation.tasks.scoring import Scoring
from moderation.tasks.secret import sampling_secret, sampling_seed
from moderation.tasks.sweep import Sweeper
from moderation.tasks.video import Indexes, VideoRuntime, run_video
from moderation.tasks.working import Working
from moderation.types import Decision, InputKey, Status, Verdict
from moderation.video.dedupe import DedupeOptions
from moderation.video.pack import dump_pack
from moderation.video.probe import ProbeLimits
from moderation.video.sampling import Chunk, SamplingOptions
from moderation.video.source import ReadOptions
from tests.fakes.reels import Reel

PORN = "porn.explicit"
POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label=PORN, review_at=0.7, block_at=0.9, min_frames=2, window=3),),
)
SECRET = b"s" * 64
SHA = "ab" * 32
RED = (71.3, 75.1)


@dataclass
class Recorder:
    woken: list[str] = field(default_factory=list)
    sent: list[JobMessage] = field(default_factory=list)

    def wake(self, job_id: str) -> None:
        self.woken.append(job_id)

    def enqueue(self, message: JobMessage, priority: int = 0) -> None:
        self.sent.append(message)

    def run_id(self) -> str:
        return "run"


class Here:
    """A media store whose one file lies at hand, or does not."""

    gone = False

    @contextmanager
    def open(self, blob_key: str) -> Iterator[Path]:
        if self.gone:
            raise NotFoundError("it is gone", code="blob_missing")
        yield Path(blob_key)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    scorer = load_scorer(load_settings(backend="fake"))
    yield scorer
    scorer.close()


class Works:
    """A media worker and an infer worker, in this thread."""

    def __init__(self, db: Database, packs: PackStore, scorer: Scorer, reel: Reel) -> None:
        self.db, self.packs, self.reel = db, packs, reel
        self.recorder, self.files = Recorder(), Here()
        common: dict[str, Any] = {
            "db": db,
            "producer": self.recorder,
            "lease_s": 10.0,
            "max_attempts": 3,
            "ahead": 2,
        }
        self.reading = Reading(
            VideoRuntime(
                **common,
                files=self.files,
                waker=self.recorder,
                owner="media-1",
                probe=reel.probe,
                scenes=lambda path, info, reading: reel.scenes,
                limits=ProbeLimits(),
                reading=ReadOptions("ffmpeg"),
                sampling=SamplingOptions(),
                secret=SECRET,
            ),
            ReadRuntime(
                **common,
                files=self.files,
                packs=packs,
                owner="media-1",
                look=reel.look,
                keys=(KEY,),
                reading=ReadOptions("ffmpeg"),
                dedupe=DedupeOptions(),
            ),
            at_once=2,
            working=Working(),
        )
        self.score = ScoreRuntime(**common, packs=packs, scorer=scorer, owner="infer-1")

    def change(self, *, video: dict[str, Any] | None = None, **read: Any) -> None:
        self.reading = replace(
            self.reading,
            video=replace(self.reading.video, **(video or {})),
            read=replace(self.reading.read, **read),
        )

    def submit(
        self, video: VideoOptions | None = None, policy: Policy = POLICY, **changes: Any
    ) -> str:
        new = NewMedia(SHA, 9, "mp4", "default/film", kind="video")
        return jobs.submit(
            self.db, NewItem(DEFAULT_TENANT, new, policy, video=video, **changes)
        ).job_id

    def step(self, job_id: str) -> JobState | None:
        return run_video(job_id, self.reading.video)

    def score_one(self) -> bool:
        part = chunks.candidate(self.db, Stage.SCORE, max_attempts=3)
        return part is not None and run_score(part.job_id, part.number, self.score)

    def work(self, turns: int = 500) -> None:
        """Until there is nothing to do."""
        for _ in range(turns):
            if not (self.reading.once() | self.score_one()):
                return
        raise AssertionError("it never ends")

    def state(self, job_id: str) -> JobState:
        return jobs.get_job(self.db, DEFAULT_TENANT, job_id).state

    def verdict(self, job_id: str) -> Verdict:
        verdict = items.verdict_of_job(self.db, job_id)
        assert verdict is not None
        return verdict

    def sent(self, kind: str) -> list[str]:
        return [message.job_id for message in self.recorder.sent if message.kind == kind]

    def without_backoff(self) -> None:
        """What was given back may be tried at once."""
        with self.db.begin() as connection:
            connection.exec_driver_sql("UPDATE chunk SET due = created")
            connection.exec_driver_sql("UPDATE job SET queued = created")


@pytest.fixture
def works(db: Database, tmp_path: Path, scorer: Scorer) -> Callable[..., Works]:
    def make(**reel: Any) -> Works:
        packs = open_packs((tmp_path / "packs").as_uri())
        return Works(db, packs, scorer, Reel(**reel))

    return make


def undisturbed(reel: Reel, scorer: Scorer) -> tuple[list[Frame], Any]:
    """The frames and the timeline as one process would have them."""
    options = SamplingOptions(seed=sampling_seed(SECRET, SHA))
    frames: list[Frame] = []
    film, parts = begin(reel.info, reel.index, options)
    count = 0
    for _ in range(ROUNDS):
        for part in parts:
            pack = reel.look(
                Path(), part, reel.info, (KEY,), ReadOptions("ffmpeg"), DedupeOptions()
            )
            frames += score_pack(scorer, pack, reel.info, POLICY)
        count += len(parts)
        parts = look_closer(frames, POLICY, film, reel.index, first=count)
        if not parts:
            break
    return frames, conclude(frames, POLICY, film)


def test_a_film_has_the_verdict_that_one_process_would_give(
    works: Callable[..., Works], scorer: Scorer
) -> None:
    here = works(red=[RED], damaged=[(20.0, 22.0)])
    job_id = here.submit(callback_url="https://h.example/x", source="film.mp4")
    here.work()
    frames, timeline = undisturbed(Reel(red=[RED], damaged=[(20.0, 22.0)]), scorer)
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert verdict.segments == [passage.segment() for passage in timeline.passages]
    assert verdict.reasons == list(timeline.outcome.reasons)
    assert verdict.coverage.unseen == timeline.coverage.unseen
    assert verdict.coverage.notes == [*timeline.coverage.notes, "sound not analysed (aac)"]
    assert (verdict.models, verdict.device) == (["fake@1"], "fake")
    assert (verdict.source, verdict.policy) == ("film.mp4", "p@1")
    assert set(verdict.timings_ms) == {"queued", "probe", "total"}

    (packed,) = items.scores_of_job(here.db, DEFAULT_TENANT, job_id)
    moments = np.array(sorted({frame.time_s for frame in frames}), np.float64)
    np.testing.assert_array_equal(packed.times, moments)
    unseen = np.isnan(packed.values).all(axis=1)
    assert set(np.flatnonzero(unseen)) == {
        i for i, time_s in enumerate(moments) if 20.0 <= time_s < 22.0
    }
    assert np.nanmax(packed.values[:, packed.labels.index(PORN)]) > 0.9
    assert redecide([packed], POLICY).severity.tolist() == [verdict.decision.severity]
    with here.db.connect() as connection:
        duration_s = connection.execute(select(media.c.duration_s)).scalar_one()
        known = connection.execute(select(fingerprint.c.frames)).scalar_one()
    assert duration_s == 150.0
    assert known > 100
    assert films.chunks_of(here.db, job_id) == ()
    assert here.packs.keys() == set()


def test_a_frame_on_a_block_list_objects_to_the_film(works: Callable[..., Works]) -> None:
    here = works()
    # As many bits as the bank takes, and one more: the reel's hashes are far from each other.
    seed = sampling_seed(SECRET, SHA)
    _, parts = begin(here.reel.info, here.reel.index, SamplingOptions(seed=seed))
    frames = here.reel.look(
        Path(), parts[0], here.reel.info, (KEY,), ReadOptions("ffmpeg"), DedupeOptions()
    ).hashes
    near, far = (f"{int(frames[n].pdq, 16) ^ 0xFF:064x}" for n in (3, 5))
    for name, kind, distance, pdq in (
        ("known", BankKind.BLOCK, 8, near),
        ("strict", BankKind.BLOCK, 7, far),
        ("fine", BankKind.ALLOW, 31, near),
    ):
        block = kind is BankKind.BLOCK
        decision = Decision.BLOCK if block else Decision.PASS
        new = NewBank(name, kind, decision, PORN if block else None, distance)
        bank = lists.create_bank(here.db, DEFAULT_TENANT, new, actor="a")
        entries = [NewEntry(MatchKind.PDQ, pdq)]
        list_entries.add_entries(here.db, DEFAULT_TENANT, bank.id, entries, actor="a")
    job_id = here.submit()
    here.work()
    verdict = here.verdict(job_id)
    assert (verdict.decision, verdict.decided_by) == (Decision.BLOCK, "list")
    (reason,) = verdict.reasons
    assert reason.label == PORN
    assert reason.detail is not None
    assert reason.detail.startswith(f"the frame at {frames[3].time_s:.2f} s differs in 8 of 256")
    assert verdict.coverage.complete, "the models have seen it all the same"
    assert verdict.scores[PORN] < 0.7

    # Who has seen the film outranks the entry, and one that comes later outranks them.
    decide(here.db, DEFAULT_TENANT, "user_mei", verdict.id, Choice(Action.PASS))
    assert here.verdict(here.submit()).decided_by == "person"
    new = NewBank("newer", BankKind.BLOCK, Decision.BLOCK, PORN)
    bank = lists.create_bank(here.db, DEFAULT_TENANT, new, actor="a")
    list_entries.add_entries(
        here.db, DEFAULT_TENANT, bank.id, [NewEntry(MatchKind.PDQ, near)], actor="a"
    )
    again = here.submit()
    here.work()
    verdict = here.verdict(again)
    assert (verdict.decision, verdict.decided_by) == (Decision.BLOCK, "list")


def test_a_film_that_passed_may_be_drawn(works: Callable[..., Works]) -> None:
    here = works(length_s=10.0)
    here.change(video={"lot": Lot(1.0, b"secret")})
    here.submit()
    here.work()
    (row,) = reviews.queue(here.db, DEFAULT_TENANT, ReviewFilter()).rows
    assert row.audit


def test_every_step_says_what_is_next(works: Callable[..., Works]) -> None:
    here = works()
    job_id = here.submit(callback_url="https://h.example/x")
    assert here.step(job_id) is JobState.RUNNING
    assert here.sent(READ) == [f"{job_id}/0", f"{job_id}/1"], "two ahead of three"
    assert run_read(job_id, 0, here.reading.read)
    assert here.sent(SCORE) == [f"{job_id}/0"]
    assert run_score(job_id, 0, here.score)
    assert here.sent(READ)[2:] == [f"{job_id}/2"]
    assert here.sent(VIDEO) == []
    here.work()
    assert here.sent(VIDEO) == [job_id]
    assert here.sent(DELIVER) == [job_id]
    assert here.recorder.woken == [job_id]


def test_what_came_twice_is_done_once(works: Callable[..., Works]) -> None:
    here = works()
    job_id = here.submit()
    here.step(job_id)
    assert here.step(job_id) is None
    assert run_read(job_id, 0, here.reading.read)
    assert not run_read(job_id, 0, here.reading.read)
    assert run_score(job_id, 0, here.score)
    assert not run_score(job_id, 0, here.score)
    assert here.reel.looked == [0]


@pytest.mark.parametrize("code", ["no_video", "corrupt", "decode_timeout"])
def test_a_file_that_is_no_video_fails_to_review(works: Callable[..., Works], code: str) -> None:
    def refuse(path: Path, limits: ProbeLimits) -> Any:
        raise MediaError("nothing to see", code=code)

    here = works()
    here.change(video={"probe": refuse})
    job_id = here.submit()
    assert here.step(job_id) is JobState.FAILED
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
    assert verdict.error is not None
    assert verdict.error.code == code
    assert here.recorder.woken == [job_id]


def test_lost_bytes_fail_to_review(works: Callable[..., Works]) -> None:
    here = works()
    here.files.gone = True
    job_id = here.submit()
    assert here.step(job_id) is JobState.FAILED
    error = here.verdict(job_id).error
    assert error is not None
    assert error.code == "media_missing"


@pytest.mark.parametrize("error", [ServiceError("disk full"), KeyError("a defect")])
def test_our_own_failures_are_tried_again_and_end_in_review(
    works: Callable[..., Works], error: Exception
) -> None:
    def fail(path: Path, limits: ProbeLimits) -> Any:
        raise error

    here = works()
    here.change(video={"probe": fail})
    job_id = here.submit()
    for _ in range(2):
        assert here.step(job_id) is JobState.QUEUED
        here.without_backoff()
    assert here.step(job_id) is JobState.FAILED
    found = here.verdict(job_id).error
    assert found is not None
    assert found.code == "attempts_exhausted"


@pytest.mark.parametrize(
    "error", [ServiceError("disk full"), KeyError("a defect"), MediaError("odd"), None]
)
def test_a_part_that_can_never_be_read_is_not_seen(
    works: Callable[..., Works], error: Exception | None
) -> None:
    here = works(red=[(5.0, 9.0)])

    def look(path: Path, chunk: Any, *rest: Any) -> Any:
        if chunk.number == 1:
            if error is None:
                raise NotFoundError("it is gone", code="blob_missing")
            raise error
        return here.reel.look(path, chunk, *rest)

    here.change(look=look)
    job_id = here.submit()
    for _ in range(4):
        here.work()
        here.without_backoff()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert not verdict.coverage.complete
    assert verdict.coverage.unseen
    (lost,) = verdict.coverage.unseen
    assert lost[0] > 50
    assert lost[1] < 130
    assert any("failed every attempt" in note for note in verdict.coverage.notes)
    assert "coverage.unseen" in [reason.label for reason in verdict.reasons]


@pytest.mark.parametrize("harm", ["gone", "broken", "other models"])
def test_a_pack_that_cannot_be_scored_is_read_again(works: Callable[..., Works], harm: str) -> None:
    here = works(red=[RED])
    job_id = here.submit()
    here.step(job_id)
    run_read(job_id, 0, here.reading.read)
    key = pack_key(job_id, 0)
    if harm == "gone":
        here.packs.delete(key)
    elif harm == "broken":
        here.packs.put(key, b"mpk1 and nothing more")
    else:
        other = replace(here.reading.read, keys=(InputKey(8, 8),))
        (asks,) = [row.asks for row in films.chunks_of(here.db, job_id) if row.number == 0]
        assert asks
        with here.files.open("x") as path:
            told = load_asks(asks)
            chunk = Chunk(0, told.asks, told.seek_s, told.exact)
            pack = here.reel.look(
                path, chunk, here.reel.info, other.keys, other.reading, other.dedupe
            )
        here.packs.put(key, dump_pack(pack))
    assert run_score(job_id, 0, here.score)
    assert films.chunks_of(here.db, job_id)[0].stage is Stage.READ
    assert here.sent(READ)[-1] == f"{job_id}/0"
    here.work()
    assert here.verdict(job_id).decision is Decision.BLOCK
    assert here.reel.looked.count(0) >= 2


def test_a_chunk_that_workers_died_over_is_scored_alone(works: Callable[..., Works]) -> None:
    here = works()
    job_id = here.submit()
    here.step(job_id)
    for number in range(2):
        run_read(job_id, number, here.reading.read)
    claim = chunks.claim_chunk(here.db, job_id, 1, Stage.SCORE, "infer-0", 10.0, max_attempts=3)
    assert claim is not None
    jobs.release_owner(here.db, "infer-0")
    working = Working()
    scoring = Scoring(here.score, working)
    with working.on("job_of_a_picture"), working.on(f"{job_id}/7"):
        assert scoring.once(), "the one that nothing speaks against"
        assert [row.stage for row in films.chunks_of(here.db, job_id)[:2]] == [
            Stage.DONE,
            Stage.SCORE,
        ]
        assert not scoring.once(), "another chunk is in hand"
    with working.on("job_of_a_picture"):
        assert scoring.once()
    assert films.chunks_of(here.db, job_id)[1].stage is Stage.DONE


def test_a_film_is_not_looked_at_further_once_that_is_enough(works: Callable[..., Works]) -> None:
    here = works(length_s=600.0, red=[(70.0, 75.0), (400.0, 405.0)])
    job_id = here.submit(VideoOptions(stop_on=Decision.BLOCK))
    here.work()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert verdict.segments is not None
    (segment,) = verdict.segments
    assert segment.start_s == pytest.approx(70.0, abs=0.3)
    assert segment.end_s == pytest.approx(75.0, abs=0.3)
    (note,) = [note for note in verdict.coverage.notes if note.startswith("stopped early at block")]
    assert "moments not looked at" in note
    assert not verdict.coverage.complete
    assert verdict.coverage.unseen
    assert verdict.coverage.unseen[-1][1] == 600.0
    whole = works(length_s=600.0, red=[(70.0, 75.0), (400.0, 405.0)])
    other = whole.submit()
    whole.work()
    assert len(here.reel.looked) < len(whole.reel.looked) / 2
    assert len(whole.verdict(other).segments or []) == 2


def test_a_film_without_that_decision_is_looked_at_to_the_end(works: Callable[..., Works]) -> None:
    here = works(red=[(70.0, 70.1)])
    job_id = here.submit(VideoOptions(stop_on=Decision.BLOCK))
    here.work()
    assert here.verdict(job_id).coverage.complete


def test_a_lost_claim_writes_nothing(works: Callable[..., Works]) -> None:
    here = works()
    job_id = here.submit()

    def slow(path: Path, limits: ProbeLimits) -> Any:
        jobs.release_owner(here.db, "media-1")
        assert jobs.claim(here.db, job_id, "media-2", 10.0) is not None
        return here.reel.probe(path, limits)

    here.change(video={"probe": slow})
    assert here.step(job_id) is None
    assert films.chunks_of(here.db, job_id) == ()
    assert here.recorder.woken == []


def test_a_cancelled_film_leaves_no_pack(works: Callable[..., Works], tmp_path: Path) -> None:
    here = works()
    job_id = here.submit()
    here.step(job_id)
    run_read(job_id, 0, here.reading.read)
    sweeper = Sweeper(
        here.db,
        here.recorder,
        here.recorder,
        load_settings(home=tmp_path),
        packs=here.packs,
    )
    assert sweeper.drop_packs() == 0, "it is waited for"
    jobs.cancel(here.db, DEFAULT_TENANT, job_id)
    run_read(job_id, 1, here.reading.read)
    assert sweeper.drop_packs() == 1
    assert here.packs.keys() == set()
    here.work()
    assert here.state(job_id) is JobState.CANCELLED


def test_options_of_the_job_within_the_settings(works: Callable[..., Works]) -> None:
    here = works()
    usual = SamplingOptions(max_frames=50)
    here.change(video={"sampling": usual})
    job_id = here.submit(VideoOptions(interval_s=0.5, max_frames=10_000))
    here.step(job_id)
    assert sum(len(_moments(row.asks)) for row in films.chunks_of(here.db, job_id)) == 50


def test_scenes_are_looked_for_where_the_job_asks_for_them(works: Callable[..., Works]) -> None:
    here = works(length_s=20.0, scenes=(4.0, 11.0))
    job_id = here.submit(VideoOptions(mode="scene"))
    here.step(job_id)
    moments = [time_s for row in films.chunks_of(here.db, job_id) for time_s in _moments(row.asks)]
    for start, end in ((0.5, 4.0), (4.0, 11.0), (11.0, 19.5)):
        assert any(start < time_s < end for time_s in moments)
    assert len(moments) < 12


def test_a_film_is_probed_once_by_a_worker_and_again_by_another(
    works: Callable[..., Works],
) -> None:
    here = works(red=[RED])
    probes: list[Path] = []

    def probe(path: Path, limits: ProbeLimits) -> Any:
        probes.append(path)
        return here.reel.probe(path, limits)

    here.change(video={"probe": probe})
    job_id = here.submit()
    for _ in range(3):  # planned, and a part of it looked at
        assert here.reading.once() | here.score_one()
    here.change(video={"indexes": Indexes()})
    here.work()
    assert here.verdict(job_id).decision is Decision.BLOCK
    assert len(probes) == 2


@pytest.mark.parametrize("gone", [True, False])
def test_what_was_seen_counts_although_the_file_cannot_be_opened_again(
    works: Callable[..., Works], gone: bool
) -> None:
    def refuse(path: Path, limits: ProbeLimits) -> Any:
        raise MediaError("it takes too long", code="decode_timeout")

    here = works(red=[RED])
    job_id = here.submit()
    here.step(job_id)
    while films.next_step(here.db, at_once=2, max_attempts=3) is None:
        assert here.reading.once() | here.score_one()
    here.files.gone = gone
    here.change(video={"indexes": Indexes(), "probe": refuse})
    here.work()
    assert here.verdict(job_id).status is Status.DONE
    assert here.verdict(job_id).decision is Decision.BLOCK


def test_the_indexes_of_the_latest_films_are_kept() -> None:
    kept = Indexes(most_frames=100)
    one = Reel(length_s=2.0).index  # 50 frames
    for name in "abac":
        kept.put(name, one)
    assert [name for name in "abc" if kept.get(name) is not None] == ["a", "c"]
    kept.put("long", Reel(length_s=10.0).index)
    assert [name for name in ("a", "c", "long") if kept.get(name)] == ["long"]


def _moments(asks: bytes) -> list[float]:
    return [time_s for time_s, _ in load_asks(asks).asks]


def test_the_moments_depend_on_a_secret_that_stays(tmp_path: Path) -> None:
    first, second = (sampling_secret(load_settings(home=tmp_path / n)) for n in ("a", "b"))
    assert first != second
    assert sampling_secret(load_settings(home=tmp_path / "a")) == first
    assert (tmp_path / "a" / "sampling-secret").stat().st_mode & 0o777 == 0o600
    told = load_settings(home=tmp_path / "c", sampling_secret="x")
    assert sampling_secret(told) == sampling_secret(load_settings(sampling_secret="x"))
    assert not (tmp_path / "c").exists()
    assert sampling_seed(first, SHA) == sampling_seed(first, SHA)
    assert sampling_seed(first, SHA) != sampling_seed(second, SHA)
    assert sampling_seed(first, SHA) != sampling_seed(first, "cd" * 32)


LIGHT_WORKER = """
import sys, workers.media
loaded = {"openvino", "torch", "moderation.models.backends.openvino"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


def test_a_media_worker_loads_no_backend() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIGHT_WORKER], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
