"""What a report shows of one source, from its analysis: facts, curves, thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from moderation.analyse import Analysis
from moderation.analyse_video import VideoAnalysis
from moderation.cli.html.evidence import Evidence, Picture
from moderation.curves import curves
from moderation.decoders import DecoderPool
from moderation.errors import ModerationError
from moderation.images import DecodePlan
from moderation.rolling import Boxes, Passage
from moderation.settings import Settings
from moderation.stills import Pixels, fit, webp, whole
from moderation.timeline import clock
from moderation.types import InputKey, LabelScore, MediaInfo
from moderation.video.probe import VideoInfo

SIDE: Final = 320
MAX_PICTURES: Final = 12
"""Thumbnails of one source, the worst segments first."""
SQUARE: Final = InputKey(SIDE, SIDE)

Still = Callable[[Path, float, VideoInfo], Pixels]
"""The frame shown at a time, at most SIDE long."""


def of_video(path: Path, analysis: VideoAnalysis, still: Still | None) -> Evidence:
    """still: reads a frame; None: no pictures are wanted. A frame that cannot be read is a note,
    never an error."""
    info = analysis.film.info
    evidence = Evidence(
        facts=_video_facts(info),
        duration_s=info.duration_s,
        curves=curves(analysis.frames),
    )
    if still is None:
        return evidence
    chosen, left_out = moments(analysis.timeline.passages)
    pictures, notes = [], []
    for time_s, caption, boxes in chosen:
        try:
            pictures.append(_picture(still(path, time_s, info), caption, boxes))
        except ModerationError as error:
            notes.append(f"no picture of {caption}: {error.message}")
    if left_out:
        notes.append(f"{left_out} more moments have no picture here")
    return replace(evidence, pictures=tuple(pictures), notes=tuple(notes))


def moments(passages: Sequence[Passage]) -> tuple[list[tuple[float, str, Boxes]], int]:
    """The times that are worth a picture, ascending, with caption and boxes, and how many more
    there are: the peak of each segment, and where its boxes were found, if that is elsewhere."""
    worst = sorted(passages, key=lambda p: (-p.decision.severity, -p.peak.score, p.start_s))
    found: dict[float, tuple[str, Boxes]] = {}
    for passage in worst:
        words = _words(passage.label, passage.sublabel, passage.peak.score, passage.peak_s)
        same = passage.boxes_s is None or passage.boxes_s == passage.peak_s
        _merge(found, passage.peak_s, words, passage.boxes if same else ())
        if not same and passage.boxes_s is not None:
            sublabel, score = passage.boxes_sublabel, passage.boxes_score
            words = _words(passage.label, sublabel, score, passage.boxes_s)
            _merge(found, passage.boxes_s, words, passage.boxes)
    shown = sorted(list(found.items())[:MAX_PICTURES])
    return [(time_s, *rest) for time_s, rest in shown], max(0, len(found) - MAX_PICTURES)


def _words(label: str, sublabel: str | None, score: float, time_s: float) -> str:
    what = label if sublabel is None else f"{label} ({sublabel})"
    return f"{what} {score:.2f} at {clock(time_s)}"


def _merge(found: dict[float, tuple[str, Boxes]], time_s: float, words: str, boxes: Boxes) -> None:
    """Two labels may peak in one frame: one picture, both captions."""
    if time_s in found:
        earlier, others = found[time_s]
        words, boxes = f"{earlier}; {words}", (*others, *boxes)
    found[time_s] = (words, boxes)


def of_picture(
    data: bytes, analysis: Analysis, pool: DecoderPool | None, settings: Settings
) -> Evidence:
    """pool: decodes it once more, for people; None: no pictures are wanted."""
    info = analysis.media
    if info is None:
        return Evidence()
    evidence = Evidence(facts=_picture_facts(info))
    if pool is None:
        return evidence
    worst = max(analysis.peaks.values(), key=_named_first(analysis), default=None)
    try:
        decoded = pool.decode(data, DecodePlan((SQUARE,), settings.max_pixels, settings.max_frames))
    except ModerationError as error:
        return replace(evidence, notes=(f"no picture: {error.message}",))
    caption = "" if worst is None else f"{worst.label} {worst.score:.2f}"
    frames = (0,) if worst is None or not worst.frames else worst.frames
    named = {reason.label for reason in analysis.outcome.reasons}
    boxes = [
        box
        for found in analysis.peaks.values()
        if found.frames[:1] == frames[:1] and (found is worst or found.label in named)
        for box in found.boxes
    ]
    picture = _picture(whole(decoded, frames[0]), caption, tuple(boxes))
    return replace(evidence, pictures=(picture,))


def _named_first(analysis: Analysis) -> Callable[[LabelScore], tuple[bool, float]]:
    """Labels that the decision rests on before others, then the higher score."""
    named = {reason.label for reason in analysis.outcome.reasons}
    return lambda found: (found.label in named, found.score)


def _picture(pixels: Pixels, caption: str, boxes: Boxes) -> Picture:
    height, width = pixels.shape[:2]
    size = fit(width, height, SIDE)
    return Picture(webp(pixels, max_side=SIDE), *size, caption, boxes)


def _video_facts(info: VideoInfo) -> str:
    rate = info.frames / info.held_s if info.held_s > 0 else 0.0
    sound = f"sound {', '.join(info.audio)}" if info.audio else "no sound"
    names = info.container.split(",")  # of MP4: mov,mp4,m4a,…
    container = "mp4" if "mp4" in names else names[0]
    return (
        f"{clock(info.duration_s)} · {container} {info.codec} · {info.width} × {info.height} · "
        f"{rate:.4g} frames/s · {sound}"
    )


def _picture_facts(info: MediaInfo) -> str:
    frames = f" · {info.frames_total} frames" if info.frames_total > 1 else ""
    return f"{info.format} · {info.width} × {info.height}{frames}"
