"""A video file -> segments, decision, coverage, in this process: read, score, look closer, judge.

Some threads read chunks, each with an ffmpeg of its own, while the calling thread scores what
they bring.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moderation.aggregate import PLAIN, Frame, Timeline, floors
from moderation.clips import Seen, judged, look_on
from moderation.film import ROUNDS, Film, begin, conclude
from moderation.models.runner import Scorer
from moderation.policy import Policy, summarise
from moderation.settings import Settings
from moderation.types import DecodedImage, LabelScore, MediaInfo, MediaScores, View, Window
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.pack import FramePack
from moderation.video.probe import ProbeLimits, VideoInfo, probe
from moderation.video.sampling import Chunk, SamplingOptions
from moderation.video.scenes import find_scenes
from moderation.video.source import ReadOptions

Progress = Callable[[int, int, float], None]
"""Moments looked at so far, moments known to be needed so far, seconds of the whole video."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoAnalysis:
    """What a video is, and what a policy says of it. frames: every moment that was asked for,
    over all rounds, as it was judged. timings_ms: probe, total."""

    film: Film
    frames: tuple[Frame, ...]
    timeline: Timeline
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class VideoAnalyser:
    """Looks at one video at a time; the scorer may be shared with other threads. readers: how
    many chunks are read at once."""

    scorer: Scorer
    reading: ReadOptions
    limits: ProbeLimits
    sampling: SamplingOptions
    dedupe: DedupeOptions
    readers: int = 2

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
            readers=settings.decoders,
        )

    def analyse(
        self, path: Path, policy: Policy, *, progress: Progress | None = None
    ) -> VideoAnalysis:
        """Look at the whole video, and closer where a label comes or goes.

        A part that cannot be read is not seen, and follows the policy's `on_failure`. Raises
        MediaError where the file is no usable video, ServiceError where our side failed.
        """
        started = time.perf_counter()
        probed = probe(path, self.limits)
        probe_ms = (time.perf_counter() - started) * 1000
        tell = progress or (lambda done, wanted, film_s: None)
        seen = Seen()
        scenes = None
        if self.sampling.mode == "scene":
            scenes = find_scenes(path, probed.info, self.reading)
        film, parts = begin(probed.info, probed.index, self.sampling, scenes)
        chunks = done = 0
        with ThreadPoolExecutor(self.readers, thread_name_prefix="reader") as pool:
            for round_ in range(ROUNDS):
                wanted = done + sum(len(chunk.asks) for chunk in parts)
                tell(done, wanted, probed.info.duration_s)
                for chunk, pack in self._packs(pool, path, parts, probed.info):
                    frames = score_pack(self.scorer, pack, probed.info, policy, chunk.window)
                    seen.add(round_, chunk.window, frames, pack.hashes)
                    done += len(chunk.asks)
                    tell(done, wanted, probed.info.duration_s)
                chunks += len(parts)
                parts = look_on(
                    seen,
                    policy,
                    film,
                    probed.index,
                    self.scorer.windows,
                    rounds=round_ + 1,
                    first=chunks,
                )
                if not parts:
                    break
        told = judged(seen, self.scorer.windows, film)
        timeline = conclude(told, policy, film)
        total_ms = (time.perf_counter() - started) * 1000
        timings = {"probe": probe_ms, "total": total_ms}
        return VideoAnalysis(film, told, timeline, timings)

    def _packs(
        self, pool: ThreadPoolExecutor, path: Path, chunks: Sequence[Chunk], info: VideoInfo
    ) -> Iterator[tuple[Chunk, FramePack]]:
        """The chunks with their packs, in order. At most one more than there are readers is
        held."""
        ahead: deque[tuple[Chunk, Future[FramePack]]] = deque()
        keys, reading, dedupe = self.scorer.keys, self.reading, self.dedupe
        try:
            for chunk in chunks:
                future = pool.submit(look, path, chunk, info, keys, reading, dedupe)
                ahead.append((chunk, future))
                if len(ahead) > self.readers:
                    first, pack = ahead.popleft()
                    yield first, pack.result()
            while ahead:
                first, pack = ahead.popleft()
                yield first, pack.result()
        finally:
            for _, future in ahead:
                future.cancel()


def score_pack(
    scorer: Scorer,
    pack: FramePack,
    info: VideoInfo,
    policy: Policy,
    window: Window | None = None,
) -> tuple[Frame, ...]:
    """Every moment of a pack with its scores, in order; near-duplicates share those of another.

    window: the pack is of whole windows of that kind, and each of them is one moment. What lies
    below all that the policy asks for is not known more exactly. Raises ServiceError as
    `Scorer.score` does.
    """
    if window is not None:
        return _score_windows(scorer, pack, window)
    peaks: dict[float, dict[str, LabelScore]] = {}
    pictures = {
        one.time_s: one.pdq if one.quality >= DedupeOptions().min_quality else PLAIN
        for one in pack.hashes
    }
    if pack.hashes:
        views = tuple(View(frame=i, time_s=one.time_s) for i, one in enumerate(pack.hashes))
        about = MediaInfo(
            format=info.codec,
            width=info.width,
            height=info.height,
            frames_total=len(views),
            frames_decoded=len(views),
            size_bytes=info.size_bytes,
        )
        decoded = DecodedImage(about, views, pack.pixels)
        # A film has thousands of frames: pictures that somebody waits for go first.
        scored = scorer.score(decoded, floors=floors(policy), patient=True)
        for view, one in zip(views, scored.scores, strict=True):
            peaks[view.time_s] = summarise(MediaScores((view,), (one,)))
    frames = []
    for look_ in pack.looks:
        if look_.shown_s is None or look_.source_s is None:
            frames.append(Frame(look_.time_s, None))
            continue
        frames.append(
            Frame(
                max(look_.time_s, look_.shown_s),  # what came late was seen then, not before
                peaks[look_.source_s],
                shown_s=look_.shown_s,
                shared=look_.source_s != look_.shown_s,
                picture=pictures[look_.source_s],
            )
        )
    return tuple(frames)


def _score_windows(scorer: Scorer, pack: FramePack, window: Window) -> tuple[Frame, ...]:
    """One frame a window, at its middle. A window that lacks a frame was not seen."""
    rows = {one.time_s: row for row, one in enumerate(pack.hashes)}
    parts = [
        pack.looks[start : start + window.frames]
        for start in range(0, len(pack.looks), window.frames)
    ]
    whole = [[rows[look.source_s] for look in part if look.source_s is not None] for part in parts]
    pixels = pack.pixels[window.key]
    clips = [pixels[own] for own in whole if len(own) == window.frames]
    scored = iter(scorer.score_windows(window, clips))
    frames = []
    for part, own in zip(parts, whole, strict=True):
        middle = part[window.frames // 2]
        if len(own) < window.frames or middle.shown_s is None:
            frames.append(Frame(middle.time_s, None))
            continue
        peaks = summarise(MediaScores((View(time_s=middle.shown_s),), (next(scored),)))
        time_s = max(middle.time_s, middle.shown_s)
        frames.append(Frame(time_s, peaks, shown_s=middle.shown_s))
    return tuple(frames)
