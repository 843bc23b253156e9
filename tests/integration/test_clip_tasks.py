"""Windows of a film through the queue, step by step, with what goes wrong painted in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from test_video_tasks import Works

from moderation.analyse_video import score_pack
from moderation.errors import ServiceError
from moderation.models.backends.fake import CLIP_LABEL, CLIP_REF, KEY, REF, WINDOW
from moderation.models.keys import input_windows
from moderation.models.runner import Scorer, load_scorer
from moderation.packs import open_packs
from moderation.policy import Policy, Rule
from moderation.settings import load_settings
from moderation.store import films, items
from moderation.store.engine import Database
from moderation.store.frames import load_asks
from moderation.store.records import DEFAULT_TENANT, VideoOptions
from moderation.store.tables import fingerprint
from moderation.tasks.read import run_read
from moderation.tasks.score import run_score
from moderation.tasks.video import Indexes
from moderation.types import Decision, Status
from moderation.video.dedupe import DedupeOptions
from moderation.video.pack import FramePack, Look
from moderation.video.sampling import Chunk, cut_windows
from moderation.video.source import ReadOptions
from tests.fakes.reels import Reel

FLICKERS = (71.3, 77.1)
POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label=CLIP_LABEL, review_at=0.2, block_at=0.3, min_frames=2, window=3),),
)


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scorer]:
    monkeypatch.setenv("MODERATION_FAKE_CLIP", "1")
    scorer = load_scorer(load_settings(backend="fake"))
    yield scorer
    scorer.close()


@pytest.fixture
def works(db: Database, tmp_path: Path, clip: Scorer) -> Callable[..., Works]:
    def make(scorer: Scorer = clip, **reel: Any) -> Works:
        here = Works(db, open_packs((tmp_path / "packs").as_uri()), scorer, Reel(**reel))
        here.change(video={"windows": input_windows(load_settings(backend="fake"))})
        return here

    return make


def submit(here: Works, video: VideoOptions | None = None) -> str:
    return here.submit(video, policy=POLICY)


def windows_of(here: Works, job_id: str) -> list[int]:
    """The numbers of the chunks that read windows."""
    rows = films.chunks_of(here.db, job_id)
    return [row.number for row in rows if load_asks(row.asks).window is not None]


def first_round(here: Works, job_id: str) -> None:
    """The first round is scored, and the second planned."""
    while not (windows := windows_of(here, job_id)):
        assert here.reading.once() | here.score_one()
    assert len(windows) > 10


def test_what_flickers_is_found_in_windows_alone(works: Callable[..., Works]) -> None:
    here = works(flickers=[FLICKERS])
    job_id = submit(here)
    first_round(here, job_id)
    known = [row.hashes for row in films.chunks_of(here.db, job_id) if row.hashes is not None]
    here.work()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert verdict.segments is not None
    (segment,) = verdict.segments
    assert (segment.start_s, segment.end_s) == pytest.approx(FLICKERS, abs=1.0)
    assert verdict.models == [CLIP_REF, REF]
    assert [reason.model for reason in verdict.reasons] == [CLIP_REF]
    assert verdict.coverage.complete

    (packed,) = items.scores_of_job(here.db, DEFAULT_TENANT, job_id)
    column = packed.values[:, packed.labels.index(CLIP_LABEL)]
    others = packed.values[:, packed.labels.index("violence.gore")]
    assert (np.isnan(column) ^ np.isnan(others)).all(), "one source at each moment"
    with here.db.connect() as connection:
        frames = connection.execute(select(fingerprint.c.frames)).scalar_one()
    assert len(known) == 3
    assert frames < 160, "copies are known by single frames alone"


def test_a_still_film_is_read_in_no_window(works: Callable[..., Works]) -> None:
    here = works()
    here.change(look=still(here.reel))
    job_id = submit(here)
    here.work()
    assert here.reel.looked == [0, 1, 2]
    verdict = here.verdict(job_id)
    assert verdict.scores[CLIP_LABEL] > 0.3, "what a single frame says, which is grey"
    assert verdict.decision is Decision.BLOCK


def still(reel: Reel) -> Callable[..., FramePack]:
    """The reel as a film in which all frames look alike."""

    def look(*asked: Any) -> FramePack:
        pack = reel.look(*asked)
        return replace(pack, hashes=tuple(replace(one, pdq="ab" * 32) for one in pack.hashes))

    return look


def test_windows_that_cannot_be_scored_are_not_seen(works: Callable[..., Works]) -> None:
    """Infer workers without the clip model that media workers know of."""
    here = works(flickers=[FLICKERS])
    job_id = submit(here)
    first_round(here, job_id)
    here.score = replace(here.score, scorer=Without(here.score.scorer))  # type: ignore[arg-type]
    for _ in range(6):
        here.work()
        here.without_backoff()
    here.work()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.REVIEW)
    assert not verdict.coverage.complete
    assert verdict.segments == []
    assert CLIP_LABEL not in verdict.scores
    assert "coverage.unseen" in [reason.label for reason in verdict.reasons]


class Without:
    """A scorer whose clip model was taken away."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.windows: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)


