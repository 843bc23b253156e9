"""What a report shows of one source beside its verdict. Frozen values, bounded in size."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.curves import Curve
from moderation.rolling import Boxes


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail: WebP, its size in pixels, boxes in fractions of it."""

    webp: bytes
    width: int
    height: int
    caption: str
    boxes: Boxes = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """facts: what the file is, in words. duration_s: of a video. notes: what is missing here,
    and why."""

    facts: str = ""
    duration_s: float | None = None
    curves: tuple[Curve, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
