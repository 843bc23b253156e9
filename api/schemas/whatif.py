"""Bodies and answers of what-if: what other rules would have decided."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, RootModel

from api.schemas import params
from api.schemas.policies import DRAFT, SHADOWED, Answer, Body, Draft, ShadowFacts, answer, request
from moderation.store.judged import LAST, MAX_LAST
from moderation.types import Decision
from moderation.whatif import Agreement, Comparison, LeftOut

Last = Annotated[
    int, Query(ge=1, le=MAX_LAST, description="so many of the items that came since, the newest")
]
Since = Annotated[
    Annotated[datetime, Field(strict=False)] | None,
    BeforeValidator(params.told),
    AfterValidator(params.utc),
    Field(description="RFC 3339; items that came before it are left out"),
]


class _Tried(Body):
    last: int = Field(default=LAST, ge=1, le=MAX_LAST, description="so many items, the newest")
    since: Since = None


class DraftTried(_Tried):
    """Rules that nobody has published."""

    draft: Draft


class VersionTried(_Tried):
    """An earlier version."""

    version: int = Field(ge=1, le=1_000_000)


class WhatIfBody(RootModel[DraftTried | VersionTried]):
    """What is held against the version in force."""

    model_config = ConfigDict(frozen=True)


class Mix(Answer):
    """Items by what is decided of them."""

    passed: int = Field(serialization_alias="pass")
    review: int
    block: int


class People(Answer):
    """Against what people decided of the same items. flagged: review or block; right: people
    blocked it; missed: passed, and people blocked it. precision: null where nothing is flagged."""

    reviewed: int
    flagged: int
    flagged_right: int
    blocked: int
    blocked_right: int
    missed: int
    precision: float | None
    block_precision: float | None

    @classmethod
    def of(cls, one: Agreement) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class Shift(Answer):
    """Items that the rule of a label flags by itself."""

    label: str
    now: int
    then: int


class Move(Answer):
    """Items that are decided differently."""

    now: Decision
    then: Decision
    items: int


class Changed(Answer):
    """One of them. label: of the rule that changes it; score: its highest. person: what a person
    decided."""

    item_id: str
    kind: str
    now: Decision
    then: Decision
    label: str | None = None
    score: float | None = None
    person: Decision | None = None


class Sides(Answer):
    now: Mix
    then: Mix


class PeopleSides(Answer):
    now: People
    then: People


class WhatIf(Answer):
    """What would have been decided of stored scores, without a model. considered: items that were
    decided again; left_out: others, and why. checked, alike: of those that this very version
    judged, how many come out as they did then. unanswered: labels of rules that no loaded model
    answers, so that `on_failure` decides."""

    policy: str = Field(description="in force now")
    considered: int
    changed: int
    left_out: dict[LeftOut, int]
    decisions: Sides
    moves: list[Move]
    labels: list[Shift]
    people: PeopleSides
    examples: list[Changed]
    checked: int
    alike: int
    unanswered: list[str]

    @classmethod
    def of(cls, told: Comparison, unanswered: list[str]) -> Self:
        return cls(
            policy=told.now.ref,
            considered=told.considered,
            changed=told.changed,
            left_out=dict(told.left_out),
            decisions=Sides(now=_mix(told.counts_now), then=_mix(told.counts_then)),
            moves=[Move(now=a, then=b, items=n) for (a, b), n in sorted(told.moves.items())],
            labels=[Shift(label=x.label, now=x.now, then=x.then) for x in told.labels],
            people=PeopleSides(now=People.of(told.people_now), then=People.of(told.people_then)),
            examples=[
                Changed(**{name: getattr(one, name) for name in Changed.model_fields})
                for one in told.examples
            ],
            checked=told.checked,
            alike=told.alike,
            unanswered=unanswered,
        )


class ShadowReport(Answer):
    """What is watched, and what it would have decided since."""

    shadow: ShadowFacts
    what_if: WhatIf


def _mix(counts: Any) -> Mix:
    return Mix(
        passed=counts[Decision.PASS],
        review=counts[Decision.REVIEW],
        block=counts[Decision.BLOCK],
    )


_WHAT_IF: Final = WhatIf(
    policy="default@4",
    considered=9800,
    changed=31,
    left_out={LeftOut.LISTED: 200},
    decisions=Sides(
        now=Mix(passed=9600, review=190, block=10), then=Mix(passed=9569, review=218, block=13)
    ),
    moves=[Move(now=Decision.PASS, then=Decision.REVIEW, items=31)],
    labels=[Shift(label="porn.explicit", now=60, then=91)],
    people=PeopleSides(
        now=People.of(Agreement(120, 110, 44, 9, 9, 3)),
        then=People.of(Agreement(120, 117, 46, 11, 11, 1)),
    ),
    examples=[
        Changed(
            item_id="item_0198f1c2a7d47b0c8e5f6a7b8c9d0e1f",
            kind="image",
            now=Decision.PASS,
            then=Decision.REVIEW,
            label="porn.explicit",
            score=0.68,
        )
    ],
    checked=9800,
    alike=9800,
    unanswered=[],
)


WHAT_IF: Final = request("WhatIfBody", {"draft": DRAFT, "last": 10_000})


def what_if() -> dict[str, Any]:
    return answer(_WHAT_IF, "What would change")


def shadow_report() -> dict[str, Any]:
    report = ShadowReport(shadow=ShadowFacts.of(SHADOWED), what_if=_WHAT_IF)
    return answer(report, "What it would have decided since")
