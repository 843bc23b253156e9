"""A long film under `kill -9` of its workers: the verdict is that of an undisturbed run.

Runs on the fake backend. MODERATION_TEST_SEED chooses who is killed when.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from media import write
from served import Served, alive, until

from moderation.analyse_video import VideoAnalyser, VideoAnalysis
from moderation.blobs import blob_key, open_blobs
from moderation.models.runner import load_scorer
from moderation.policy import Policy, Rule
from moderation.settings import Settings, load_settings
from moderation.store import films, items, jobs
from moderation.store.engine import Database, open_database
from moderation.store.records import DEFAULT_TENANT, JobState, NewItem, NewMedia
from moderation.tasks.secret import sampling_secret, sampling_seed
from moderation.types import Decision, Status, Verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="the supervisor ties its children to itself on Linux alone"
    ),
]

SEED = int(os.environ.get("MODERATION_TEST_SEED", "7"))
KILLS = ("infer", "media") * 2
SECRET = "a secret of the test"
MINUTES = 8
PASSAGES = ((120.4, 123.4), (280.2, 292.0), (476.0, 480.0))
POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label="porn.explicit", review_at=0.7, block_at=0.9, min_frames=2, window=3),),
)


@pytest.fixture(scope="module")
def film() -> Iterator[Path]:
    """Eight minutes of moving grey, a key frame in 25 seconds, red in the passages."""
    red = "+".join(f"between(t,{start},{end - 0.001})" for start, end in PASSAGES)
    source = (
        f"testsrc2=size=160x120:rate=10:duration={MINUTES * 60},format=gray,format=yuv420p,"
        f"drawbox=w=iw:h=ih:color=red:t=fill:enable='{red}'"
    )
    words = ("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-g", "250")
    with tempfile.TemporaryDirectory(prefix="film") as folder:
        yield write(Path(folder) / "film.mp4", *words)


@pytest.fixture(scope="module")
def undisturbed(film: Path) -> VideoAnalysis:
    """What one process finds in the film, at the moments that the queue will look at too."""
    settings = load_settings(backend="fake", sampling_secret=SECRET)
    scorer = load_scorer(settings)
    seed = sampling_seed(sampling_secret(settings), sha256(film))
    analysis = VideoAnalyser.from_settings(scorer, settings, seed=seed).analyse(film, POLICY)
    scorer.close()
    assert len(analysis.timeline.passages) == len(PASSAGES)
    return analysis


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def serving(**settings: str) -> Iterator[tuple[Served, Settings, Database]]:
    with tempfile.TemporaryDirectory(prefix="mf") as folder:
        home = Path(folder) / "home"
        served = Served(home, **{"sampling_secret": SECRET, "max_attempts": "9"} | settings)
        told = load_settings(home=home, backend="fake", sampling_secret=SECRET)
        try:
            served.start()
            db = open_database(told.database)
            try:
                yield served, told, db
            finally:
                db.close()
        finally:
            served.destroy()


def submit(film: Path, settings: Settings, db: Database, policy: Policy = POLICY) -> str:
    digest = sha256(film)
    key = blob_key(DEFAULT_TENANT, digest)
    open_blobs(settings.blobs).put(key, film.read_bytes())
    medium = NewMedia(digest, film.stat().st_size, "mp4", key, kind="video")
    return jobs.submit(db, NewItem(DEFAULT_TENANT, medium, policy)).job_id


def state(db: Database, job_id: str) -> JobState:
    return jobs.get_job(db, DEFAULT_TENANT, job_id).state


def share(db: Database, job_id: str) -> float:
    """How much of the first round has been looked at; 1 when the job has ended."""
    row = jobs.get_job(db, DEFAULT_TENANT, job_id)
    told = films.progress(db, row)
    return 1.0 if row.state.ended or told is None else told.frames_done / (MINUTES * 60)


def check(verdict: Verdict | None, analysis: VideoAnalysis) -> None:
    """All that a reader may rely on is as in the undisturbed run."""
    assert verdict is not None
    timeline = analysis.timeline
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert verdict.segments == [passage.segment() for passage in timeline.passages]
    assert verdict.reasons == list(timeline.outcome.reasons)
    assert verdict.coverage == timeline.coverage
    assert verdict.models == ["fake@1"]


def check_nothing_is_left(served: Served) -> None:
    run = served.home / "run"
    until(lambda: list((run / "packs").iterdir()) == [], 20, "no pack is left")
    own = [path for folder in (run / "films").iterdir() for path in folder.iterdir()]
    assert [path.name for path in own] == ["lock"], "what dead workers fetched is deleted"
    zombies = {pid for pid in served.look() if Path(f"/proc/{pid}").exists() and not alive(pid)}
    assert zombies == set()


def killed(served: Served) -> int:
    """How many ends by `kill -9` the supervisor has told."""
    return served.log.read_text(errors="replace").count("ended with signal 9")


def test_kills_while_a_film_is_looked_at_change_nothing(
    film: Path, undisturbed: VideoAnalysis
) -> None:
    chance = random.Random(SEED)
    kills = list(KILLS)
    chance.shuffle(kills)
    moments = sorted(chance.uniform(0.02, 0.9) for _ in kills)
    with serving(fake_delay_ms="30") as (served, settings, db):
        job_id = submit(film, settings, db)
        for name, moment in zip(kills, moments, strict=True):
            until(
                lambda moment=moment: share(db, job_id) >= moment,  # type: ignore[misc]
                60,
                f"{moment:.0%} looked at",
            )
            served.kill(name)
        until(lambda: state(db, job_id).ended, 60, f"the film has its verdict\n{served.tail()}")
        until(lambda: killed(served) >= len(kills), 20, f"all ends are told\n{served.tail()}")
        assert killed(served) == len(kills), served.tail()
        check(items.verdict_of_job(db, job_id), undisturbed)
        assert len(items.history(db, DEFAULT_TENANT, item_of(db, job_id))) == 1
        check_nothing_is_left(served)
        assert served.stop() == 0


POISON = "10,200,30"


def test_a_part_that_kills_the_workers_is_not_seen_and_the_rest_is(tmp_path: Path) -> None:
    """Four seconds of a colour at which the fake backend ends its process."""
    grey = "testsrc2=size=160x120:rate=10:duration=240,format=gray,format=yuv420p"
    deadly = "drawbox=w=iw:h=ih:color=0x0AC81E:t=fill:enable='between(t,100,104)'"
    words = ("-f", "lavfi", "-i", f"{grey},{deadly}", "-c:v", "libx264", "-preset", "ultrafast")
    film = write(tmp_path / "film.mp4", *words)
    with serving(fake_crash=POISON, max_attempts="2") as (served, settings, db):
        job_id = submit(film, settings, db)
        until(lambda: state(db, job_id).ended, 60, f"the film has its verdict\n{served.tail()}")
        verdict = items.verdict_of_job(db, job_id)
        assert verdict is not None
        assert (verdict.status, verdict.decision) == (Status.DONE, Decision.REVIEW)
        assert verdict.coverage.unseen
        (lost,) = verdict.coverage.unseen
        assert lost[0] < 100
        assert lost[1] > 104
        assert lost[1] - lost[0] < 70, "one chunk"
        assert served.log.read_text(errors="replace").count("ended with exit code 70") == 2
        check_nothing_is_left(served)
        assert served.stop() == 0


def item_of(db: Database, job_id: str) -> str:
    return jobs.get_job(db, DEFAULT_TENANT, job_id).item_id


def test_a_film_goes_on_after_a_stop(film: Path, undisturbed: VideoAnalysis) -> None:
    # So slow that it is stopped long before the end, whatever holds up the test.
    with serving(fake_delay_ms="100") as (served, settings, db):
        job_id = submit(film, settings, db)
        until(lambda: share(db, job_id) > 0.1, 60, "a part is looked at")
        assert served.stop() == 0
        assert state(db, job_id) is JobState.RUNNING
        before = share(db, job_id)
        assert 0.1 < before < 0.9
        served.env["MODERATION_FAKE_DELAY_MS"] = "0"
        served.start()
        assert share(db, job_id) >= before, "what was looked at is kept"
        until(lambda: state(db, job_id).ended, 60, f"the film has its verdict\n{served.tail()}")
        check(items.verdict_of_job(db, job_id), undisturbed)
        check_nothing_is_left(served)
        assert served.stop() == 0
