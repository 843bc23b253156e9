"""Lists: banks of known media, their entries, and what is known of a hash or an item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Form, FormDep, Lead, Reviewer, Viewer, Visitor
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas.params import ItemId
from moderation.errors import InputError
from moderation.hash_index import MAX_DISTANCE
from moderation.known import BankKind, Hit, MatchKind, decide
from moderation.labels import LABELS
from moderation.list_files import Parsed, parse_csv
from moderation.store import list_entries, listed, lists
from moderation.store.list_records import BankChanges, BankRow, EntryRow, NewBank, NewEntry
from moderation.types import Decision

router = APIRouter(route_class=ConsoleRoute)

PAGE = 100
MAX_BANKS = 200
MAX_DAYS = 3650
BankId = Annotated[str, Path(pattern=r"^bank_[0-9a-f]{32}$")]
EntryId = Annotated[str, Path(pattern=r"^entry_[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a hash or an item. entry: None where it was removed meanwhile. decision:
    what all of it means together; None: nothing."""

    asked: str
    hits: list[tuple[Hit, EntryRow | None]]
    decision: Decision | None


@router.get("/lists")
async def lists_page(
    request: Request, gateway: GatewayDep, who: Viewer, look_up: str = ""
) -> Response:
    banks = await in_thread(banks_of, gateway, who)
    asked = look_up.strip()
    found = await in_thread(_look_up, gateway, who, asked) if asked else None
    return pages.render(
        request,
        "lists.html",
        who,
        banks=banks,
        found=found,
        kinds=list(BankKind),
        labels=[one.name for one in LABELS],
        max_distance=MAX_DISTANCE,
    )


@router.post("/lists")
async def create_bank(gateway: GatewayDep, who: Lead, form: FormDep) -> Response:
    decision = _decision(form)
    new = NewBank(
        name=form.get("name", 128),
        kind=BankKind.ALLOW if decision is Decision.PASS else BankKind.BLOCK,
        decision=decision,
        label=form.get("label", 128) or None,
        distance=_distance(form),
    )
    call = partial(lists.create_bank, actor=who.account.id)
    row = await in_thread(call, gateway.db, who.account.tenant, new)
    return pages.see(f"/lists/{row.id}")


@router.get("/lists/{bank_id}")
async def bank_page(
    request: Request, gateway: GatewayDep, who: Viewer, bank_id: BankId, cursor: str | None = None
) -> Response:
    return await _bank(request, gateway, who, bank_id, cursor=cursor)


@router.post("/lists/{bank_id}")
async def change_bank(gateway: GatewayDep, who: Lead, bank_id: BankId, form: FormDep) -> Response:
    tenant, actor = who.account.tenant, who.account.id
    if form.get("act") == "delete":
        call = partial(lists.delete_bank, actor=actor)
        await in_thread(call, gateway.db, tenant, bank_id)
        return pages.see("/lists")
    changes = BankChanges(
        name=form.get("name", 128) or None,
        decision=_decision(form),
        label=form.get("label", 128) or None,
        distance=_distance(form),
        enabled=form.get("enabled") == "1",
    )
    await in_thread(partial(lists.change_bank, actor=actor), gateway.db, tenant, bank_id, changes)
    return pages.see(f"/lists/{bank_id}")


@router.post("/lists/{bank_id}/entries")
async def add_hashes(
    request: Request, gateway: GatewayDep, who: Lead, bank_id: BankId, form: FormDep
) -> Response:
    """One hash a line, as CSV: value[,note]. What cannot be used is told, the rest is added."""
    try:
        match = MatchKind(form.get("match", 8))
    except ValueError as error:
        raise InputError("A hash is sha256 or pdq.") from error
    text = form.get("hashes", 64_000)
    expires = until(form)

    def add() -> tuple[Parsed, int]:
        parsed = parse_csv(text.encode(), match=match)
        done = list_entries.add_entries(
            gateway.db,
            who.account.tenant,
            bank_id,
            parsed.entries,
            actor=who.account.id,
            source="console",
            expires=expires,
        )
        return parsed, len(done.ids)

    return await _bank(request, gateway, who, bank_id, added=await in_thread(add))


