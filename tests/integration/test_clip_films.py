"""A clip model that reads windows of films, through real ffmpeg and a painted model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from media import write
from served import KEY as KEY_OF_ADMIN
from served import until
from test_video_faults import SECRET, serving, sha256, state, submit

from moderation.aggregate import Frame
from moderation.analyse_video import VideoAnalyser, VideoAnalysis
from moderation.models.backends.fake import CLIP_LABEL, CLIP_REF, KEY, REF
from moderation.models.runner import Scorer, load_scorer
from moderation.policy import Policy, Rule
from moderation.settings import load_settings
from moderation.store import items
from moderation.tasks.secret import sampling_secret, sampling_seed
from moderation.types import Decision, InputKey, LabelScore, Status, Window
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import ProbeLimits, probe
from moderation.video.sampling import SamplingOptions, cut_windows
from moderation.video.source import ReadOptions

POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label=CLIP_LABEL, review_at=0.3, block_at=0.5, min_frames=2, window=3),),
)
LENGTH_S = 40.0


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scorer]]:
    started: list[Scorer] = []

    def start(*, clip: bool = True) -> Scorer:
        monkeypatch.setenv("MODERATION_FAKE_CLIP", "1" if clip else "0")
        started.append(load_scorer(load_settings(backend="fake")))
        return started[-1]

    yield start
    for one in started:
        one.close()


def film(path: Path, *, picture: str = "testsrc2=rate=24", drawn: str = "0") -> Path:
    """40 s of grey at 24 frames/s, a key frame in ten seconds. drawn: when it is white."""
    white = f"drawbox=w=iw:h=ih:color=white:t=fill:enable='{drawn}'"
    source = f"{picture}:size=320x240:duration={LENGTH_S},fps=24,format=gray,format=yuv420p,{white}"
    words = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "240")
    return write(path, "-f", "lavfi", "-i", source, *words)


def flicker(start: float, end: float) -> str:
    """White for three frames, and not for three: frames of a window lie three apart."""
    return f"between(t,{start},{end - 0.001})*lt(mod(n,6),3)"


def analyse(path: Path, scorer: Scorer) -> VideoAnalysis:
    analyser = VideoAnalyser(
        scorer,
        ReadOptions(program()),
        ProbeLimits(),
        SamplingOptions(seed="a seed"),
        DedupeOptions(),
    )
    return analyser.analyse(path, POLICY)


def by(frames: tuple[Frame, ...], ref: str) -> list[float]:
    """When a model answered the label of clips."""
    return [
        f.time_s
        for f in frames
        if f.peaks and CLIP_LABEL in f.peaks and f.peaks[CLIP_LABEL].model == ref
    ]


@pytest.mark.parametrize("passage", [(12.3, 15.3), (0.0, 3.0), (37.0, 40.0), (19.0, 22.0)])
def test_what_flickers_is_found_with_its_borders(
    tmp_path: Path, scorer: Callable[..., Scorer], passage: tuple[float, float]
) -> None:
    analysis = analyse(film(tmp_path / "film.mp4", drawn=flicker(*passage)), scorer())
    (found,) = analysis.timeline.passages
    assert (found.label, found.decision, found.peak.model) == (
        CLIP_LABEL,
        Decision.BLOCK,
        CLIP_REF,
    )
    assert found.start_s == pytest.approx(passage[0], abs=1.0)
    assert found.end_s == pytest.approx(passage[1], abs=1.0)
    assert passage[0] <= found.peak_s <= passage[1]
    assert analysis.timeline.coverage.complete
    assert by(analysis.frames, REF) == [], "a single white frame says nothing of a fight"
    assert len(by(analysis.frames, CLIP_REF)) > LENGTH_S / 2


def test_of_a_window_every_frame_is_kept_at_its_own_size(tmp_path: Path) -> None:
    """Near-duplicates too: a small movement is what a clip model looks for."""
    path = film(tmp_path / "film.mp4", picture="testsrc2=rate=0.2")
    probed = probe(path, ProbeLimits())
    window = Window(InputKey(48, 36, interpolation="bilinear"), frames=16, rate=12.0, every_s=3.0)
    (chunk,) = cut_windows([1.0, 4.2], window, probed.index, first=0)
    reading = ReadOptions(program())
    pack = look(path, chunk, probed.info, (KEY,), reading, DedupeOptions())
    assert {key: len(pixels) for key, pixels in pack.pixels.items()} == {window.key: 32}
    assert [one.time_s for one in pack.looks] == [time_s for time_s, _ in chunk.asks]
    for one, (_, own_s) in zip(pack.looks, chunk.asks, strict=True):
        assert one.shown_s == one.source_s == pytest.approx(own_s, abs=0.001)


def test_slides_are_read_in_no_window(tmp_path: Path, scorer: Callable[..., Scorer]) -> None:
    """One may be a photograph of a fight: what the single frame says counts."""
    slides = film(tmp_path / "film.mp4", picture="testsrc2=rate=0.2")
    analysis = analyse(slides, scorer())
    assert by(analysis.frames, CLIP_REF) == []
    (found,) = analysis.timeline.passages
    assert (found.label, found.peak.model) == (CLIP_LABEL, REF)
    plain = analyse(slides, scorer(clip=False))
    assert [(f.time_s, f.peaks) for f in analysis.frames] == [
        (f.time_s, f.peaks) for f in plain.frames
    ]


def test_a_clip_model_changes_nothing_of_what_other_labels_have(
    tmp_path: Path, scorer: Callable[..., Scorer]
) -> None:
    path = film(tmp_path / "film.mp4", drawn="between(t,20,26)")
    plain, clips = analyse(path, scorer(clip=False)), analyse(path, scorer())
    assert len(by(plain.frames, REF)) == len(plain.frames) > LENGTH_S / 2
    assert others(plain).items() >= others(clips).items()
    assert len(others(clips)) > LENGTH_S / 2


def others(analysis: VideoAnalysis) -> dict[float, dict[str, LabelScore]]:
    """The scores of single moments, but for the label of clips."""
    told = {
        f.time_s: {label: found for label, found in f.peaks.items() if label != CLIP_LABEL}
        for f in analysis.frames
        if f.peaks is not None
    }
    return {time_s: peaks for time_s, peaks in told.items() if peaks}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="`serve` ties its children on Linux alone")
def test_over_the_queue_a_film_has_the_verdict_of_scan(
    tmp_path: Path, scorer: Callable[..., Scorer]
) -> None:
    path = film(tmp_path / "film.mp4", drawn=flicker(12.3, 15.3))
    settings = load_settings(backend="fake", sampling_secret=SECRET)
    seed = sampling_seed(sampling_secret(settings), sha256(path))
    timeline = (
        VideoAnalyser.from_settings(scorer(), settings, seed=seed).analyse(path, POLICY).timeline
    )
    assert len(timeline.passages) == 1
    with serving(fake_clip="1") as (served, told, db):
        job_id = submit(path, told, db, POLICY)
        until(lambda: state(db, job_id).ended, 60, f"the film has its verdict\n{served.tail()}")
        verdict = items.verdict_of_job(db, job_id)
        assert verdict is not None
        assert (verdict.status, verdict.decision) == (Status.DONE, Decision.BLOCK)
        assert verdict.segments == [passage.segment() for passage in timeline.passages]
        assert verdict.reasons == list(timeline.outcome.reasons)
        assert verdict.coverage == timeline.coverage
        assert verdict.models == [CLIP_REF, REF]
        key = {"Authorization": f"Bearer {KEY_OF_ADMIN}"}
        models = httpx.get(f"{served.url}/v1/models", headers=key).json()["models"]
        assert [(one["id"], one["task"]) for one in models] == [
            ("fake", "classification"),
            ("fake-clip", "clip"),
        ]
        assert served.stop() == 0
