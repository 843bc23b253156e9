"""What is kept for how long, and how much of it waits for the sweeper. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Admin
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from moderation.settings import Settings
from moderation.store import fleet, list_expiry, retained

router = APIRouter(route_class=ConsoleRoute)

SWEEPS: Final = "media"
"""The role of the workers that sweep."""
REMEMBERED_S: Final = 3600.0
"""Workers that were killed are known for so long."""
ALIVE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One as it is in force in this gateway. variable: of the environment."""

    variable: str
    value: float


@router.get("/retention")
async def retention_page(request: Request, gateway: GatewayDep, who: Admin) -> Response:
    now = datetime.now(UTC)
    before = now - timedelta(days=gateway.settings.retain_days)
    found = await in_thread(
        retained.retained, gateway.db, who.account.tenant, before=before, now=now
    )
    sweepers = await in_thread(fleet.living, gateway.db, role=SWEEPS, within_s=REMEMBERED_S)
    seen = max((row.seen for row in sweepers if row.seen is not None), default=None)
    return pages.render(
        request,
        "retention.html",
        who,
        found=found,
        most=retained.MOST,
        retain=_setting(gateway.settings, "retain_days"),
        expiry=_setting(gateway.settings, "upload_expiry"),
        sweep=_setting(gateway.settings, "sweep_seconds"),
        shown_days=list_expiry.SHOWN.days,
        before=before,
        seen=seen,
        alive=seen is not None and now - seen < timedelta(seconds=ALIVE_S),
    )


def _setting(settings: Settings, name: str) -> Setting:
    prefix = settings.model_config.get("env_prefix", "")
    return Setting(f"{prefix}{name.upper()}", float(getattr(settings, name)))
