"""API keys: `Authorization: Bearer`, scopes, and the rate limit that belongs to a key."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from anyio.to_thread import run_sync
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.limits import RateLimitedError
from moderation.errors import AccessError, ScopeError
from moderation.store import keys
from moderation.store.engine import Database
from moderation.store.records import KeyRow

if TYPE_CHECKING:
    from api.deps import Gateway

WRITE: Final = "media:write"
READ: Final = "results:read"
REVIEW: Final = "review:write"
ADMIN: Final = "admin"

KEY_TTL_S: Final = 3.0
"""A revoked key works for at most this long on; every request but the first of a key within
this time needs no database to be let in."""
MAX_SECRET: Final = 512
MAX_KEPT: Final = 10_000

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key. Scopes: `media:write` submits, cancels and deletes, `results:read` "
    "reads, `review:write` decides, `admin` may do all of it.",
)


class Keyring:
    """Keys that were found right a moment ago. Thread-safe."""

    def __init__(
        self,
        db: Database,
        bootstrap: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._bootstrap = bootstrap
        self._clock = clock
        self._lock = threading.Lock()
        self._first = threading.Lock()
        self._kept: dict[bytes, tuple[KeyRow, float]] = {}

    def kept(self, secret: str) -> KeyRow | None:
        """The key, when it was authenticated less than KEY_TTL_S ago. Never blocks for long."""
        with self._lock:
            found = self._kept.get(_digest(secret))
        return found[0] if found is not None and self._clock() < found[1] else None

    def authenticate(self, secret: str) -> KeyRow:
        """Ask the database. Raises AccessError; wrong keys are not remembered."""
        self.bootstrap()
        row = keys.authenticate(self._db, secret)
        with self._lock:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[_digest(secret)] = (row, self._clock() + KEY_TTL_S)
        return row

    def bootstrap(self) -> None:
        """Store the configured admin key, once. Not done in the constructor: the database
        may come up, or be migrated, after this process."""
        with self._first:  # not the lock of `kept`, which the event loop takes
            if self._bootstrap is not None:
                keys.ensure_bootstrap(self._db, self._bootstrap)
                self._bootstrap = None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


def require(scope: str) -> Callable[..., Awaitable[KeyRow]]:
    """A dependency: the key of the request, which must have this scope (or `admin`).

    Raises AccessError (401), ScopeError (403), RateLimitedError (429).
    """

    async def dependency(request: Request, credentials: Credentials) -> KeyRow:
        state: Any = request.app.state
        gateway: Gateway = state.gateway
        if credentials is None or not 0 < len(credentials.credentials) <= MAX_SECRET:
            raise AccessError("Send an API key as `Authorization: Bearer KEY`.")
        secret = credentials.credentials
        row = gateway.keyring.kept(secret)
        if row is None:
            row = await run_sync(gateway.keyring.authenticate, secret)
        charge(request, gateway, row)
        if scope not in row.scopes and ADMIN not in row.scopes:
            raise ScopeError(f"This key lacks the scope {scope}.")
        return row

    return dependency


def charge(request: Request, gateway: Gateway, key: KeyRow, cost: int = 1) -> None:
    """Count `cost` requests against the key. Raises RateLimitedError; the RateLimit headers
    are answered either way."""
    if not gateway.limiter.enabled:
        return
    allowance = gateway.limiter.take(key.id, time.monotonic(), cost)
    request.scope["state"].setdefault("headers", {}).update(allowance.headers())
    if not allowance.allowed:
        raise RateLimitedError(
            f"More than {allowance.limit} requests a minute with this key; "
            f"try again in {allowance.reset_s} s."
        )


WriteKey = Annotated[KeyRow, Security(require(WRITE))]
ReadKey = Annotated[KeyRow, Security(require(READ))]
AdminKey = Annotated[KeyRow, Security(require(ADMIN))]
ReviewKey = Annotated[KeyRow, Security(require(REVIEW))]
