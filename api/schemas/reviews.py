"""Bodies and answers of what people decide."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.examples import ITEM
from api.schemas.params import TEXT
from moderation.store.labelled import Labelled
from moderation.store.review_records import Action, Choice, Decided, DecisionRow, ReviewRow
from moderation.store.reviews import QueueCounts
from moderation.types import Decision

DECISION: Final = "decision_0198f1c2a7d47b0c8e5f6a7b8c9d0e31"
LINES: Final = "application/x-ndjson"
LABEL: Final = r"^[a-z_]+\.[a-z_]+$"

DECISION_ID: Final = r"^decision_[0-9a-f]{32}$"
DecisionId = Annotated[str, Path(pattern=DECISION_ID)]
After = Annotated[
    str | None,
    Query(pattern=r"^item_[0-9a-f]{32}$", description="begin behind this item of the queue"),
]
Kind = Annotated[Literal["image", "video"] | None, Query()]
Score = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]
Sha256 = Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")]
DecidedAs = Annotated[
    Literal["pass", "block"] | None, Query(description="items that a person decided so")
]
SaidOf = Annotated[
    str | None,
    Query(
        max_length=128,
        pattern=LABEL,
        description="items that were blocked for it, or of which it was confirmed or rejected",
        examples=["violence.weapon"],
    ),
]
PolicyRef = Annotated[str | None, Query(max_length=128, pattern=TEXT, examples=["default@4"])]


class DecisionBody(BaseModel):
    """What a person decided of an item. `label`: what a block is for. `labels`: what the models
    named, confirmed (true) or rejected (false). `note` is for colleagues, and never sent out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    label: str | None = Field(default=None, max_length=128, pattern=LABEL)
    note: str | None = Field(default=None, max_length=2000)
    labels: dict[Annotated[str, Field(max_length=128, pattern=LABEL)], bool] = Field(
        default_factory=dict, max_length=64
    )

    def choice(self) -> Choice:
        return Choice(self.action, self.label, self.note or None, self.labels)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Review(_Answer):
    """An item that needs a person, or did. `label`, `score`: of its gravest reason. `audit`: it was
    passed, and drawn for people to look at all the same. `claimed_by`: whoever has it, until
    `claim_until`."""

    item_id: str
    state: Literal["open", "decided", "settled"]
    label: str | None = None
    score: float | None = None
    escalated: bool
    audit: bool
    claimed_by: str | None = None
    claim_until: datetime | None = None
    created: datetime

    @classmethod
    def of(cls, row: ReviewRow) -> Self:
        return cls(
            item_id=row.item_id,
            state=row.state.value,
            label=row.label,
            score=row.score,
            escalated=row.escalated,
            audit=row.audit,
            claimed_by=row.claimed_by,
            claim_until=row.claim_until,
            created=row.created,
        )


class ReviewPage(_Answer):
    """In the order in which they are to be looked at."""

    reviews: list[Review]
    next_after: str | None = Field(
        default=None, description="`after` of the next page; null: there is none"
    )


class ReviewCounts(_Answer):
    """What waits. `by_label`: under `` what nothing was scored of. `audits`: passes that were drawn
    to be looked at, in no other number."""

    open: int
    escalated: int
    mine: int
    audits: int
    by_label: dict[str, int]
    oldest: datetime | None = None

    @classmethod
    def of(cls, found: QueueCounts) -> Self:
        return cls(
            open=found.open,
            escalated=found.escalated,
            mine=found.mine,
            audits=found.audits,
            by_label=dict(found.by_label),
            oldest=found.oldest,
        )


class Made(_Answer):
    """A decision. `labels`: confirmed or rejected. `seconds`: since the item was claimed."""

    id: str
    item_id: str
    actor: str
    action: Action
    label: str | None = None
    note: str | None = None
    labels: dict[str, str]
    seconds: float | None = None
    created: datetime
    undone: datetime | None = None

    @classmethod
    def of(cls, row: DecisionRow) -> Self:
        return cls(
            id=row.id,
            item_id=row.item_id,
            actor=row.actor,
            action=row.action,
            label=row.label,
            note=row.note,
            labels=dict(row.labels),
            seconds=row.seconds,
            created=row.created,
            undone=row.undone,
        )