@router.post("/lists/{bank_id}/entries/{entry_id}/remove")
async def remove_entry(
    gateway: GatewayDep, who: Lead, bank_id: BankId, entry_id: EntryId
) -> Response:
    call = partial(list_entries.remove_entry, actor=who.account.id)
    await in_thread(call, gateway.db, who.account.tenant, bank_id, entry_id)
    return pages.see(f"/lists/{bank_id}")


@router.post("/items/{item_id}/list")
async def list_item(gateway: GatewayDep, who: Reviewer, item_id: ItemId, form: FormDep) -> Response:
    """Puts an item's medium on a list: the next upload is held against it."""
    await in_thread(put_on_list, gateway, who, item_id, form)
    return pages.see(f"/items/{item_id}", listed="1")


def banks_of(gateway: Gateway, who: Visitor) -> list[BankRow]:
    """By name."""
    page = lists.list_banks(gateway.db, who.account.tenant, limit=MAX_BANKS)
    return sorted(page.banks, key=lambda one: one.name)


def put_on_list(gateway: Gateway, who: Visitor, item_id: str, form: Form) -> None:
    """scope: `bytes`, or `looks` for what looks alike too. Raises InputError, NotFoundError."""
    db, tenant = gateway.db, who.account.tenant
    note, expires = form.get("list_note", 1024) or None, until(form)
    entries, left_out = list_entries.of_item(db, tenant, item_id, note=note)
    if form.get("scope", 8) == "bytes":
        entries = [one for one in entries if one.match is MatchKind.SHA256]
    elif left_out is not None:
        raise InputError(f"{left_out} Choose the exact file alone.")
    list_entries.add_entries(
        db,
        tenant,
        form.get("bank", 64),
        entries,
        actor=who.account.id,
        source=item_id,
        expires=expires,
    )


def until(form: Form) -> datetime | None:
    """When what is added ends: in so many `days`; none: never. Raises InputError."""
    days = form.get("days", 8)
    if not days:
        return None
    if not (days.isascii() and days.isdigit() and 1 <= int(days) <= MAX_DAYS):
        raise InputError(f"An entry ends in 1 to {MAX_DAYS} days, or never.")
    return datetime.now(UTC) + timedelta(days=int(days))


async def _bank(
    request: Request,
    gateway: Gateway,
    who: Visitor,
    bank_id: str,
    *,
    cursor: str | None = None,
    added: tuple[Parsed, int] | None = None,
) -> Response:
    tenant = who.account.tenant
    bank = await in_thread(lists.get_bank, gateway.db, tenant, bank_id)
    read = partial(list_entries.entries_of, limit=PAGE, cursor=cursor)
    page = await in_thread(read, gateway.db, tenant, bank_id)
    return pages.render(
        request,
        "bank.html",
        who,
        bank=bank,
        entries=page.entries,
        following=page.next_cursor,
        names=await in_thread(names_of, gateway.db, tenant),
        labels=[one.name for one in LABELS],
        max_distance=MAX_DISTANCE,
        added=added,
    )


def _look_up(gateway: Gateway, who: Visitor, asked: str) -> Found:
    """asked: an item's id, or a hash, of which nobody knows whether it is of the bytes or of how
    they look. Raises InputError, NotFoundError."""
    db, tenant = gateway.db, who.account.tenant
    if asked.startswith("item_"):
        wanted, _ = list_entries.of_item(db, tenant, asked)
    else:
        value = asked.lower()
        wanted = [NewEntry(MatchKind.SHA256, value), NewEntry(MatchKind.PDQ, value)]
    hits: list[Hit] = []
    for one in wanted:
        if one.match is MatchKind.SHA256:
            hits += listed.having_sha256(db, tenant, one.value)
        else:
            hits += gateway.lists.near(db, tenant, one.value).hits
    rows = list_entries.entries_named(db, tenant, [hit.entry_id for hit in hits[:PAGE]])
    meant = decide(hits)
    return Found(
        asked,
        [(hit, rows.get(hit.entry_id)) for hit in hits[:PAGE]],
        None if meant is None else meant.outcome.decision,
    )


def _decision(form: Form) -> Decision:
    try:
        return Decision(form.get("decision", 8))
    except ValueError as error:
        raise InputError("A list decides pass, review or block.") from error


def _distance(form: Form) -> int:
    told = form.get("distance", 4)
    if not (told.isascii() and told.isdigit()):
        raise InputError("A distance is a number of bits.")
    return int(told)
