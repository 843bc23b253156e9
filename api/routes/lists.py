"""Lists of known pictures: banks, what is in them, imports, and what matches."""

from __future__ import annotations

from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from api import bodies
from api.auth import ReadKey, ReviewKey
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas import lists as shapes
from api.schemas import params
from api.schemas.lists import (
    AddedEntries,
    Bank,
    BankBody,
    BankId,
    BankPage,
    BankPatch,
    Entry,
    EntryBody,
    EntryId,
    EntryPage,
    Expires,
    Found,
    FoundEntry,
    HashBody,
    HashLookup,
    Imported,
    ImportReport,
    LookupBody,
    Match,
    RefusedLine,
    Value,
)
from api.schemas.problems import KEYED, problems
from api.submitting import as_json
from moderation.known import Hit, MatchKind, decide
from moderation.list_files import parse_csv, parse_json
from moderation.store import list_entries, listed, lists
from moderation.store.list_records import BankChanges, BankRow, NewBank, NewEntry
from moderation.store.records import KeyRow

router = APIRouter(prefix="/v1/lists", tags=["lists"])


class _BankPath(Convertor[str]):
    """What can be a list's id, so that `lookup` beside it is a path of its own."""

    regex = "bank_[^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("bank", _BankPath())

DEFAULT_LIMIT = 50
MAX_IMPORT: Final = 16 * 1024 * 1024
"""Bytes of a file of hashes: some 200,000 of them."""
CSV: Final = "text/csv"


@router.post(
    "",
    summary="Make a list",
    status_code=201,
    response_model=None,
    responses={
        201: shapes.bank("The list, without entries", located=True),
        **problems(*KEYED, 408, 409, 413, 415),
    },
    openapi_extra=shapes.NEW,
)
async def post_list(request: Request, gateway: GatewayDep, key: ReviewKey) -> Response:
    """Pictures that pass, are blocked or are reviewed without a look at them."""
    body = await bodies.only_json(request, BankBody)
    new = NewBank(
        name=body.name,
        kind=body.kind,
        decision=shapes.decision_of(body),
        label=body.label,
        distance=body.distance,
        enabled=body.enabled,
    )
    row = await in_thread(lists.create_bank, gateway.db, key.tenant, new, actor=key.id)
    return _bank(row, status=201, headers={"Location": f"/v1/lists/{row.id}"})


@router.get(
    "",
    summary="All lists",
    response_model=None,
    responses={200: shapes.page(), **problems(*KEYED)},
)
async def list_lists(
    gateway: GatewayDep,
    key: ReadKey,
    limit: params.Limit = DEFAULT_LIMIT,
    cursor: params.Cursor = None,
) -> Response:
    """Newest first, in a stable order."""
    page = await in_thread(lists.list_banks, gateway.db, key.tenant, limit=limit, cursor=cursor)
    told = BankPage(lists=[Bank.of(row) for row in page.banks], next_cursor=page.next_cursor)
    return as_json(told.model_dump_json())


