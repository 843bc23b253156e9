"""Bodies of requests and answers about policies, with their examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.params import TEXT
from moderation.policy import Policy, Rule
from moderation.policy_diff import PolicyChange, changes
from moderation.store.releases import MAX_NOTE, Release, Shadow, with_previous
from moderation.types import Decision

CREATED: Final = "2026-01-31T12:00:00Z"
ACTOR: Final = "key_0198f1c2a7d47b0c8e5f6a7b8c9d0e27"

PolicyId = Annotated[
    str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["default"], description="its name")
]
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE, pattern=TEXT)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RuleBody(Rule):
    """A rule as a caller tells it: a number is no text, and no truth."""

    model_config = ConfigDict(strict=True)


class Draft(Body):
    """Rules of a policy, all of them: a label without a rule is not looked for."""

    summary: str = Field(default="", max_length=500)
    mode: Literal["live", "shadow"] = "live"
    on_failure: Decision = Decision.REVIEW
    rules: list[RuleBody] = Field(min_length=1, max_length=200)

    def values(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in Draft.model_fields}
        return told | {"rules": [rule.model_dump() for rule in self.rules]}


class PublishBody(Draft):
    """based_on: the version that the author has seen, so that nobody undoes what another did."""

    note: Note | None = None
    based_on: int | None = Field(default=None, ge=1)


class RollBackBody(Body):
    """version: the one whose rules are to hold again."""

    version: int = Field(ge=1, le=1_000_000)
    note: Note | None = None


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class PolicyFacts(Answer):
    """A policy in force. `default`: used when a request names none."""

    id: str
    version: int
    ref: str = Field(examples=["default@4"])
    summary: str
    mode: Literal["live", "shadow"]
    on_failure: Decision
    rules: list[Rule]
    default: bool

    @classmethod
    def of(cls, policy: Policy, default: str) -> Self:
        return cls(**_told(policy), default=default in (policy.id, policy.ref))


class Policies(Answer):
    policies: list[PolicyFacts]


class ChangeFacts(Answer):
    """What differs. label: null of the policy itself. field: null where a rule came or went, which
    is told in words."""

    label: str | None = None
    field: str | None = None
    before: Any = None
    after: Any = None

    @classmethod
    def of(cls, one: PolicyChange) -> Self:
        return cls(label=one.label, field=one.field, before=one.before, after=one.after)


class Version(Answer):
    """A version that was published. by: whose key or account; `file` where it came with a file.
    restores: the version whose rules it has again. changes: against the one before it."""

    id: str
    version: int
    ref: str
    summary: str
    mode: Literal["live", "shadow"]
    on_failure: Decision
    rules: list[Rule]
    by: str
    note: str | None = None
    restores: int | None = None
    created: datetime
    changes: list[ChangeFacts]

    @classmethod
    def of(cls, release: Release, before: Policy | None) -> Self:
        told = () if before is None else changes(before, release.policy)
        return cls(
            **_told(release.policy),
            by=release.actor,
            note=release.note,
            restores=release.restores,
            created=release.created,
            changes=[ChangeFacts.of(one) for one in told],
        )


class Versions(Answer):
    """Newest first; none of a policy that nobody published: its file says what it is."""

    versions: list[Version]

    @classmethod
    def of(cls, history: tuple[Release, ...]) -> Self:
        return cls(versions=[Version.of(*pair) for pair in with_previous(history)])


class PublishedVersion(Version):
    """streams: how many live streams go on under it."""

    streams: int


class ShadowFacts(Answer):
    """Rules that decide nothing, and are held against all that comes in."""

    on_failure: Decision
    rules: list[Rule]
    by: str
    since: datetime

    @classmethod
    def of(cls, shadow: Shadow) -> Self:
        policy = shadow.policy
        return cls(
            on_failure=policy.on_failure,
            rules=list(policy.rules),
            by=shadow.actor,
            since=shadow.since,
        )


def _told(policy: Policy) -> dict[str, Any]:
    return {
        "id": policy.id,
        "version": policy.version,
        "ref": policy.ref,
        "summary": policy.summary,
        "mode": policy.mode,
        "on_failure": policy.on_failure,
        "rules": list(policy.rules),
    }


_RULES: Final = [{"label": "porn.explicit", "review_at": 0.7, "block_at": 0.95}]
DRAFT: Final[dict[str, Any]] = {"summary": "Stricter with porn.", "rules": _RULES}
_POLICY: Final = Policy(
    id="default", version=5, summary="Stricter with porn.", rules=(Rule(**_RULES[0]),)
)
_RELEASE: Final = Release(_POLICY, ACTOR, "too many misses", None, datetime.fromisoformat(CREATED))


def request(name: str, example: Any) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


PUBLISH: Final = request("PublishBody", DRAFT | {"note": "too many misses", "based_on": 4})
ROLL_BACK: Final = request("RollBackBody", {"version": 4})
SHADOW: Final = request("Draft", DRAFT)


def policies() -> dict[str, Any]:
    facts = PolicyFacts.of(_POLICY, "default")
    return answer(Policies(policies=[facts]), "All policies in force")


def policy() -> dict[str, Any]:
    return answer(PolicyFacts.of(_POLICY, "default"), "As it is in force")


def versions() -> dict[str, Any]:
    return answer(Versions.of((_RELEASE,)), "What was published")


def published() -> dict[str, Any]:
    told = Version.of(_RELEASE, None).model_dump()
    return answer(PublishedVersion(**told, streams=2), "In force from now on")


def shadow() -> dict[str, Any]:
    return answer(ShadowFacts.of(SHADOWED), "It is watched from now on")


SHADOWED: Final = Shadow(_POLICY, ACTOR, datetime.fromisoformat(CREATED))


def answer(value: BaseModel, description: str) -> dict[str, Any]:
    content = {"application/json": {"example": value.model_dump(mode="json", by_alias=True)}}
    return {"model": type(value), "description": description, "content": content}
