"""Frozen rows and arguments of accounts and reviews, as the other layers see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from moderation.types import Decision


class Role(StrEnum):
    """Each may do what those before it may.

    VIEWER looks; REVIEWER claims and decides; LEAD takes over, decides many at once, keeps lists
    and policies; ADMIN keeps accounts, and deletes.
    """

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    LEAD = "lead"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A person who signs in. locked_until: no password is looked at before; seen: last sign-in.
    external: an identity provider vouches for this person, who has no password here."""

    id: str
    tenant: str
    name: str
    role: Role
    disabled: bool
    locked_until: datetime | None
    preferences: Mapping[str, Any]
    created: datetime
    seen: datetime | None
    external: bool = False


class ReviewState(StrEnum):
    """OPEN waits for a person; DECIDED by one; SETTLED without: a later verdict needs none."""

    OPEN = "open"
    DECIDED = "decided"
    SETTLED = "settled"


class Action(StrEnum):
    """What a person does with an item. ESCALATE leaves the verdict, and asks for another person."""

    PASS = "pass"  # noqa: S105 - a decision, not a secret
    BLOCK = "block"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """An item that waits for a person, or did. label, score: of the gravest reason, None where
    nothing was scored. rank, due: the queue is in their order, lowest first. audit: the policy
    passed it, and it was drawn for people to look at all the same. claimed_by: who has it until
    `claim_until`."""

    item_id: str
    tenant: str
    state: ReviewState
    rank: int
    due: datetime
    label: str | None
    score: float | None
    escalated: bool
    audit: bool
    claimed_by: str | None
    claim_until: datetime | None
    created: datetime


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """All that are given must hold. decision: of the verdict in force. scores: least and highest,
    both included."""

    state: ReviewState | None = ReviewState.OPEN
    decision: Decision | None = None
    label: str | None = None
    source: str | None = None
    data_id: str | None = None
    stream_id: str | None = None
    policy: str | None = None
    kind: Literal["image", "video"] | None = None
    sha256: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    scores: tuple[float, float] | None = None
    escalated: bool | None = None
    audit: bool | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person decided. label: what a block is for; labels: what the models named, confirmed
    (true) or rejected."""

    action: Action
    label: str | None = None
    note: str | None = None
    labels: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision as it is kept. seconds: since its item was claimed; None: it was not."""

    id: str
    item_id: str
    actor: str
    action: Action
    label: str | None
    note: str | None
    labels: Mapping[str, str]
    seconds: float | None
    created: datetime
    undone: datetime | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of an item. undo_until: the one who decided may take it back before."""

    decision: DecisionRow
    verdict: Decision
    undo_until: datetime
