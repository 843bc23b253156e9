"""Frozen rows and arguments of the store, as the other layers see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from moderation.fingerprint import HashedFrame
from moderation.packed_scores import PackedScores
from moderation.policy import Policy
from moderation.types import Decision, Status, Verdict

DEFAULT_TENANT = "default"


class JobState(StrEnum):
    """QUEUED -> RUNNING -> DONE | FAILED | CANCELLED; an expired lease: RUNNING -> QUEUED."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class NewMedia:
    """Bytes already in the blob store under `blob_key`. `kind`: image or video. duration_s: of a
    video, where it is known already."""

    sha256: str
    size: int
    format: str
    blob_key: str
    kind: str = "image"
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How a video is to be looked at; None: as the settings say.

    stop_on: what is left is not looked at once a part of the video has this decision.
    """

    mode: Literal["interval", "keyframe", "scene", "fps"] | None = None
    interval_s: float | None = None
    rate: float | None = None
    max_frames: int | None = None
    stop_on: Decision | None = None

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> Self:
        values = dict(told or {})
        if "stop_on" in values:
            values["stop_on"] = Decision(values["stop_on"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class NewItem:
    """A submission. `deadline`: a job that has not ended by then is failed to review."""

    tenant: str
    media: NewMedia
    policy: Policy
    source: str | None = None
    data_id: str | None = None
    callback_url: str | None = None
    priority: int = 0
    deadline: datetime | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None
    video: VideoOptions | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission became. `verdict` is set when it is already decided (a duplicate, or
    a replay of an idempotency key whose job has ended). `follows`: another job's verdict will be
    this one's too, and there is no task to publish."""

    item_id: str
    job_id: str
    state: JobState
    verdict: Verdict | None = None
    replayed: bool = False
    follows: bool = False


@dataclass(frozen=True, slots=True)
class TaskHint:
    """Something to publish: all that a message says, and its priority."""

    job_id: str
    kind: str
    priority: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this owner runs until its lease ends. `attempt` counts from 1. `video`: how to
    look at a video; `film`: what was kept of it between the rounds."""

    job_id: str
    item_id: str
    tenant: str
    attempt: int
    owner: str
    media: NewMedia
    media_id: str
    policy: Policy
    source: str | None
    data_id: str | None
    callback_url: str | None
    created: datetime
    queued_ms: float
    video: VideoOptions = VideoOptions()
    film: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The result of a job: stored, in one transaction, with events and callback. `hashes`: of
    the frames of a video that were looked at, by which copies are recognised. `lists`: their
    version, as they were asked. `listed`: the highest version of the entries that decided.
    `drawn`: people look at it for an audit, should the policy have passed it."""

    verdict: Verdict
    scores: PackedScores | None = None
    embedding: NDArray[np.float16] | None = None
    encoder: str | None = None
    pdq: str | None = None
    pdq_quality: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    hashes: tuple[HashedFrame, ...] = ()
    lists: int | None = None
    listed: int | None = None
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class JobRow:
    id: str
    item_id: str
    tenant: str
    kind: str
    state: JobState
    attempt: int
    created: datetime
    updated: datetime
    policy: str
    cancel_requested: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its verdict in force (None while its job has not ended). stream_id: of the live
    stream that it is an alert of."""

    id: str
    tenant: str
    job_id: str
    state: JobState
    created: datetime
    source: str | None
    data_id: str | None
    media_id: str
    sha256: str
    format: str
    size: int
    width: int | None
    height: int | None
    kind: str
    duration_s: float | None
    stream_id: str | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class ItemFilter:
    decision: Decision | None = None
    status: Status | None = None
    state: JobState | None = None
    label: str | None = None  # at least one reason names it
    data_id: str | None = None
    source: str | None = None
    stream_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `next_cursor`: opaque; None on the last page."""

    items: tuple[ItemRow, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Something to send. kind "task": publish `payload` to the queue; "callback": POST it.

    `event_id` is stable over retries. `target` is the callback's URL.
    """

    id: str
    tenant: str
    kind: str
    event_id: str
    target: str | None
    payload: dict[str, Any]
    attempts: int
    created: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    id: str
    tenant: str
    name: str
    scopes: frozenset[str]
    created: datetime
    last_used: datetime | None = None
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A living worker's own report, renewed every few seconds.

    `models`: the manifests' facts as dicts (id, version, task, labels, licence, precision,
    device); empty for a worker that loads none.
    """

    id: str
    role: str
    host: str
    pid: int
    state: str  # starting | ready | stopping
    device: str | None
    precision: str | None
    models: list[dict[str, Any]] = field(default_factory=list)
    started: datetime | None = None
    seen: datetime | None = None
    capacity: int | None = None  # of a supervisor of live streams: how many it can hold
