"""Between the scan and the report: evidence is made where a source is examined.

The thread that examined a source also makes its thumbnails, so that several are made at once,
and the bytes are still at hand. Until the verdict's turn has come its evidence waits here; no
more wait than verdicts do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from moderation.analyse import Analysis
from moderation.analyse_video import VideoAnalysis
from moderation.cli.html.evidence import Evidence
from moderation.cli.html.gather import SIDE, Still, of_picture, of_video
from moderation.cli.html.page import Basis, Report
from moderation.decoders import DecoderPool
from moderation.models.runner import Scorer
from moderation.policy import Policy
from moderation.scan import Examiner, Source
from moderation.settings import Settings
from moderation.stills import Pixels
from moderation.types import Decision, Verdict
from moderation.video.ffmpeg import program
from moderation.video.probe import VideoInfo
from moderation.video.source import ReadOptions
from moderation.video.still import still


class Collector:
    """Makes evidence of analyses, and hands it to the report with the verdict."""

    def __init__(
        self, report: Report, pool: DecoderPool, settings: Settings, *, pictures: bool
    ) -> None:
        self.report = report
        self._pool = pool
        self._settings = settings
        self._pictures = pictures
        self._kept: dict[str, Evidence] = {}
        self._current = threading.local()

    def on_video(self, source: Source, analysis: VideoAnalysis) -> None:
        reads: Still | None = None
        if self._shown(analysis.timeline.outcome.decision):
            reads = partial(_still, self._settings)
        if source.path is not None:
            self._current.evidence = of_video(source.path, analysis, reads)

    def on_picture(self, data: bytes, analysis: Analysis) -> None:
        pool = self._pool if self._shown(analysis.outcome.decision) else None
        self._current.evidence = of_picture(data, analysis, pool, self._settings)

    def _shown(self, decision: Decision) -> bool:
        return self._pictures and decision is not Decision.PASS and self.report.room

    def examined(self, examine: Examiner, source: Source) -> Verdict:
        """The verdict; the evidence that was made on the way waits for `add`."""
        self._current.evidence = None
        verdict = examine(source)
        if self._current.evidence is not None:
            self._kept[verdict.id] = self._current.evidence
        return verdict

    def add(self, verdict: Verdict) -> None:
        self.report.add(verdict, self._kept.pop(verdict.id, None))


@contextmanager
def collecting(
    path: Path,
    *,
    what: list[str],
    policy: Policy,
    scorer: Scorer,
    pool: DecoderPool,
    settings: Settings,
    pictures: str,
) -> Iterator[Collector]:
    """A report that is being written; its `finish` gives it its name. pictures: blurred (seen
    while they are held), clear or none. Raises ConfigError where
    there can be no file of that name."""
    basis = Basis(
        policy=policy,
        models=scorer.models,
        device=scorer.device,
        sources=tuple(what),
        settings=_settings(settings),
        pictures=pictures,
        started=datetime.now(UTC),
    )
    with Report(path, basis) as report:
        yield Collector(report, pool, settings, pictures=pictures != "none")


def _still(settings: Settings, path: Path, time_s: float, info: VideoInfo) -> Pixels:
    reading = ReadOptions(program(settings.ffmpeg), max_pixels=settings.max_pixels)
    return still(path, time_s, info, reading, max_side=SIDE)


def _settings(settings: Settings) -> dict[str, str]:
    """Those that a verdict depends on."""
    interval = settings.video_interval
    return {
        "Precision": settings.precision,
        "Video": "a frame every second, every 5 s in long films"
        if interval is None
        else f"a frame every {interval:g} s",
        "Most frames of a video": str(settings.video_max_frames),
        "Most frames of a picture": str(settings.max_frames),
    }
