"""Filters as they stand in an address: what a person may narrow the queue and an export by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.schemas.params import TEXT
from api.schemas.reviews import LABEL
from moderation.errors import InputError
from moderation.store.labelled import Wanted
from moderation.store.review_records import Action, ReviewFilter, ReviewState
from moderation.types import Decision

State = Literal["open", "decided", "settled", "all"]


def _moment(value: Any) -> Any:
    """`2026-01-31`, or `2026-01-31T12:00`, as in a form: UTC."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


Words = Annotated[str, Field(max_length=1024, pattern=TEXT)] | None
Moment = Annotated[datetime, BeforeValidator(_moment)] | None
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None


class _Filter(BaseModel):
    """All that are given must hold. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, values: dict[str, str]) -> Self:
        """From the query of an address; fields of a form that were left empty ask for nothing.
        Raises InputError."""
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            names = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
            raise InputError(f"The filter cannot be read: {names}.") from error

    @property
    def told(self) -> dict[str, str]:
        """As it stands in an address or a form, what is as usual left out."""
        found = self.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        return {name: _text(value) for name, value in sorted(found.items())}

    @property
    def query(self) -> str:
        return urlencode(self.told)


class QueueFilter(_Filter):
    """Of the queue."""

    state: State = "open"
    decision: Decision | None = None
    label: Annotated[str, Field(max_length=128, pattern=LABEL)] | None = None
    kind: Literal["image", "video"] | None = None
    source: Words = None
    data_id: Words = None
    policy: Words = None
    stream_id: Words = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    since: Moment = None
    until: Moment = None
    min_score: Score = None
    max_score: Score = None
    escalated: bool | None = None
    audit: bool | None = None

    @property
    def narrowed(self) -> int:
        """How many conditions it has."""
        return len(self.model_dump(exclude_defaults=True, exclude_none=True))

    def stored(self) -> ReviewFilter:
        bounded = self.min_score is not None or self.max_score is not None
        high = 1.0 if self.max_score is None else self.max_score
        return ReviewFilter(
            state=None if self.state == "all" else ReviewState(self.state),
            decision=self.decision,
            label=self.label,
            kind=self.kind,
            source=self.source,
            data_id=self.data_id,
            policy=self.policy,
            stream_id=self.stream_id,
            sha256=None if self.sha256 is None else self.sha256.lower(),
            since=self.since,
            until=self.until,
            scores=(self.min_score or 0.0, high) if bounded else None,
            escalated=self.escalated,
            audit=self.audit,
        )


class ExportFilter(_Filter):
    """Of decisions, by when they were made and what they say."""

    since: Moment = None
    until: Moment = None
    action: Literal["pass", "block"] | None = None
    label: Annotated[str, Field(max_length=128, pattern=LABEL)] | None = None

    def stored(self) -> Wanted:
        action = None if self.action is None else Action(self.action)
        return Wanted(self.since, self.until, action, self.label)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
