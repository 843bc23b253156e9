"""Frozen values that travel between the layers. No behaviour beyond construction.

`Verdict` and its parts are pydantic models, because their JSON is the product's public
format (API, `scan --json`, callbacks). Hot-path values are plain dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class Decision(StrEnum):
    """Ordered by severity: see `worst`."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    REVIEW = "review"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        return ("pass", "review", "block").index(self.value)


def worst(*decisions: Decision) -> Decision:
    """The most severe of the decisions; PASS when there are none."""
    return max(decisions, key=lambda d: d.severity, default=Decision.PASS)


# --- pixels -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InputKey:
    """Names one pixel layout that a model reads: every model with the same key shares it.

    `fit`: "stretch" maps the whole view onto width x height whatever its aspect, so that no
    border stays unseen. `interpolation`: "area", "bilinear", "bicubic" (all antialiased when
    shrinking). Pixels are uint8, RGB, height x width x 3.
    """

    width: int
    height: int
    fit: Literal["stretch"] = "stretch"
    interpolation: Literal["area", "bilinear", "bicubic"] = "area"


Ask = tuple[float, float]
"""A moment of a video in seconds, and the own time of the frame shown then."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a clip model reads at a time: `frames` pictures at `key`, `rate` of them a second.

    every_s: where the picture moves, so many seconds lie between the beginnings of two windows.
    """

    key: InputKey
    frames: int
    rate: float
    every_s: float

    @property
    def span_s(self) -> float:
        return self.frames / self.rate

    def middles(self, asks: Sequence[Ask]) -> tuple[Ask, ...]:
        """The moment that each of some windows stands for. asks: those of whole windows."""
        return tuple(asks[self.frames // 2 :: self.frames])


Windows = Mapping[Window, Mapping[str, str]]
"""The windows that clip models read -> label -> the `id@version` that answers it there."""


@dataclass(frozen=True, slots=True)
class View:
    """One rectangle of one frame, as a scorer sees it.

    box: x1, y1, x2, y2 as fractions of the picture as shown (after EXIF rotation).
    """

    frame: int = 0
    time_s: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    background: Literal["opaque", "black", "white"] = "opaque"


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What was learnt of a picture while decoding. Sizes in pixels, as shown (rotated)."""

    format: str
    width: int
    height: int
    frames_total: int
    frames_decoded: int
    size_bytes: int
    trailing_bytes: int = 0
    pdq: str | None = None
    pdq_quality: int | None = None
    frames_failed: int = 0
    """Sampled frames of an animation that could not be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """Checked pixels: for every requested key an array (len(views), height, width, 3)."""

    info: MediaInfo
    views: tuple[View, ...]
    pixels: Mapping[InputKey, NDArray[np.uint8]]


# --- scores -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detection:
    """A box of evidence; coordinates as fractions of the picture as shown."""

    label: str
    sublabel: str | None
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class ViewScores:
    """What all loaded models say of one view.

    scores: label -> 0..1, calibrated where the model's card says so. models: label -> the
    `id@version` that gave it. embedding: fp16 vector of `encoder`.
    """

    scores: Mapping[str, float]
    models: Mapping[str, str]
    sublabels: Mapping[str, str] = field(default_factory=dict)
    detections: tuple[Detection, ...] = ()
    embedding: NDArray[np.float16] | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MediaScores:
    """Scores of every view of a picture (or of the frames of a video chunk), in view order."""

    views: tuple[View, ...]
    scores: tuple[ViewScores, ...]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label's worst score over a medium, with where it was found."""

    label: str
    score: float
    model: str
    sublabel: str | None = None
    frames: tuple[int, ...] = ()
    boxes: tuple[tuple[float, float, float, float, float], ...] = ()


# --- live streams -----------------------------------------------------------------------


class StreamState(StrEnum):
    """What a live stream is doing.

    CONNECTING -> LIVE <-> STALLED -> RETRYING -> CONNECTING … Ends: AUTH_FAILED (the source
    refuses the credentials), ENDED (it said so, or was told to stop), FAILED (given up).
    """

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    RETRYING = "retrying"
    AUTH_FAILED = "auth_failed"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Nobody reads it any more, unless it is started anew."""
        return self in (StreamState.AUTH_FAILED, StreamState.ENDED, StreamState.FAILED)


# --- the public verdict -----------------------------------------------------------------


class _Public(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _absent(value: object) -> bool:
    """Leaves a field out of the JSON where it can mean nothing: pictures have no timeline."""
    return value is None


class Problem(_Public):
    """RFC 9457 problem details, as stored in a verdict and answered over HTTP."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str | None = None
    request_id: str | None = None


class Reason(_Public):
    """Why a verdict is not `pass`. `score` and `threshold` are null when nothing was scored."""

    category: str = Field(examples=["violence"])
    label: str = Field(examples=["violence.weapon"])
    sublabel: str | None = None
    score: Unit | None = Field(default=None, examples=[0.93])
    decision: Decision
    threshold: Unit | None = Field(default=None, examples=[0.8])
    boxes: list[list[float]] = Field(
        default_factory=list, description="[x1, y1, x2, y2, score], fractions of the picture"
    )
    boxes_s: float | None = Field(
        default=None,
        ge=0,
        exclude_if=_absent,
        description="of a video: time of the frame that shows the boxes",
    )
    frames: list[int] = Field(default_factory=list)
    model: str | None = Field(default=None, examples=["scenes@1"])
    detail: str | None = Field(
        default=None, description="A sentence, where a score says too little"
    )


class Coverage(_Public):
    """What was looked at. Anything not looked at is never `pass` on its own.

    For video, and left out for pictures: `frames_sampled` moments were asked for,
    `frames_decoded` gave a frame and `frames_failed` did not; of those decoded,
    `frames_scored` have scores of their own and the others those of a near-duplicate. A window
    of frames that a clip model reads is one moment.
    """

    frames_total: int = Field(ge=0)
    frames_scored: int = Field(ge=0)
    frames_failed: int = Field(default=0, ge=0)
    views_scored: int = Field(default=0, ge=0, description="tiles and composites included")
    complete: bool
    notes: list[str] = Field(default_factory=list)
    frames_sampled: int | None = Field(default=None, ge=0, exclude_if=_absent)
    frames_decoded: int | None = Field(default=None, ge=0, exclude_if=_absent)
    largest_gap_s: float | None = Field(
        default=None, ge=0, exclude_if=_absent, description="longest time without a frame seen"
    )
    unseen: list[tuple[float, float]] | None = Field(
        default=None,
        exclude_if=_absent,
        description="[start, end] in seconds of each part that was not seen, in order",
    )


class Segment(_Public):
    """A part of a video, or of a live stream, that shows one label. Seconds from the start.

    Left out where no detector saw anything: `sublabel`, and the `boxes` of the clearest frame that
    has some, which is shown at `boxes_s`, often another than that of `score`.
    """

    label: str = Field(examples=["violence.fight"])
    decision: Decision
    start_s: float = Field(ge=0, examples=[12.0])
    end_s: float = Field(ge=0, examples=[15.4])
    peak_s: float = Field(ge=0, examples=[13.2], description="time of the frame of `score`")
    score: Unit = Field(examples=[0.97])
    sublabel: str | None = Field(default=None, exclude_if=_absent, examples=["pistol"])
    boxes: list[list[float]] | None = Field(
        default=None,
        exclude_if=_absent,
        description="[x1, y1, x2, y2, score], fractions of the picture",
    )
    boxes_s: float | None = Field(
        default=None, ge=0, exclude_if=_absent, description="time of the frame of `boxes`"
    )


class Status(StrEnum):
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(_Public):
    """The answer for one item: the same JSON from the API, `scan --json` and callbacks."""

    id: str
    job_id: str | None = None
    source: str | None = None
    data_id: str | None = None
    status: Status
    decision: Decision
    decided_by: Literal["policy", "duplicate", "list", "person"] = "policy"
    reasons: list[Reason] = Field(default_factory=list)
    scores: dict[str, Unit] = Field(default_factory=dict)
    segments: list[Segment] | None = Field(
        default=None, exclude_if=_absent, description="by start; left out for pictures"
    )
    coverage: Coverage
    policy: str = Field(examples=["default@4"])
    models: list[str] = Field(default_factory=list)
    device: str | None = None
    timings_ms: dict[str, float] = Field(default_factory=dict)
    error: Problem | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict, keys in the declared order."""
        return self.model_dump(mode="json")
