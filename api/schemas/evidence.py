"""Bodies of what people see beside the verdict."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from moderation.types import Decision, Segment


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Still(_Answer):
    """A picture to look at, and the same without anything to recognise."""

    clear: str = Field(description="path of a WebP picture")
    blurred: str = Field(description="path of a grey one without detail")


class SegmentEvidence(_Answer):
    """The frame of a segment that scored highest, and the one that shows boxes."""

    label: str = Field(examples=["violence.weapon"])
    decision: Decision
    start_s: float
    end_s: float
    peak_s: float = Field(description="the frame's own time")
    score: float
    sublabel: str | None = Field(default=None, examples=["pistol"])
    still: Still
    boxes: list[list[float]] = Field(
        description="[x1, y1, x2, y2, score], fractions of the picture; none where no detector "
        "saw anything"
    )
    boxes_s: float | None = Field(
        default=None, description="own time of the frame that shows the boxes, often not `peak_s`"
    )
    boxes_still: Still | None = Field(default=None, description="that frame, without the boxes")


class Evidence(_Answer):
    """Links to what can be looked at; it is made when it is first asked for. For a picture,
    `still`; for a video, `proxy` and `segments`."""

    item_id: str
    kind: Literal["image", "video"]
    duration_s: float | None = Field(description="of a video, once it is known")
    still: Still | None = None
    boxes: list[list[float]] = Field(description="of a picture, as in `segments`")
    proxy: str | None = Field(description="path of a film of at most 480 lines, without sound")
    segments: list[SegmentEvidence]


class Thresholds(_Answer):
    review_at: float | None
    block_at: float | None


class Series(_Answer):
    """Scores at ascending times; null where nothing was seen, or the label not looked at."""

    models: list[str]
    times: list[float] = Field(description="seconds; all 0 for a picture")
    scores: dict[str, list[float | None]] = Field(examples=[{"violence.weapon": [0.02, None, 0.9]}])


class Scores(_Answer):
    """What a plot of a verdict needs."""

    item_id: str
    policy: str = Field(examples=["default@4"])
    duration_s: float | None
    thresholds: dict[str, Thresholds]
    segments: list[Segment]
    series: list[Series] = Field(description="one for each set of models; none until it is done")


_ITEM: Final = "item_0198f1c2a7d47b0c8e5f6a7b8c9d0e1f"
_BASE: Final = f"/v1/items/{_ITEM}/derivatives"
_SEGMENT: Final[dict[str, Any]] = {
    "label": "violence.weapon",
    "decision": "review",
    "start_s": 12.0,
    "end_s": 15.4,
    "peak_s": 13.2,
    "score": 0.97,
}
_EVIDENCE: Final = Evidence(
    item_id=_ITEM,
    kind="video",
    duration_s=600.0,
    still=None,
    boxes=[],
    proxy=f"{_BASE}/proxy.mp4",
    segments=[
        SegmentEvidence(
            **_SEGMENT,
            sublabel="pistol",
            still=Still(
                clear=f"{_BASE}/frame-13200.webp", blurred=f"{_BASE}/frame-13200-blur.webp"
            ),
            boxes=[[0.4, 0.31, 0.52, 0.48, 0.9]],
            boxes_s=14.0,
            boxes_still=Still(
                clear=f"{_BASE}/frame-14000.webp", blurred=f"{_BASE}/frame-14000-blur.webp"
            ),
        )
    ],
)
_SCORES: Final = Scores(
    item_id=_ITEM,
    policy="default@4",
    duration_s=600.0,
    thresholds={"violence.weapon": Thresholds(review_at=0.96, block_at=0.99)},
    segments=[Segment(**_SEGMENT)],
    series=[
        Series(
            models=["scenes@2"],
            times=[0.0, 1.04, 2.0],
            scores={"violence.weapon": [0.02, None, 0.03]},
        )
    ],
)


def evidence() -> dict[str, Any]:
    """The OpenAPI response."""
    return _answer(_EVIDENCE, "Links to it")


def scores() -> dict[str, Any]:
    return _answer(_SCORES, "Scores over time")


def derivative(description: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": {"image/webp": binary, "video/mp4": binary}}


def _answer(value: BaseModel, description: str) -> dict[str, Any]:
    example = {"application/json": {"example": value.model_dump(mode="json")}}
    return {"model": type(value), "description": description, "content": example}
