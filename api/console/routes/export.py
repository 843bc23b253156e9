"""Decisions as a file to train and to measure with: how many there are, and the file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import exporting
from api.console import pages
from api.console.access import Admin, FormDep
from api.console.choices import labels_for
from api.console.filters import ExportFilter
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from moderation.store import labelled

router = APIRouter(route_class=ConsoleRoute)

FIELDS: Final = tuple(ExportFilter.model_fields)


@router.get("/export")
async def export_page(request: Request, gateway: GatewayDep, who: Admin) -> Response:
    flt = ExportFilter.of(dict(request.query_params))
    found = await in_thread(labelled.count, gateway.db, who.account.tenant, flt.stored())
    labels = labels_for(None)
    if flt.label is not None and flt.label not in labels:
        labels.append(flt.label)  # of a model of one's own
    media = str(request.base_url.replace(path="/v1/items/ITEM/derivatives/picture.webp"))
    return pages.render(
        request,
        "export.html",
        who,
        flt=flt,
        found=found,
        labels=labels,
        key_command="moderation keys create NAME --scope results:read",
        media_command=f"curl -H 'Authorization: Bearer KEY' '{media}?wait=20'",
    )


@router.post("/export")
async def export(gateway: GatewayDep, who: Admin, form: FormDep) -> Response:
    """The file, sent while it is read; kept in the audit, which is why it is no link."""
    flt = ExportFilter.of({name: form.get(name, 128) for name in FIELDS})
    name = f"decisions-{datetime.now(UTC):%Y%m%d-%H%M%S}.ndjson"
    headers = pages.SECURITY | {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }
    return await exporting.export(
        gateway, who.account.tenant, who.account.id, flt.stored(), headers
    )