class MadeNow(_Answer):
    """A decision that was made just now, what the item's verdict says since, and until when it may
    be taken back."""

    decision: Made
    verdict: Decision
    undo_until: datetime

    @classmethod
    def of(cls, found: Decided) -> Self:
        return cls(
            decision=Made.of(found.decision), verdict=found.verdict, undo_until=found.undo_until
        )


class Decisions(_Answer):
    """All that people decided of an item, oldest first."""

    decisions: list[Made]


class Example(_Answer):
    """An item that a person decided. `flagged`, `scores`, `policy`, `models`: of the verdict before
    the decision. `audit`: it was drawn by lot from what the policy passed. `still`: path of a
    picture of it; `film`: of a video's proxy."""

    item_id: str
    sha256: str
    kind: str
    source: str | None
    data_id: str | None
    action: Action
    label: str | None
    labels: dict[str, str]
    note: str | None
    actor: str
    flagged: list[str]
    scores: dict[str, float]
    policy: str
    models: list[str]
    created: datetime
    audit: bool
    still: str
    film: str | None

    @classmethod
    def of(cls, row: Labelled) -> Self:
        base = f"/v1/items/{row.item_id}/derivatives"
        is_film = row.kind == "video"
        return cls(
            item_id=row.item_id,
            sha256=row.sha256,
            kind="video" if is_film else "image",
            source=row.source,
            data_id=row.data_id,
            action=row.action,
            label=row.label,
            labels=dict(row.labels),
            note=row.note,
            actor=row.actor,
            flagged=list(row.flagged),
            scores=dict(row.scores),
            policy=row.policy,
            models=list(row.models),
            created=row.created,
            audit=row.audit,
            still=f"{base}/frame-0.webp" if is_film else f"{base}/picture.webp",
            film=f"{base}/proxy.mp4" if is_film else None,
        )


_REVIEW: Final[dict[str, Any]] = {
    "item_id": ITEM,
    "state": "open",
    "label": "violence.weapon",
    "score": 0.975,
    "escalated": False,
    "audit": False,
    "claimed_by": None,
    "claim_until": None,
    "created": "2026-01-31T12:00:00Z",
}
_MADE: Final[dict[str, Any]] = {
    "id": DECISION,
    "item_id": ITEM,
    "actor": "key_0198f1c2a7d47b0c8e5f6a7b8c9d0e41",
    "action": "block",
    "label": "violence.weapon",
    "note": None,
    "labels": {"violence.weapon": "confirmed"},
    "seconds": 6.2,
    "created": "2026-01-31T12:10:00Z",
    "undone": None,
}
_BODY: Final = {"action": "block", "label": "violence.weapon", "labels": {"violence.weapon": True}}


def body() -> dict[str, Any]:
    """The JSON body of a decision, for `openapi_extra`."""
    schema = {"schema": DecisionBody.model_json_schema(), "example": _BODY}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


def _answer(model: type[BaseModel], told: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "model": model,
        "description": description,
        "content": {"application/json": {"example": told}},
    }


def review(description: str) -> dict[str, Any]:
    return _answer(Review, _REVIEW, description)


def page() -> dict[str, Any]:
    return _answer(ReviewPage, {"reviews": [_REVIEW], "next_after": None}, "The queue")


def counts() -> dict[str, Any]:
    told = {
        "open": 12,
        "escalated": 1,
        "mine": 2,
        "audits": 30,
        "by_label": {"violence.weapon": 12},
        "oldest": "2026-01-31T12:00:00Z",
    }
    return _answer(ReviewCounts, told, "What waits")


def export() -> dict[str, Any]:
    """Lines of `Example`."""
    line = {
        "item_id": ITEM,
        "sha256": "0" * 64,
        "kind": "image",
        "action": "block",
        "label": "violence.weapon",
        "labels": {"violence.weapon": "confirmed"},
        "flagged": ["violence.weapon"],
        "scores": {"violence.weapon": 0.975},
        "audit": False,
        "still": f"/v1/items/{ITEM}/derivatives/picture.webp",
    }
    content = {LINES: {"schema": {"type": "string"}, "example": f"{json.dumps(line)}\n"}}
    return {"description": "One JSON object a line", "content": content}


def decided() -> dict[str, Any]:
    told = {"decision": _MADE, "verdict": "block", "undo_until": "2026-01-31T12:11:00Z"}
    return _answer(MadeNow, told, "It is decided")


def made() -> dict[str, Any]:
    return _answer(Decisions, {"decisions": [_MADE]}, "The decisions")
