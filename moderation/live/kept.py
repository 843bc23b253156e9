"""What is kept of a stream around an alert: a clip of what was sent, or its opening frame."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from moderation.blobs import blob_key
from moderation.live.clip import playable
from moderation.live.reader import LiveFrame
from moderation.live.ring import Clip
from moderation.live_queue import Peaks
from moderation.packed_scores import PackedScores
from moderation.stills import webp
from moderation.store.live_records import AlertEvidence, AlertRow
from moderation.store.records import NewMedia
from moderation.types import Coverage
from moderation.video.probe import ProbeLimits, probe

Moments = Sequence[tuple[float, Peaks | None]]
"""Capture times of frames, UTC, ascending, with their scores; None: nobody scored that one."""
APART_S = 15.0
"""A playlist's segments, which come whole, are hardly longer."""
STRETCHED = "the picture as the models read it, stretched to their shape: no clip could be made"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file in a folder of its own, and what its item will say of it."""

    path: Path
    evidence: AlertEvidence

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)


def kept_clip(
    alert: AlertRow,
    clip: Clip,
    frame: LiveFrame | None,
    moments: Moments,
    *,
    program: str,
    limits: ProbeLimits,
) -> Kept:
    """A frozen clip as MP4, beside it; nothing is encoded again. frame: the one that opened the
    alert. Raises MediaError where its codec does not fit."""
    path = clip.path.with_suffix(".mp4")
    playable(clip, program, path)
    info = probe(clip.path, limits).info
    clip.path.unlink()
    begun_s = first_captured_s(clip, info.start_s, frame)
    seen = [(at - begun_s, peaks) for at, peaks in moments]
    seen = [(at_s, peaks) for at_s, peaks in seen if 0 <= at_s <= info.duration_s]
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    media = NewMedia(
        sha256=sha256,
        size=path.stat().st_size,
        format="mp4",
        blob_key=blob_key(alert.tenant, sha256),
        kind="video",
        width=info.width,
        height=info.height,
        duration_s=info.duration_s,
    )
    return Kept(
        path,
        AlertEvidence(
            media=media,
            media_type="video/mp4",
            begun=datetime.fromtimestamp(begun_s, UTC),
            scores=packed(seen),
            coverage=covered(seen, total=info.frames),
        ),
    )


def first_captured_s(clip: Clip, first_s: float, frame: LiveFrame | None) -> float:
    """When a clip's first frame was captured, UTC. first_s: its time stamp.

    The ring knows when its packets came, which is later where a source sends in bursts. The time
    stamps tell how long before the opening frame it was, unless the source was opened anew between
    the two, or jumped.
    """
    if frame is not None:
        begun_s = frame.captured_s - (frame.stamp_s - first_s)
        if abs(begun_s - clip.begun_s) <= APART_S:
            return begun_s
    return clip.begun_s


def kept_picture(alert: AlertRow, frame: LiveFrame, moments: Moments, folder: Path) -> Kept:
    """The frame that opened the alert. folder: its own."""
    pixels = max(frame.pixels.values(), key=lambda one: one.size)
    data = webp(pixels)
    path = folder / "picture.webp"
    path.write_bytes(data)
    height, width = pixels.shape[:2]
    opened_s = alert.captured.timestamp()
    seen = [(0.0, peaks) for at, peaks in moments if abs(at - opened_s) < 0.001]
    sha256 = hashlib.sha256(data).hexdigest()
    media = NewMedia(
        sha256=sha256,
        size=len(data),
        format="webp",
        blob_key=blob_key(alert.tenant, sha256),
        width=width,
        height=height,
    )
    return Kept(
        path,
        AlertEvidence(
            media=media,
            media_type="image/webp",
            begun=alert.captured,
            scores=packed(seen),
            coverage=covered(seen, total=len(seen), notes=[STRETCHED]),
        ),
    )


def packed(seen: Moments) -> PackedScores | None:
    """Their scores; None where there are none."""
    models = {one.model for _, peaks in seen for one in (peaks or {}).values()}
    return PackedScores.of(seen, sorted(models))


def covered(seen: Moments, *, total: int, notes: Sequence[str] = ()) -> Coverage:
    """How many of the frames were looked at. total: of all frames."""
    scored = sum(peaks is not None for _, peaks in seen)
    return Coverage(
        frames_total=total,
        frames_scored=scored,
        frames_failed=len(seen) - scored,
        views_scored=scored,
        complete=scored == len(seen) > 0,
        notes=list(notes),
    )
