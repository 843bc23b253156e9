"""Files of hashes as other systems give them: CSV, and JSON as of ThreatExchange. Pure.

What cannot be used is refused line by line, with the reason; the rest is taken.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from moderation.errors import InputError
from moderation.known import MatchKind
from moderation.store.list_records import NewEntry

TYPES: Final = {"HASH_PDQ": MatchKind.PDQ, "HASH_SHA256": MatchKind.SHA256}
"""The types of ThreatExchange that mean something here."""


@dataclass(frozen=True, slots=True)
class Refused:
    """line: of CSV, or the number of the thing in `data`; from 1."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    entries: tuple[NewEntry, ...]
    refused: tuple[Refused, ...]


def parse_csv(data: bytes, match: MatchKind) -> Parsed:
    """Columns value[,note], with or without a heading; UTF-8. CSV does not tell hashes of one kind
    from those of the other: `match` does. Raises InputError (file_invalid) for what is no text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid("The file is not text in UTF-8.") from error
    return _parsed(_csv_entries(text, match))


def parse_json(data: bytes) -> Parsed:
    """{"data": [{"indicator" or "hash": …, "type": "HASH_PDQ" or "HASH_SHA256"}, …]}; `note` or
    `description`, and `quality` of a PDQ hash, are taken along. Raises InputError
    (file_invalid)."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("The file is not JSON.") from error
    things = told.get("data") if isinstance(told, dict) else None
    if not isinstance(things, list):
        raise _invalid('The file is not {"data": […]}.')
    return _parsed(_made(number, thing) for number, thing in enumerate(things, 1))


def _csv_entries(text: str, match: MatchKind) -> Iterator[NewEntry | Refused | None]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # Where a quotation does not end, nobody knows where the next line begins.
            yield Refused(rows.line_num, f"This is not CSV, nor is the rest read: {error}.")
            return
        value, *more = [cell.strip() for cell in cells] or [""]
        if not any((value, *more)) or (rows.line_num == 1 and value.lower() == "value"):
            yield None
        else:
            note = more[0] if more else None
            yield _entry(rows.line_num, match, value, note or None, None)


def _made(number: int, thing: Any) -> NewEntry | Refused:
    if not isinstance(thing, dict):
        return Refused(number, "This is no JSON object.")
    match = TYPES.get(str(thing.get("type")))
    if match is None:
        return Refused(number, f"Only the types {' and '.join(TYPES)} are used.")
    value, note = thing.get("indicator", thing.get("hash")), thing.get("note")
    note = thing.get("description") if note is None else note
    quality = thing.get("quality")
    if not isinstance(value, str):
        return Refused(number, "There is neither `indicator` nor `hash`.")
    if not isinstance(note, str | None):
        return Refused(number, "A note is text.")
    # JSON's true is a number to Python.
    if quality is not None and type(quality) is not int:
        return Refused(number, "A quality is a whole number.")
    return _entry(number, match, value, note or None, quality if match is MatchKind.PDQ else None)


def _entry(
    line: int, match: MatchKind, value: str, note: str | None, quality: int | None
) -> NewEntry | Refused:
    try:
        # A lone surrogate, which JSON can spell, is no text that can be stored.
        (note or "").encode()
        return NewEntry(match, value.strip().lower(), note, quality)
    except InputError as error:
        return Refused(line, error.message)
    except UnicodeEncodeError:
        return Refused(line, "The note is no text.")


def _parsed(found: Iterator[NewEntry | Refused | None]) -> Parsed:
    entries: list[NewEntry] = []
    refused: list[Refused] = []
    for one in found:
        if isinstance(one, NewEntry):
            entries.append(one)
        elif one is not None:
            refused.append(one)
    return Parsed(tuple(entries), tuple(refused))


def _invalid(message: str) -> InputError:
    return InputError(message, code="file_invalid")
