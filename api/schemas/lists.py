"""Bodies of requests and answers about lists, with their examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from api.schemas import params
from api.schemas.params import TEXT
from moderation.hash_index import MAX_DISTANCE
from moderation.known import BankKind, Hit, MatchKind
from moderation.store.list_records import MAX_NAME, MAX_NOTE, BankRow, EntryRow
from moderation.types import Decision

BANK: Final = "bank_0198f1c2a7d47b0c8e5f6a7b8c9d0e25"
ENTRY: Final = "entry_0198f1c2a7d47b0c8e5f6a7b8c9d0e26"
CREATED: Final = "2026-01-31T12:00:00Z"
PDQ: Final = "f8f8f0cce0f4e84d0e370a22028f67f0b36e2ed596623e1d33e6339c4e9c9b22"
MAX_FOUND: Final = 200
"""Entries that a lookup tells."""
SHOWN_REFUSED: Final = 100
"""Lines of an import that are told one by one; all of them are counted."""

BankId = Annotated[str, Path(pattern=r"^bank_[0-9a-f]{32}$")]
EntryId = Annotated[str, Path(pattern=r"^entry_[0-9a-f]{32}$")]
Match = Annotated[MatchKind | None, Query(description="entries of this kind")]
Value = Annotated[
    str | None, Query(pattern=r"^[0-9a-f]{64}$", description="the entry of this hash")
]
Imported = Annotated[
    MatchKind, Query(description="what the hashes of a CSV file are; JSON says it by itself")
]
Expires = Annotated[
    params.Moment,
    Query(description="what is added matches nothing from then on; left out: it stays"),
]

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=TEXT)]
Label = Annotated[
    str,
    Field(max_length=128, pattern=r"^[a-z_]+\.[a-z_]+$", examples=["porn.explicit"]),
]
Distance = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_DISTANCE,
        description="bits of 256 in which the PDQ hashes of a picture and an entry may differ",
    ),
]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=[PDQ])]
Until = Annotated[
    Annotated[datetime, Field(strict=False)] | None,
    BeforeValidator(params.told),
    AfterValidator(params.utc),
    Field(description="RFC 3339; matches nothing from then on. Left out: it stays"),
]
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE, pattern=TEXT)]
ItemId = Annotated[str, Field(pattern=r"^item_[0-9a-f]{32}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BankBody(_Body):
    """A new list. An allow list decides `pass`; a block list `block`, unless it says `review`, and
    has a label, which its reasons name."""

    name: Name
    kind: BankKind
    decision: Decision | None = None
    label: Label | None = None
    distance: Distance = MAX_DISTANCE
    enabled: bool = True


class BankPatch(_Body):
    """What is to be other than it is; the rest stays."""

    name: Name | None = None
    decision: Decision | None = None
    label: Label | None = None
    distance: Distance | None = None
    enabled: bool | None = None


class HashBody(_Body):
    """A hash. quality: of PDQ, where it is known; below 50 the picture is too plain."""

    match: MatchKind
    value: Hash
    quality: Annotated[int, Field(ge=0, le=100)] | None = None
    note: Note | None = None
    expires: Until = None


class ItemBody(_Body):
    """The medium of an item: its bytes, and how a picture looks."""

    item_id: ItemId
    note: Note | None = None
    expires: Until = None


class EntryBody(RootModel[HashBody | ItemBody]):
    """What is to be on the list."""

    model_config = ConfigDict(frozen=True)


class HashLookup(_Body):
    """A hash that is looked for."""

    match: MatchKind
    value: Hash


class ItemLookup(_Body):
    """The medium of an item is looked for, by its bytes and by how it looks."""

    item_id: ItemId


class LookupBody(RootModel[HashLookup | ItemLookup]):
    """What is looked for."""

    model_config = ConfigDict(frozen=True)


class ExchangeBody(BaseModel):
    """Hashes as of ThreatExchange. Of each thing `indicator` or `hash`, `type` (`HASH_PDQ` or
    `HASH_SHA256`), `note` or `description`, and `quality` are read."""

    data: list[Any]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Bank(_Answer):
    """A list. entries: how many it has; expired ones too, for 30 days."""

    id: str
    name: str
    kind: BankKind
    decision: Decision
    label: str | None = None
    distance: int
    enabled: bool
    entries: int
    created: datetime
    updated: datetime

    @classmethod
    def of(cls, row: BankRow) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class BankPage(_Answer):
    """Newest first. `next_cursor` is null on the last page."""

    lists: list[Bank]
    next_cursor: str | None = None


class Entry(_Answer):
    """source: the item that it was taken from, or how else it came."""

    id: str
    match: MatchKind
    value: str
    quality: int | None = None
    note: str | None = None
    source: str | None = None
    created_by: str
    expires: datetime | None = None
    created: datetime

    @classmethod
    def of(cls, row: EntryRow) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class EntryPage(_Answer):
    """Newest first. `next_cursor` is null on the last page."""

    entries: list[Entry]
    next_cursor: str | None = None


class AddedEntries(_Answer):
    """The entries that are on the list now, those that were there before too. left_out: why an
    item gave no more."""

    entries: list[Entry]
    left_out: str | None = None


class RefusedLine(_Answer):
    """line: of CSV, or the number of the thing in `data`; from 1."""

    line: int
    reason: str


class ImportReport(_Answer):
    """What came of a file. duplicates: were there already, or came twice. refused: the first ones;
    `refused_total` counts all."""

    accepted: int
    duplicates: int
    refused_total: int
    refused: list[RefusedLine]


class FoundEntry(_Answer):
    """An entry in force that matches. distance: bits of 256 in which it differs; 0 for sha256."""

    list_id: str
    list: str
    kind: BankKind
    decision: Decision
    label: str | None = None
    distance: int
    entry: Entry

    @classmethod
    def of_hit(cls, hit: Hit, row: EntryRow) -> Self:
        return cls(
            list_id=hit.bank_id,
            list=hit.bank,
            kind=hit.kind,
            decision=hit.decision,
            label=hit.label,
            distance=hit.distance,
            entry=Entry.of(row),
        )


class Found(_Answer):
    """Entries that match, the same bytes first, then the nearest, 200 at most. decision: what all
    of them mean together for a still and opaque picture; null when there are none."""

    matches: list[FoundEntry]
    decision: Decision | None = None


_BANK: Final[dict[str, Any]] = {
    "id": BANK,
    "name": "known bad",
    "kind": "block",
    "decision": "block",
    "label": "porn.explicit",
    "distance": 31,
    "enabled": True,
    "entries": 1204,
    "created": CREATED,
    "updated": CREATED,
}
_ENTRY: Final[dict[str, Any]] = {
    "id": ENTRY,
    "match": "pdq",
    "value": PDQ,
    "quality": 100,
    "note": "case 17",
    "source": "item_0198f1c2a7d47b0c8e5f6a7b8c9d0e1f",
    "created_by": "key_0198f1c2a7d47b0c8e5f6a7b8c9d0e27",
    "expires": None,
    "created": CREATED,
}
_NEW: Final = {"name": "known bad", "kind": "block", "label": "porn.explicit"}
_REPORT: Final[dict[str, Any]] = {
    "accepted": 980,
    "duplicates": 12,
    "refused_total": 1,
    "refused": [{"line": 17, "reason": "A hash is 64 hexadecimal digits."}],
}
_THINGS: Final = [{"indicator": PDQ, "type": "HASH_PDQ", "description": "case 17"}]


def _request(name: str, example: Any) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {"application/json": _json(name, example)}}
    }


def _json(name: str, example: Any) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}


NEW: Final = _request("BankBody", _NEW)
PATCH: Final = _request("BankPatch", {"distance": 16})
ADD: Final = _request("EntryBody", {"match": "pdq", "value": PDQ, "note": "case 17"})
LOOKUP: Final = _request("LookupBody", {"match": "pdq", "value": PDQ})
IMPORT: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": f"value,note\n{PDQ},case 17\n"},
            "application/json": _json("ExchangeBody", {"data": _THINGS}),
        },
    }
}


def bank(description: str, *, located: bool = False) -> dict[str, Any]:
    told = _answer(Bank(**_BANK), description)
    if located:
        location = {"schema": {"type": "string"}, "required": True, "description": "the list"}
        told["headers"] = {"Location": location}
    return told


def page() -> dict[str, Any]:
    return _answer(BankPage(lists=[Bank(**_BANK)]), "One page")


def entries() -> dict[str, Any]:
    return _answer(EntryPage(entries=[Entry(**_ENTRY)]), "One page")


def added() -> dict[str, Any]:
    return _answer(AddedEntries(entries=[Entry(**_ENTRY)]), "They are on the list")


def report() -> dict[str, Any]:
    return _answer(ImportReport(**_REPORT), "What came of it")


def found() -> dict[str, Any]:
    match: dict[str, Any] = {name: _BANK[name] for name in ("kind", "decision", "label")}
    one = FoundEntry(list_id=BANK, list="known bad", distance=6, entry=Entry(**_ENTRY), **match)
    return _answer(Found(matches=[one], decision=Decision.BLOCK), "What matches")


def _answer(value: BaseModel, description: str) -> dict[str, Any]:
    content = {"application/json": {"example": value.model_dump(mode="json")}}
    return {"model": type(value), "description": description, "content": content}


def decision_of(body: BankBody) -> Decision:
    """As told, or the kind's own."""
    if body.decision is not None:
        return body.decision
    return Decision.PASS if body.kind is BankKind.ALLOW else Decision.BLOCK
