"""Films with a painted passage -> segments, through real ffmpeg and painted scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from media import write

from moderation.analyse_video import VideoAnalyser, VideoAnalysis
from moderation.errors import MediaError
from moderation.models.backends.fake import FakeModels
from moderation.models.runner import Scorer, load_scorer
from moderation.policy import Policy, Rule
from moderation.settings import load_settings
from moderation.types import Decision
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits
from moderation.video.sampling import SamplingOptions
from moderation.video.source import ReadOptions

PORN = "porn.explicit"
POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label=PORN, review_at=0.7, block_at=0.9, min_frames=2, window=3),),
)
LENGTH_S = 40.0


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    scorer = load_scorer(load_settings(backend="fake"))
    yield scorer
    scorer.close()


def film(path: Path, *passages: tuple[float, float]) -> Path:
    """40 s of moving grey, 25 frames/s, a key frame in ten seconds, red in the passages."""
    red = "+".join(f"between(t,{start},{end - 0.001})" for start, end in passages) or "0"
    draw = f"drawbox=w=iw:h=ih:color=red:t=fill:enable='{red}'"
    source = f"testsrc2=size=160x120:rate=25:duration={LENGTH_S},format=gray,format=yuv420p,{draw}"
    words = ("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-g", "250")
    return write(path, *words)


def analyse(
    path: Path, scorer: Scorer, *, policy: Policy = POLICY, **options: object
) -> VideoAnalysis:
    analyser = VideoAnalyser(
        scorer=scorer,
        reading=ReadOptions(program()),
        limits=ProbeLimits(),
        sampling=SamplingOptions(seed="a seed", **options),  # type: ignore[arg-type]
        dedupe=DedupeOptions(),
    )
    return analyser.analyse(path, policy)


@pytest.mark.parametrize("passage", [(12.3, 15.3), (0.0, 3.0), (37.0, 40.0), (23.5, 26.5)])
def test_a_passage_is_found_with_its_borders(
    tmp_path: Path, scorer: Scorer, passage: tuple[float, float]
) -> None:
    analysis = analyse(film(tmp_path / "film.mp4", passage), scorer)
    (found,) = analysis.timeline.passages
    assert (found.label, found.decision) == (PORN, Decision.BLOCK)
    assert found.start_s == pytest.approx(passage[0], abs=0.3)
    assert found.end_s == pytest.approx(passage[1], abs=0.3)
    assert passage[0] <= found.peak_s <= passage[1]
    assert analysis.timeline.outcome.decision is Decision.BLOCK
    assert analysis.timeline.coverage.complete
    assert analysis.timeline.peaks[PORN].score > 0.9


def test_two_passages_are_two_segments(tmp_path: Path, scorer: Scorer) -> None:
    analysis = analyse(film(tmp_path / "film.mp4", (5.0, 9.0), (30.0, 33.0)), scorer)
    starts = [passage.start_s for passage in analysis.timeline.passages]
    assert starts == pytest.approx([5.0, 30.0], abs=0.3)


GUN = Policy(
    id="guns",
    version=1,
    rules=(
        Rule(
            label="violence.weapon",
            review_at=0.7,
            block_at=0.9,
            block_needs="evidence",
            min_frames=2,
            window=3,
        ),
    ),
)


def weapon(path: Path, *, box_at: tuple[float, float] | None) -> Path:
    """40 s of moving grey, from 12 to 18 s a still of cyan and white (a weapon to the fake model),
    with a green patch in it for a while, which the fake model marks."""
    still = "enable='between(t,12,17.999)'"
    cyan = f"drawbox=w=iw:h=ih:color=cyan:t=fill:{still}"
    # A plain picture's hash means little, and it is no near-duplicate of anything.
    cyan += "".join(
        f",drawbox=x={x}:y={y}:w={w}:h={h}:color=white:t=fill:{still}"
        for x, y, w, h in ((0, 0, 30, 60), (60, 0, 20, 28), (130, 10, 30, 100), (20, 95, 90, 25))
    )
    parts = [
        f"testsrc2=size=160x120:rate=25:duration={LENGTH_S}",
        "format=gray,format=yuv420p",
        cyan,
    ]
    if box_at is not None:
        when = f"between(t,{box_at[0]},{box_at[1] - 0.001})"
        parts.append(f"drawbox=x=40:y=30:w=80:h=60:color=lime:t=fill:enable='{when}'")
    words = ("-f", "lavfi", "-i", ",".join(parts), "-c:v", "libx264", "-preset", "ultrafast")
    return write(path, *words, "-g", "250")


def test_boxes_of_a_film_have_the_time_of_their_frame(tmp_path: Path, scorer: Scorer) -> None:
    path = weapon(tmp_path / "film.mp4", box_at=(14.0, 16.0))
    timeline = analyse(path, scorer, policy=GUN).timeline
    (passage,) = timeline.passages
    (reason,) = timeline.outcome.reasons
    assert (reason.decision, reason.sublabel) == (Decision.BLOCK, "pistol")
    segment = passage.segment()
    assert segment.boxes == reason.boxes
    assert segment.boxes_s == reason.boxes_s
    assert segment.boxes_s is not None
    assert 14.0 <= segment.boxes_s < 16.0
    assert reason.boxes[0][:4] == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.04)


def test_a_still_that_is_shown_for_long_is_no_evidence(tmp_path: Path, scorer: Scorer) -> None:
    """Its frames agree, for they are one picture; it takes a box."""
    timeline = analyse(weapon(tmp_path / "film.mp4", box_at=None), scorer, policy=GUN).timeline
    (passage,) = timeline.passages
    assert passage.decision is Decision.REVIEW
    assert passage.peak.score > 0.9
    assert passage.end_s - passage.start_s > 5


def test_nothing_to_find_is_a_pass_with_full_coverage(tmp_path: Path, scorer: Scorer) -> None:
    analysis = analyse(film(tmp_path / "film.mp4"), scorer)
    coverage = analysis.timeline.coverage
    assert analysis.timeline.outcome.decision is Decision.PASS
    assert analysis.timeline.passages == ()
    assert coverage.complete
    assert coverage.frames_sampled is not None
    assert coverage.frames_sampled >= LENGTH_S
    assert coverage.frames_total == LENGTH_S * 25


def test_a_single_odd_frame_does_not_block(tmp_path: Path, scorer: Scorer) -> None:
    """Read at every frame, so that the odd one is certainly seen."""
    source = film(tmp_path / "film.mp4", (20.0, 20.04))
    analysis = analyse(source, scorer, mode="fps", rate=25.0)
    assert analysis.timeline.peaks[PORN].score > 0.9
    assert analysis.timeline.outcome.decision is Decision.REVIEW


def test_a_part_that_cannot_be_read_is_not_seen(tmp_path: Path, scorer: Scorer) -> None:
    whole = film(tmp_path / "film.mp4", (5.0, 8.0))
    stream = write(tmp_path / "whole.mkv", "-i", str(whole), "-c", "copy")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    timeline = analyse(cut, scorer).timeline
    assert not timeline.coverage.complete
    assert timeline.coverage.unseen
    assert timeline.coverage.unseen[-1][1] == pytest.approx(LENGTH_S, abs=0.1)
    assert timeline.outcome.decision is Decision.BLOCK  # what was seen counts all the same
    assert any(reason.label == "coverage.unseen" for reason in timeline.outcome.reasons)


def test_progress_counts_moments(tmp_path: Path) -> None:
    scorer = Scorer(FakeModels(), load_settings(backend="fake"))
    told: list[tuple[int, int, float]] = []
    analyser = VideoAnalyser(
        scorer, ReadOptions(program()), ProbeLimits(), SamplingOptions(), DedupeOptions()
    )
    analyser.analyse(film(tmp_path / "film.mp4"), POLICY, progress=lambda *at: told.append(at))
    scorer.close()
    assert told[0][0] == 0, "what is to come is told at the beginning"
    assert told[-1][0] == told[-1][1]
    assert [at[0] for at in told] == sorted(at[0] for at in told)
    assert {at[2] for at in told} == {LENGTH_S}


@pytest.mark.parametrize("container", ["mkv", "ts", "avi", "flv"])
def test_borders_are_found_in_every_sort_of_container(
    tmp_path: Path, scorer: Scorer, container: str
) -> None:
    whole = film(tmp_path / "film.mp4", (12.3, 15.3), (30.5, 33.5))
    path = write(tmp_path / f"film.{container}", "-i", str(whole), "-c", "copy")
    analysis = analyse(path, scorer)
    starts = [passage.start_s for passage in analysis.timeline.passages]
    assert starts == pytest.approx([12.3, 30.5], abs=0.3)
    assert analysis.timeline.coverage.complete


def test_what_is_no_video_is_one_clear_error(tmp_path: Path, scorer: Scorer) -> None:
    nonsense = tmp_path / "n.mp4"
    nonsense.write_bytes(b"nonsense" * 100)
    with pytest.raises(MediaError, match="not a readable video"):
        analyse(nonsense, scorer)


def test_a_film_whose_frames_hardly_ever_need_each_other_is_seen_whole(
    tmp_path: Path, scorer: Scorer
) -> None:
    """All but the key frames may be skipped by a decoder that is told to."""
    whole = film(tmp_path / "film.mp4", (12.3, 15.3))
    words = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-x264-params")
    loose = write(tmp_path / "loose.mp4", "-i", str(whole), *words, "ref=1:bframes=16:b-adapt=0")
    analysis = analyse(loose, scorer)
    assert analysis.timeline.coverage.complete
    assert [round(p.start_s) for p in analysis.timeline.passages] == [12]


def test_scenes_are_met_by_their_own_moments(tmp_path: Path, scorer: Scorer) -> None:
    path = film(tmp_path / "film.mp4", (20.4, 21.0))
    analysis = analyse(path, scorer, mode="scene", max_gap_s=30.0)
    (passage,) = analysis.timeline.passages
    assert (passage.start_s, passage.end_s) == pytest.approx((20.4, 21.0), abs=0.3)
    assert len(analysis.frames) < 40
