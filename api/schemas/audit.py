"""Answers about who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.examples import ITEM
from moderation.store.audits import AuditRow


class Act(BaseModel):
    """One act. `actor`: an account, a key, or `system`. `target`: what it was done to."""

    model_config = ConfigDict(frozen=True)

    id: int
    actor: str
    action: str = Field(examples=["review.block", "item.reveal", "item.delete"])
    target: str
    detail: dict[str, Any]
    created: datetime

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        return cls(
            id=row.id,
            actor=row.actor,
            action=row.action,
            target=row.target,
            detail=dict(row.detail),
            created=row.created,
        )


class AuditPage(BaseModel):
    """Newest first."""

    model_config = ConfigDict(frozen=True)

    acts: list[Act]
    next_before: int | None = Field(
        default=None, description="`before` of the next page; null: there is none"
    )


def page() -> dict[str, Any]:
    act = {
        "id": 4711,
        "actor": "user_0198f1c2a7d47b0c8e5f6a7b8c9d0e51",
        "action": "review.block",
        "target": ITEM,
        "detail": {},
        "created": "2026-01-31T12:10:00Z",
    }
    return {
        "model": AuditPage,
        "description": "The audit",
        "content": {"application/json": {"example": {"acts": [act], "next_before": None}}},
    }