@router.post(
    "/lookup",
    summary="What matches a hash or an item",
    response_model=None,
    responses={200: shapes.found(), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=shapes.LOOKUP,
)
async def lookup(request: Request, gateway: GatewayDep, key: ReadKey) -> Response:
    """Entries in force, as an upload would meet them now. The gateway decodes no pictures: one is
    looked up by the item that it was."""
    told = (await bodies.only_json(request, LookupBody)).root
    if isinstance(told, HashLookup):
        entry = NewEntry(told.match, told.value)
        return await in_thread(_found, gateway, key.tenant, [entry])
    return await in_thread(_found_of_item, gateway, key.tenant, told.item_id)


@router.get(
    "/{bank_id:bank}",
    summary="One list",
    response_model=None,
    responses={200: shapes.bank("The list"), **problems(*KEYED, 404)},
)
async def get_list(gateway: GatewayDep, key: ReadKey, bank_id: BankId) -> Response:
    """What it decides, and how many entries it has."""
    return _bank(await in_thread(lists.get_bank, gateway.db, key.tenant, bank_id))


@router.patch(
    "/{bank_id:bank}",
    summary="Change a list",
    response_model=None,
    responses={200: shapes.bank("As it is now"), **problems(*KEYED, 404, 408, 409, 413, 415)},
    openapi_extra=shapes.PATCH,
)
async def patch_list(
    request: Request, gateway: GatewayDep, key: ReviewKey, bank_id: BankId
) -> Response:
    """From the next upload on. A list keeps its kind."""
    body = await bodies.only_json(request, BankPatch)
    changes = BankChanges(**body.model_dump())
    call = partial(lists.change_bank, gateway.db, key.tenant, bank_id, changes, actor=key.id)
    return _bank(await in_thread(call))


@router.delete(
    "/{bank_id:bank}",
    summary="Delete a list",
    status_code=204,
    response_model=None,
    responses={204: {"description": "It is gone"}, **problems(*KEYED, 404)},
)
async def delete_list(gateway: GatewayDep, key: ReviewKey, bank_id: BankId) -> Response:
    """With all its entries. What it has decided stays."""
    await in_thread(lists.delete_bank, gateway.db, key.tenant, bank_id, actor=key.id)
    return Response(status_code=204)


@router.post(
    "/{bank_id}/entries",
    summary="Put a hash or an item on a list",
    status_code=201,
    response_model=None,
    responses={201: shapes.added(), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=shapes.ADD,
)
async def post_entry(
    request: Request, gateway: GatewayDep, key: ReviewKey, bank_id: BankId
) -> Response:
    """The next upload is held against it. What is there already stays as it is, unless it would end
    sooner."""
    told = await bodies.only_json(request, EntryBody)
    return await in_thread(_add, gateway, key, bank_id, told)


@router.get(
    "/{bank_id}/entries",
    summary="Entries of a list",
    response_model=None,
    responses={200: shapes.entries(), **problems(*KEYED, 404)},
)
async def list_of_entries(
    gateway: GatewayDep,
    key: ReadKey,
    bank_id: BankId,
    match: Match = None,
    value: Value = None,
    limit: params.Limit = DEFAULT_LIMIT,
    cursor: params.Cursor = None,
) -> Response:
    """Newest first; expired ones too, for 30 days."""
    page = await in_thread(
        list_entries.entries_of,
        gateway.db,
        key.tenant,
        bank_id,
        match=match,
        value=value,
        limit=limit,
        cursor=cursor,
    )
    told = EntryPage(entries=[Entry.of(row) for row in page.entries], next_cursor=page.next_cursor)
    return as_json(told.model_dump_json())


@router.delete(
    "/{bank_id}/entries/{entry_id}",
    summary="Take an entry off a list",
    status_code=204,
    response_model=None,
    responses={204: {"description": "It is gone"}, **problems(*KEYED, 404)},
)
async def delete_entry(
    gateway: GatewayDep, key: ReviewKey, bank_id: BankId, entry_id: EntryId
) -> Response:
    """The next upload is not held against it."""
    call = partial(list_entries.remove_entry, gateway.db, key.tenant, bank_id, entry_id)
    await in_thread(call, actor=key.id)
    return Response(status_code=204)


@router.post(
    "/{bank_id}/import",
    summary="Put many hashes on a list",
    response_model=None,
    responses={200: shapes.report(), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=shapes.IMPORT,
)
async def import_entries(
    request: Request,
    gateway: GatewayDep,
    key: ReviewKey,
    bank_id: BankId,
    match: Imported = MatchKind.PDQ,
    expires: Expires = None,
) -> Response:
    """From CSV (columns value[,note]) or ThreatExchange's JSON. What cannot be used is told line by
    line, and the rest is added. The same file once more changes nothing."""
    kind = bodies.media_type(request)
    if kind not in (CSV, bodies.JSON):
        raise bodies.unsupported(kind, f"{CSV} or {bodies.JSON}")
    data = await bodies.read(request, MAX_IMPORT)
    parse = parse_json if kind == bodies.JSON else partial(parse_csv, match=match)

    def load() -> Response:
        parsed = parse(data)
        done = list_entries.add_entries(
            gateway.db,
            key.tenant,
            bank_id,
            parsed.entries,
            actor=key.id,
            source="import",
            expires=expires,
        )
        some = parsed.refused[: shapes.SHOWN_REFUSED]
        report = ImportReport(
            accepted=len(done.ids),
            duplicates=done.known,
            refused_total=len(parsed.refused),
            refused=[RefusedLine(line=one.line, reason=one.reason) for one in some],
        )
        return as_json(report.model_dump_json())

    return await in_thread(load)


def _bank(row: BankRow, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return as_json(Bank.of(row).model_dump_json(), status=status, headers=headers)


def _add(gateway: Gateway, key: KeyRow, bank_id: str, body: EntryBody) -> Response:
    db, told, left_out = gateway.db, body.root, None
    if isinstance(told, HashBody):
        entries, source = [NewEntry(told.match, told.value, told.note, told.quality)], None
    else:
        source = told.item_id
        entries, left_out = list_entries.of_item(db, key.tenant, source, note=told.note)
    list_entries.add_entries(
        db,
        key.tenant,
        bank_id,
        entries,
        actor=key.id,
        source=source,
        expires=told.expires,
    )
    rows = list_entries.entries_like(db, key.tenant, bank_id, entries)
    answer = AddedEntries(entries=[Entry.of(row) for row in rows], left_out=left_out)
    return as_json(answer.model_dump_json(), status=201)


def _found_of_item(gateway: Gateway, tenant: str, item_id: str) -> Response:
    entries, _ = list_entries.of_item(gateway.db, tenant, item_id)
    return _found(gateway, tenant, entries)


def _found(gateway: Gateway, tenant: str, wanted: list[NewEntry]) -> Response:
    hits: list[Hit] = []
    for one in wanted:
        if one.match is MatchKind.SHA256:
            hits += listed.having_sha256(gateway.db, tenant, one.value)
        else:
            hits += gateway.lists.near(gateway.db, tenant, one.value).hits
    shown = hits[: shapes.MAX_FOUND]
    rows = list_entries.entries_named(gateway.db, tenant, [hit.entry_id for hit in shown])
    meant = decide(hits)
    answer = Found(
        # What was removed meanwhile is not shown.
        matches=[
            FoundEntry.of_hit(hit, rows[hit.entry_id]) for hit in shown if hit.entry_id in rows
        ],
        decision=None if meant is None else meant.outcome.decision,
    )
    return as_json(answer.model_dump_json())
