"""Parameters of requests. Nothing that a database would refuse gets past them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel

# PostgreSQL refuses NUL in text.
TEXT: Final = r"^[^\x00]+$"
URL: Final = r"^[hH][tT][tT][pP][sS]?://[^\x00-\x20\x7f]+$"
RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)

PolicyName = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(@[1-9][0-9]{0,8})?$",
        description="`id` or `id@version`; the gateway's default when it is left out",
        examples=["default"],
    ),
]
DataId = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=256,
        pattern=TEXT,
        description="your own id, echoed in the verdict",
        examples=["upload-4711"],
    ),
]
CallbackUrl = Annotated[
    str | None,
    Query(
        max_length=2048,
        pattern=URL,
        description="gets the verdict as a signed POST; must be a public address, or one that "
        "the settings allow",
    ),
]
Priority = Annotated[int, Query(ge=0, le=9, description="9 is the most urgent")]
Dedupe = Annotated[
    bool, Query(description="answer from an earlier verdict on the same bytes, where there is one")
]
Wait = Annotated[
    float | None,
    Query(
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="seconds to wait for the verdict; longer than the gateway's maximum is cut "
        "to it. 0 answers at once",
        examples=[10],
    ),
]
WaitForVideo = Annotated[
    float,
    Query(
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description="seconds to wait for the verdict; longer than the gateway's maximum is cut "
        "to it",
        examples=[10],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="repeating a request under the same key answers the first one's outcome",
    ),
]

VideoMode = Annotated[
    Literal["interval", "keyframe", "scene", "fps"] | None,
    Query(
        description="how moments are chosen: every `interval_ms`, every key frame, a moment of "
        "every scene, or `fps` moments a second; none is ever far from the next"
    ),
]
IntervalMs = Annotated[
    int | None,
    Query(
        ge=100,
        le=3_600_000,
        description="milliseconds between moments, for the mode `interval`; left out: 1 s, and "
        "more for long videos",
        examples=[1000],
    ),
]
MaxFrames = Annotated[
    int | None,
    Query(
        ge=2,
        le=1_000_000,
        description="moments at most, the gateway's own limit aside; more are spread evenly",
    ),
]
Fps = Annotated[
    float | None,
    Query(
        gt=0,
        le=60,
        allow_inf_nan=False,
        description="moments a second, for the mode `fps`",
        examples=[2],
    ),
]
StopOn = Annotated[
    Literal["review", "block"] | None,
    Query(description="what is left is not looked at once a part of the video has this decision"),
]

ItemId = Annotated[str, Path(pattern=r"^item_[0-9a-f]{32}$")]
UploadId = Annotated[str, Path(pattern=r"^upload_[0-9a-f]{32}$")]
JobId = Annotated[str, Path(pattern=r"^job_[0-9a-f]{32}$")]

Label = Annotated[
    str | None,
    Query(
        max_length=128,
        pattern=r"^[a-z_]+\.[a-z_]+$",
        description="items with a reason of this label",
        examples=["violence.weapon"],
    ),
]
Source = Annotated[str | None, Query(min_length=1, max_length=1024, pattern=TEXT)]
OfStream = Annotated[
    str | None,
    Query(pattern=r"^stream_[0-9a-f]{32}$", description="alerts of this live stream"),
]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[
    str | None,
    Query(
        max_length=512,
        pattern=r"^[A-Za-z0-9_=.~-]+$",
        description="`next_cursor` of the page before",
    ),
]


def told(value: Any) -> Any:
    """Only RFC 3339 (pydantic alone would read 1 and "1" as a second of 1970)."""
    if value is not None and not (isinstance(value, str) and RFC3339.fullmatch(value)):
        raise ValueError("should be a time such as 2026-01-31T12:00:00Z")
    return value


def utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


Moment = Annotated[
    datetime | None,
    BeforeValidator(told),
    AfterValidator(utc),
    Query(description="RFC 3339; UTC when it names no zone", examples=["2026-01-31T12:00:00Z"]),
]


class UrlBody(BaseModel):
    """Media that the gateway reads itself, where that is switched on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        min_length=8, max_length=2048, pattern=URL, examples=["https://example.org/cat.jpg"]
    )


class UploadBody(BaseModel):
    """A video that has come in pieces, by `/v1/uploads`. The upload is gone afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: str = Field(
        pattern=r"^upload_[0-9a-f]{32}$", examples=["upload_0198f1c2a7d47b0c8e5f6a7b8c9d0e21"]
    )


class VideoBody(RootModel[UrlBody | UploadBody]):
    """Where the video is."""

    model_config = ConfigDict(frozen=True)
