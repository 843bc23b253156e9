"""Frozen rows and arguments of lists, as the other layers see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from moderation.errors import InputError
from moderation.hash_index import MAX_DISTANCE
from moderation.known import MIN_QUALITY, BankKind, MatchKind
from moderation.types import Decision

MAX_NAME: Final = 128
MAX_NOTE: Final = 1024

_HASH = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[a-z_]+\.[a-z_]+")


@dataclass(frozen=True, slots=True)
class NewBank:
    """A named list. decision: of what meets an entry; PASS for an allow bank, REVIEW or BLOCK for
    the others. distance: bits of 256 in which a PDQ hash may differ, 0..31. label: what a reason
    names, `category.thing`; an allow bank needs none."""

    name: str
    kind: BankKind
    decision: Decision
    label: str | None = None
    distance: int = MAX_DISTANCE
    enabled: bool = True

    def checked(self) -> Self:
        """Itself. Raises InputError (bank_invalid) where the parts do not fit together."""
        if not 1 <= len(self.name) <= MAX_NAME or "\0" in self.name:
            raise _invalid(f"A list has a name of 1 to {MAX_NAME} characters.")
        if (self.kind is BankKind.ALLOW) != (self.decision is Decision.PASS):
            raise _invalid("Allow lists decide `pass`, block lists `block` or `review`.")
        if self.kind is BankKind.BLOCK and self.label is None:
            raise _invalid("A block list needs a label for its reasons.")
        if self.label is not None and not (
            len(self.label) <= MAX_NAME and _LABEL.fullmatch(self.label)
        ):
            raise _invalid("A label is `category.thing`, in lower-case letters.")
        if not 0 <= self.distance <= MAX_DISTANCE:
            raise _invalid(f"A distance is 0 to {MAX_DISTANCE} bits.")
        return self


@dataclass(frozen=True, slots=True)
class BankChanges:
    """What is to be other than it is; None stays. A bank keeps its kind."""

    name: str | None = None
    decision: Decision | None = None
    label: str | None = None
    distance: int | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class BankRow:
    """A bank. entries: how many it has, expired ones too."""

    id: str
    tenant: str
    name: str
    kind: BankKind
    decision: Decision
    label: str | None
    distance: int
    enabled: bool
    entries: int
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class BankPage:
    """Newest first. `next_cursor`: opaque; None on the last page."""

    banks: tuple[BankRow, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class NewEntry:
    """value: 64 hexadecimal digits. quality: of a PDQ hash, 0..100, where it is known. Raises
    InputError: hash_invalid for another value, hash_plain for a picture too plain for PDQ,
    note_invalid for a note that cannot be stored."""

    match: MatchKind
    value: str
    note: str | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.value):
            raise InputError("A hash is 64 hexadecimal digits.", code="hash_invalid")
        if self.match is MatchKind.PDQ and self.quality is not None:
            if self.quality < MIN_QUALITY:
                raise InputError(
                    f"The picture is too plain for PDQ: quality {self.quality}, at least "
                    f"{MIN_QUALITY} is needed.",
                    code="hash_plain",
                )
            if self.quality > 100:
                raise InputError("A quality is 0 to 100.", code="hash_invalid")
        if self.note is not None and (len(self.note) > MAX_NOTE or "\0" in self.note):
            raise InputError(f"A note has at most {MAX_NOTE} characters.", code="note_invalid")


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry of a bank. source: an item's id, or how else it came. expires: from then on it
    matches nothing; None: never."""

    id: str
    bank_id: str
    match: MatchKind
    value: str
    quality: int | None
    note: str | None
    source: str | None
    created_by: str
    expires: datetime | None
    created: datetime


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Newest first. `next_cursor`: opaque; None on the last page."""

    entries: tuple[EntryRow, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Added:
    """ids of new entries; `known`: how many were there already, or came twice."""

    ids: tuple[str, ...]
    known: int


def _invalid(message: str) -> InputError:
    return InputError(message, code="bank_invalid")
