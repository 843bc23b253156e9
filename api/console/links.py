"""Addresses of pictures and films: signed for one session, and good for some minutes alone."""

from __future__ import annotations

import hmac
import time
from typing import Final

from api.console.access import PATH, Visitor, sign
from moderation.errors import NotFoundError

STEP_S: Final = 600
"""Addresses change this often: within that time a browser finds a picture in its cache, which is
how the next item is there before one asks for it."""
LIFE_STEPS: Final = 2


def media(who: Visitor, item_id: str, name: str, now: float | None = None) -> str:
    """The path of a derivative, for this session alone and for 10 to 20 minutes from now on."""
    return f"{PATH}/media/{_token(who, item_id, name, now)}/{item_id}/{name}"


def newest(who: Visitor, stream_id: str, captured_ms: int, now: float | None = None) -> str:
    """The path of a stream's newest frame; another one has another path."""
    token = _token(who, stream_id, _newest(captured_ms), now)
    return f"{PATH}/media/{token}/{stream_id}/newest/{captured_ms}"


def check_newest(
    who: Visitor, token: str, stream_id: str, captured_ms: int, now: float | None = None
) -> None:
    """As `check`."""
    check(who, token, stream_id, _newest(captured_ms), now)


def check(who: Visitor, token: str, item_id: str, name: str, now: float | None = None) -> None:
    """Raises NotFoundError for an address that is over, or another's: both are no address."""
    until, _, signature = token.partition("-")
    # No more digits than a time has: an int of any length is slow.
    valid = until.isascii() and until.isdigit() and len(until) <= 12
    right = valid and hmac.compare_digest(
        signature.encode(), _signature(who, item_id, name, int(until)).encode()
    )
    if not right or int(until) <= (time.time() if now is None else now):
        raise NotFoundError("This address is over: load the page again.")


def _token(who: Visitor, of: str, name: str, now: float | None) -> str:
    until = (int(time.time() if now is None else now) // STEP_S + LIFE_STEPS) * STEP_S
    return f"{until}-{_signature(who, of, name, until)}"


def _newest(captured_ms: int) -> str:
    return f"newest-{captured_ms}"


def _signature(who: Visitor, item_id: str, name: str, until: int) -> str:
    return sign(who.secret, f"media {until} {item_id} {name}")[:32]
