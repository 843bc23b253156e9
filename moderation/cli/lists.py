"""`moderation lists list | import`, straight in the database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from moderation.cli.database import opened
from moderation.cli.out import (
    EXIT_OK,
    EXIT_WRONG,
    Config,
    Json,
    answer,
    new_group,
    note,
    printable,
    progress,
    table,
)
from moderation.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from moderation.list_files import Parsed
    from moderation.store.engine import Database
    from moderation.store.list_records import BankRow

group = new_group("Lists of known pictures: what they are, and files of hashes for them.")

ACTOR: Final = "system"
SHOWN: Final = 20
"""Lines that were refused, as they are told one by one."""
MAX_DAYS: Final = 3650

Tenant = Annotated[str, typer.Option(help="Whose lists.")]


@group.command("list")
def list_(tenant: Tenant = "default", settings_file: Config = None, json: Json = False) -> None:
    """All lists of a tenant, the newest first."""
    with opened(settings_file) as db:
        rows = _all(db, tenant)
    if json:
        answer([_public(row) for row in rows])
        return
    table(
        ("id", "name", "verdict", "label", "distance", "entries", "state"),
        [
            (
                row.id,
                row.name,
                row.decision.value,
                row.label or "-",
                str(row.distance),
                str(row.entries),
                "in use" if row.enabled else "switched off",
            )
            for row in rows
        ],
    )


@group.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV (value[,note]) or ThreatExchange's JSON, of any size.")
    ],
    list_name: Annotated[str, typer.Option("--list", help="Name or id of the list.")],
    match: Annotated[
        str, typer.Option(help="What the hashes of a CSV file are: pdq or sha256.")
    ] = "pdq",
    expires_days: Annotated[
        int | None,
        typer.Option("--expires-days", help="The entries end after so many days; without: never."),
    ] = None,
    tenant: Tenant = "default",
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Put the hashes of a file on a list. What is there already stays, so a file may come twice.

    Exit code 1 when some lines could not be used; all others are on the list then."""
    if expires_days is not None and not 1 <= expires_days <= MAX_DAYS:
        raise InputError(f"Entries end after 1 to {MAX_DAYS} days.")
    parsed = _read(file, match)
    ends = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
    with opened(settings_file) as db:
        bank = _found(db, tenant, list_name)
        added = _add(db, bank, parsed, ends)
    told = {
        "list": bank.id,
        "name": bank.name,
        "accepted": added,
        "duplicates": len(parsed.entries) - added,
        "refused_total": len(parsed.refused),
        "refused": [{"line": one.line, "reason": one.reason} for one in parsed.refused[:SHOWN]],
    }
    if json:
        answer(told)
    else:
        _tell(told)
    return EXIT_WRONG if parsed.refused else EXIT_OK


def _read(file: Path, match: str) -> Parsed:
    """Raises InputError."""
    from moderation.known import MatchKind
    from moderation.list_files import parse_csv, parse_json

    try:
        kind = MatchKind(match)
    except ValueError as error:
        raise InputError("--match is pdq or sha256.") from error
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {printable(str(file))}: {error.strerror}") from error
    # No hash, and no heading, begins so.
    is_json = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    return parse_json(data) if is_json else parse_csv(data, kind)


def _found(db: Database, tenant: str, wanted: str) -> BankRow:
    """By name; else by id. Raises NotFoundError."""
    from moderation.store import lists

    named = lists.bank_named(db, tenant, wanted)
    if named is not None:
        return named
    if re.fullmatch(r"bank_[0-9a-f]{32}", wanted):
        return lists.get_bank(db, tenant, wanted)
    raise NotFoundError(f"Tenant {tenant} has no list {printable(wanted)}: moderation lists list.")


def _add(db: Database, bank: BankRow, parsed: Parsed, expires: datetime | None) -> int:
    """How many are new. Each part is one transaction."""
    from moderation.store import list_entries
    from moderation.store.lists import BATCH

    total, added = len(parsed.entries), 0
    for at in range(0, total, BATCH):
        done = list_entries.add_entries(
            db,
            bank.tenant,
            bank.id,
            parsed.entries[at : at + BATCH],
            actor=ACTOR,
            source="import",
            expires=expires,
        )
        added += len(done.ids)
        progress("imported", min(at + BATCH, total), total)
    return added


def _tell(told: dict[str, Any]) -> None:
    for one in told["refused"]:
        note(f"line {one['line']}: {printable(one['reason'])}")
    left = told["refused_total"] - len(told["refused"])
    if left:
        note(f"and {left} lines more")
    typer.echo(
        f"{printable(told['name'])}: {told['accepted']} added, {told['duplicates']} there already, "
        f"{told['refused_total']} not usable"
    )


def _all(db: Database, tenant: str) -> list[BankRow]:
    from moderation.store import lists

    found: list[BankRow] = []
    cursor: str | None = None
    while True:
        page = lists.list_banks(db, tenant, limit=200, cursor=cursor)
        found += page.banks
        cursor = page.next_cursor
        if cursor is None:
            return found


def _public(row: BankRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "kind": row.kind.value,
        "decision": row.decision.value,
        "label": row.label,
        "distance": row.distance,
        "enabled": row.enabled,
        "entries": row.entries,
        "created": row.created.isoformat(),
        "updated": row.updated.isoformat(),
    }
