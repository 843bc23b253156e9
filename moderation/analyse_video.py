"""A video file -> segments, decision, coverage: plan, read, score, look closer, aggregate."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from moderation.aggregate import Frame, Timeline, aggregate, hits
from moderation.errors import MediaError
from moderation.models.runner import Scorer
from moderation.pdq import pdq_hash
from moderation.policy import Policy, flat_scores, summarise
from moderation.settings import Settings
from moderation.types import (
    DecodedImage,
    LabelScore,
    MediaInfo,
    MediaScores,
    Status,
    Verdict,
    View,
)
from moderation.video.dedupe import DedupeOptions, Deduper, FrameHash
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits, VideoInfo, probe
from moderation.video.sampling import Chunk, SamplingOptions, chunks, plan, refine
from moderation.video.source import ReadOptions, VideoFrame, lead_s, read_frames

BATCH = 8
"""Frames that are scored at once; so many are held at a time."""
TOLERANCE_S = 0.25
"""How closely the borders of a segment are looked for."""
PARTS = 4
ROUNDS = 6
"""Rounds of looking closer: four parts a round take 5 s to 0.25 s in three."""

Progress = Callable[[int, int], None]
"""Moments looked at so far, and moments known to be needed so far."""
Peaks = dict[str, LabelScore]


@dataclass(frozen=True, slots=True)
class VideoAnalysis:
    """What a video is, and what a policy says of it. timings_ms: probe, total."""

    info: VideoInfo
    timeline: Timeline
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class VideoAnalyser:
    """Reads and scores in the calling thread; the scorer may be shared with other threads."""

    scorer: Scorer
    reading: ReadOptions
    limits: ProbeLimits
    sampling: SamplingOptions
    dedupe: DedupeOptions

    @classmethod
    def from_settings(cls, scorer: Scorer, settings: Settings, *, seed: str) -> Self:
        """seed: decides which moments are sampled; see `SamplingOptions`. Raises ConfigError
        where there is no ffmpeg."""
        return cls(
            scorer=scorer,
            reading=ReadOptions(program(settings.ffmpeg), max_pixels=settings.max_pixels),
            limits=ProbeLimits(
                max_duration_s=settings.max_video_seconds, max_pixels=settings.max_pixels
            ),
            sampling=SamplingOptions(
                interval_s=settings.video_interval,
                max_frames=settings.video_max_frames,
                seed=seed,
            ),
            dedupe=DedupeOptions(),
        )

    def analyse(
        self, path: Path, policy: Policy, *, progress: Progress | None = None
    ) -> VideoAnalysis:
        """Look at the whole video, and closer where a label comes or goes.

        A part that cannot be read is not seen, and follows the policy's `on_failure`. Raises
        MediaError where the file is no usable video, ServiceError where our side failed.
        """
        started = time.perf_counter()
        info = probe(path, self.limits)
        probed = time.perf_counter()
        if info.duration_s is None:
            raise MediaError("the video does not tell how long it is", code="no_duration")
        planned = plan(info.duration_s, info.fps, self.sampling)
        tell = progress or (lambda done, wanted: None)
        frames: list[Frame] = []
        asked = planned
        for _ in range(ROUNDS):
            parts = chunks(asked)
            wanted = len(frames) + len(asked.times)
            for part in parts:
                frames += self._look(path, info, part)
                tell(len(frames), wanted)
            seen = sorted((f.time_s, hits(f.peaks, policy)) for f in frames if f.peaks is not None)
            distinct = dict(seen)
            extra = refine(
                list(distinct),
                list(distinct.values()),
                tolerance_s=max(TOLERANCE_S, 2 / (info.fps or 25.0)),
                parts=PARTS,
            )
            if not extra:
                break
            asked = replace(asked, times=extra)
        timeline = aggregate(
            frames,
            policy,
            duration_s=info.duration_s,
            frames_total=round(info.duration_s * (info.fps or 0.0)),
            gap_s=planned.largest_gap_s + 1.0,  # a moment's frame may come late by its own length
        )
        timings = {
            "probe": (probed - started) * 1000,
            "total": (time.perf_counter() - started) * 1000,
        }
        return VideoAnalysis(info, timeline, timings)

    def _look(self, path: Path, info: VideoInfo, part: Chunk) -> list[Frame]:
        """The moments of one chunk, seen or not."""
        scored = _Scored(self.scorer, info, self.dedupe)
        # Where nothing, or nothing more, can be read, the moments themselves say so.
        with suppress(MediaError):
            for frame in read_frames(path, part.times, info.fps, self.scorer.keys, self.reading):
                scored.add(frame)
        scored.finish()
        return [scored.at(time_s) for time_s in part.times]


def video_verdict(
    analysis: VideoAnalysis,
    *,
    id: str,  # noqa: A002 - the verdict's own field name
    policy: Policy,
    models: Sequence[str],
    device: str | None,
    source: str | None = None,
) -> Verdict:
    """The public verdict. Sound is not analysed, and the coverage says so."""
    timeline = analysis.timeline
    coverage = timeline.coverage
    if analysis.info.audio:
        note = f"sound not analysed ({', '.join(analysis.info.audio)})"
        coverage = coverage.model_copy(update={"notes": [*coverage.notes, note]})
    return Verdict(
        id=id,
        source=source,
        status=Status.DONE,
        decision=timeline.outcome.decision,
        reasons=list(timeline.outcome.reasons),
        scores=flat_scores(timeline.peaks),
        segments=[passage.segment() for passage in timeline.passages],
        coverage=coverage,
        policy=policy.ref,
        models=list(models),
        device=device,
        timings_ms={name: round(value, 2) for name, value in analysis.timings_ms.items()},
    )


class _Scored:
    """The frames of a chunk with their scores, near-duplicates sharing those of another."""

    def __init__(self, scorer: Scorer, info: VideoInfo, options: DedupeOptions) -> None:
        self._scorer = scorer
        self._info = info
        self._lead_s = lead_s(info.fps)
        self._deduper = Deduper(options)
        self._waiting: list[VideoFrame] = []
        self._times: list[float] = []
        self._source: dict[float, float] = {}
        self._peaks: dict[float, Peaks] = {}

    def add(self, frame: VideoFrame) -> None:
        largest = max(frame.pixels, key=lambda key: key.width * key.height)
        pdq, quality = pdq_hash(frame.pixels[largest])
        choice = self._deduper.add(FrameHash(frame.time_s, pdq, quality))
        self._times.append(frame.time_s)
        self._source[frame.time_s] = choice.source_s
        if choice.kept:
            self._waiting.append(frame)
            if len(self._waiting) == BATCH:
                self.finish()

    def finish(self) -> None:
        """Score what waits."""
        if not self._waiting:
            return
        views = tuple(View(frame=i, time_s=f.time_s) for i, f in enumerate(self._waiting))
        scores = self._scorer.score(self._decoded(views)).scores
        for view, one in zip(views, scores, strict=True):
            self._peaks[view.time_s] = summarise(MediaScores((view,), (one,)))
        self._waiting.clear()

    def at(self, time_s: float) -> Frame:
        """The frame shown at a moment; where it is held longer than usual, the next one. A
        moment without a frame was not seen."""
        index = bisect_right(self._times, time_s - self._lead_s)
        if index == len(self._times):
            return Frame(time_s, None)
        own = self._times[index]
        source = self._source[own]
        return Frame(max(time_s, own), self._peaks[source], shown_s=own, shared=source != own)

    def _decoded(self, views: Sequence[View]) -> DecodedImage:
        info = MediaInfo(
            format=self._info.codec,
            width=self._info.width,
            height=self._info.height,
            frames_total=len(views),
            frames_decoded=len(views),
            size_bytes=self._info.size_bytes,
        )
        pixels = {
            key: np.stack([frame.pixels[key] for frame in self._waiting])
            for key in self._scorer.keys
        }
        return DecodedImage(info, tuple(views), pixels)
