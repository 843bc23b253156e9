"""Bodies of answers, beside the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from moderation.labels import Accuracy
from moderation.store import films
from moderation.store.fingerprints import SimilarItem
from moderation.store.records import ItemRow, JobRow, JobState
from moderation.types import Decision, Problem, Unit, Verdict


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Accepted(_Answer):
    """A picture or video that is not decided yet. `Location` leads to the item."""

    id: str = Field(description="the item; the verdict will carry the same id")
    job_id: str
    status: JobState


class BatchPart(_Answer):
    """The answer to one part: `status` is what a POST of this part alone would have had, and
    exactly one of `verdict`, `accepted` and `problem` is set."""

    index: int = Field(ge=0, description="place in the request, from 0")
    source: str | None = Field(description="the part's file name")
    status: int
    verdict: Verdict | None = None
    accepted: Accepted | None = None
    problem: Problem | None = None


class Batch(_Answer):
    """Answers in the order of the parts."""

    results: list[BatchPart]


class Media(_Answer):
    """The bytes. Width and height in pixels, and the seconds of a video, as far as they are
    known."""

    kind: Literal["image", "video"]
    sha256: str
    format: str
    size: int = Field(description="bytes")
    width: int | None
    height: int | None
    duration_s: float | None = None


class Item(_Answer):
    """A submission with its verdict in force; null while its job has not ended. `stream_id`: the
    item is an alert of that live stream, and was not submitted."""

    id: str
    job_id: str
    state: JobState
    created: datetime
    source: str | None
    data_id: str | None
    stream_id: str | None = None
    media: Media
    verdict: Verdict | None

    @classmethod
    def of(cls, row: ItemRow) -> Self:
        return cls(**_item(row))


class Similar(_Answer):
    """The latest submission of another video that shows the same; its decision in force."""

    item_id: str
    share: Unit = Field(description="part of the frames that match", examples=[0.86])
    decision: Decision | None = Field(description="null while it has none")


class ItemDetail(Item):
    """An item with all verdicts it ever had, oldest first; the last one is in force. `similar`:
    copies of a video in other encodings, the likest first; empty for pictures."""

    history: list[Verdict]
    similar: list[Similar]

    @classmethod
    def of_detail(
        cls, row: ItemRow, history: list[Verdict], similar: Iterable[SimilarItem]
    ) -> Self:
        alike = [Similar(**asdict(one)) for one in similar]
        return cls(**_item(row), history=history, similar=alike)


def _item(row: ItemRow) -> dict[str, Any]:
    media = Media(
        kind="video" if row.kind == "video" else "image",
        sha256=row.sha256,
        format=row.format,
        size=row.size,
        width=row.width,
        height=row.height,
        duration_s=row.duration_s,
    )
    return {
        "id": row.id,
        "job_id": row.job_id,
        "state": row.state,
        "created": row.created,
        "source": row.source,
        "data_id": row.data_id,
        "stream_id": row.stream_id,
        "media": media,
        "verdict": row.verdict,
    }


class ItemPage(_Answer):
    """Newest first. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None = None


class Progress(_Answer):
    """How far a video is. Where something is found, it is looked at more closely: then more
    frames become known, and the fraction falls."""

    frames_done: int = Field(ge=0, description="looked at so far")
    frames_known: int = Field(ge=0, description="known to be needed so far")
    fraction: float = Field(ge=0, le=1)
    eta_s: float | None = Field(description="seconds, null before the first frame")

    @classmethod
    def of(cls, told: films.Progress) -> Self:
        return cls(
            frames_done=told.frames_done,
            frames_known=told.frames_known,
            fraction=round(told.fraction, 4),
            eta_s=None if told.eta_s is None else round(told.eta_s, 1),
        )


class Job(_Answer):
    """One analysis of an item. `progress`: of videos; null for pictures, and for videos that
    ended before anything was looked at."""

    id: str
    item_id: str
    kind: str
    state: JobState
    attempt: int = Field(ge=0)
    created: datetime
    updated: datetime
    policy: str = Field(examples=["default@4"])
    cancel_requested: bool
    error: str | None = None
    progress: Progress | None = None

    @classmethod
    def of(cls, row: JobRow, progress: films.Progress | None) -> Self:
        return cls(
            id=row.id,
            item_id=row.item_id,
            kind=row.kind,
            state=row.state,
            attempt=row.attempt,
            created=row.created,
            updated=row.updated,
            policy=row.policy,
            cancel_requested=row.cancel_requested,
            error=row.error,
            progress=None if progress is None else Progress.of(progress),
        )


class ModelFacts(BaseModel):
    """One model that living workers have loaded, with what its manifest tells."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    version: int | str
    workers: int = Field(ge=1, description="ready infer workers that have it loaded")


class Models(_Answer):
    models: list[ModelFacts]


class LabelFacts(_Answer):
    """A label that a policy may name. `models`: those loaded that answer it, as `id@version`."""

    label: str = Field(examples=["smoking.vape"])
    category: str = Field(examples=["smoking"])
    summary: str | None = Field(description="null for a label that only a model of yours knows")
    accuracy: Accuracy = Field(
        description="what is known of the shipped models; `unmeasured`: none of them answers it"
    )
    models: list[str] = Field(examples=[["lighters@1"]])


class Labels(_Answer):
    labels: list[LabelFacts]


class Live(_Answer):
    status: Literal["live"] = "live"


class Ready(_Answer):
    """Everything is there. Devices and precisions are those of the ready infer workers."""

    status: Literal["ready"] = "ready"
    device: str
    precision: str
    devices: list[str]
    models: list[str] = Field(examples=[["image-safety-s@1", "scenes@2"]])
    workers: int = Field(ge=1)
