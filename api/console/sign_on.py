"""The way to an identity provider and back, for one gateway."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from fastapi import Request
from starlette.responses import Response

from api.console.access import PATH
from moderation import fetch, oidc
from moderation.errors import FetchError
from moderation.oidc import Attempt, Client, Person, Provider, SignOnError
from moderation.settings import Settings

log = logging.getLogger(__name__)

COOKIE: Final = "moderation_sign_on"
COOKIE_PATH: Final = f"{PATH}/sign-in"
BACK: Final = f"{COOKIE_PATH}/back"
LIFE_S: Final = 600
"""How long somebody may take at the provider."""
KEPT_S: Final = 600.0
"""For so long the provider is not asked again for its addresses."""
TIMEOUT_S: Final = 10.0
MAX_ANSWER: Final = 1 << 20
MAX_THEN: Final = 3000
"""Browsers drop a cookie of more than 4096 bytes."""
AWAY: Final = "The identity provider does not answer."


@dataclass
class SignOn:
    """Talks to the provider; used by many threads, each call may take TIMEOUT_S."""

    client: Client
    name: str
    allow: tuple[str, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: tuple[float, Provider] | None = None

    def url(self, attempt: Attempt, back: str) -> str:
        """Where the browser is sent. Raises SignOnError."""
        return oidc.asking(self._provider(), self.client, attempt, back)

    def person(self, attempt: Attempt, code: str, back: str) -> Person:
        """Who has come back with a code. Raises SignOnError."""
        provider = self._provider()
        body, headers = oidc.exchange(provider, self.client, attempt, code, back)
        try:
            answer = fetch.ask(
                provider.token,
                body,
                headers,
                allow=self._allowed(provider.token),
                timeout_s=TIMEOUT_S,
                max_bytes=MAX_ANSWER,
            )
        except FetchError as error:
            log.warning("the identity provider gives no token: %s", error.message)
            raise SignOnError(AWAY) from error
        if answer.status != 200:
            log.warning("the identity provider gives no token: status %d", answer.status)
            raise SignOnError(oidc.NO_TOKEN)
        return oidc.person_of(answer.data, self.client, attempt, time.time())

    def _provider(self) -> Provider:
        with self._lock:
            known = self._known
        if known is not None and known[0] > time.monotonic() - KEPT_S:
            return known[1]
        issuer = self.client.issuer
        try:
            told = fetch.fetch(
                issuer.rstrip("/") + oidc.DISCOVERY,
                allow=self._allowed(issuer),
                timeout_s=TIMEOUT_S,
                max_bytes=MAX_ANSWER,
            )
        except FetchError as error:
            log.warning("the identity provider cannot be asked: %s", error.message)
            raise SignOnError(AWAY) from error
        found = oidc.provider_of(told.data, issuer)
        with self._lock:
            self._known = (time.monotonic(), found)
        return found

    def _allowed(self, url: str) -> tuple[str, ...]:
        """The operator has named the provider: it may be in a net of its own."""
        return (urlsplit(url).hostname or "", *self.allow)


def sign_on_of(settings: Settings) -> SignOn | None:
    """None where passwords alone are used. Raises ConfigError."""
    client = oidc.client_of(settings)
    return None if client is None else SignOn(client, settings.oidc_name, settings.fetch_allow)


def give_attempt(request: Request, answer: Response, then: str) -> Attempt:
    """A new attempt, which the browser keeps in a cookie with where to go on, if that fits."""
    attempt = Attempt(secrets.token_urlsafe(32))
    kept = quote(then, safe="")
    answer.set_cookie(
        COOKIE,
        f"{attempt.secret}.{kept if len(kept) <= MAX_THEN else ''}",
        max_age=LIFE_S,
        path=COOKIE_PATH,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # the provider's site leads back here
    )
    return attempt


def attempt_of(request: Request) -> tuple[Attempt, str] | None:
    """The attempt of this browser, and where to go on; None where it has begun none."""
    secret, _, then = request.cookies.get(COOKIE, "").partition(".")
    return (Attempt(secret), unquote(then)) if len(secret) == 43 else None


def take_attempt(answer: Response) -> None:
    answer.delete_cookie(COOKIE, path=COOKIE_PATH, httponly=True, samesite="lax")


def way_back(request: Request) -> str:
    """Where the provider sends the browser: it knows this address, and sends it to no other."""
    return f"{request.url.scheme}://{request.url.netloc}{BACK}"