def test_a_file_that_goes_away_leaves_its_windows_unseen(works: Callable[..., Works]) -> None:
    here = works(flickers=[FLICKERS])
    job_id = submit(here)
    here.step(job_id)
    for number in range(3):
        assert run_read(job_id, number, here.reading.read)
        assert run_score(job_id, number, here.score)
    here.files.gone = True
    here.change(video={"indexes": Indexes()})
    here.work()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.REVIEW)
    assert not verdict.coverage.complete


def test_a_window_chunk_that_failed_loses_its_windows_and_no_others(
    works: Callable[..., Works],
) -> None:
    here = works(flickers=[FLICKERS])
    job_id = submit(here)
    first_round(here, job_id)
    lost = windows_of(here, job_id)[0]
    asks = next(
        load_asks(row.asks) for row in films.chunks_of(here.db, job_id) if row.number == lost
    )

    def look(path: Path, chunk: Chunk, *rest: Any) -> FramePack:
        if chunk.number == lost:
            raise ServiceError("disk full")
        return here.reel.look(path, chunk, *rest)

    here.change(look=look)
    for _ in range(4):
        here.work()
        here.without_backoff()
    verdict = here.verdict(job_id)
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
    assert verdict.coverage.unseen
    assert verdict.coverage.unseen[0][0] <= asks.asks[0][0]
    assert verdict.coverage.unseen[-1][1] >= asks.asks[-1][0] - WINDOW.span_s
    assert verdict.coverage.frames_failed == len(asks.moments)


def test_a_single_frame_does_not_stop_a_film_for_a_label_of_windows(
    works: Callable[..., Works],
) -> None:
    """Each grey one is a fight to the fake model of single frames."""
    here = works(flickers=[FLICKERS])
    job_id = submit(here, VideoOptions(stop_on=Decision.REVIEW))
    here.work()
    verdict = here.verdict(job_id)
    assert verdict.coverage.complete, "nothing was skipped"
    assert verdict.decision is Decision.BLOCK


def test_a_window_that_lacks_a_frame_was_not_seen(clip: Scorer) -> None:
    reel = Reel(20.0, flickers=[(0.0, 20.0)])
    (chunk,) = cut_windows([2.0, 5.0], replace(WINDOW, every_s=3.0), reel.index, first=0)
    chunk = replace(chunk, window=WINDOW)
    args = (chunk, reel.info, (KEY,), ReadOptions("ffmpeg"), DedupeOptions())
    pack = reel.look(Path(), *args)
    whole = score_pack(clip, pack, reel.info, POLICY, WINDOW)
    assert [frame.time_s for frame in whole] == [2.5, 5.5]
    assert all(f.peaks and set(f.peaks) == {CLIP_LABEL} and f.views == 1 for f in whole)
    for lost in (0, 4, 7):
        looks = list(pack.looks)
        looks[lost] = Look(looks[lost].time_s)
        first, second = score_pack(
            clip, replace(pack, looks=tuple(looks)), reel.info, POLICY, WINDOW
        )
        assert (first.time_s, first.peaks) == (2.5, None)
        assert second.peaks == whole[1].peaks
