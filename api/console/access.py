"""Who may see and do what: the session's cookie, roles, and no request by way of another site."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from api.deps import in_thread
from moderation.errors import AccessError, InputError, ScopeError
from moderation.store import sessions
from moderation.store.review_records import AccountRow, Role
from moderation.store.sessions import SignedIn

if TYPE_CHECKING:
    from api.deps import Gateway

COOKIE: Final = "moderation_session"
PATH: Final = "/console"
MAX_SECRET: Final = 128
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
MAX_FIELDS: Final = 700


class ForgeryError(ScopeError):
    """A request that did not come from one of our own pages."""

    code = "forged_request"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in. secret: of the session, never shown."""

    account: AccountRow
    key: str
    secret: str

    @property
    def csrf(self) -> str:
        """What forms of this session carry: nobody without its cookie can know it."""
        return sign(self.secret, "csrf")

    def may(self, role: str) -> bool:
        return self.account.role.covers(Role(role))


@dataclass(frozen=True, slots=True)
class Form:
    """Fields of a posted form: each value is text."""

    values: Mapping[str, list[str]]

    def get(self, name: str, at_most: int = 2000) -> str:
        """The first value, without blanks around it; "" where there is none. Raises InputError."""
        found = (self.values.get(name) or [""])[0].strip()
        if len(found) > at_most:
            raise InputError(f"{name} has more than {at_most} characters.")
        return found

    def all(self, name: str) -> list[str]:
        return list(self.values.get(name, ()))


def sign(secret: str, words: str) -> str:
    """HMAC-SHA-256 by the session's secret, as hex digits."""
    return hmac.new(secret.encode(), words.encode(), hashlib.sha256).hexdigest()


def visitor(role: Role) -> Callable[..., Awaitable[Visitor]]:
    """A dependency: who is signed in, with this role at least. Raises AccessError, ScopeError,
    ForgeryError for a change that another site has sent."""

    async def dependency(request: Request) -> Visitor:
        secret = request.cookies.get(COOKIE, "")
        if not 0 < len(secret) <= MAX_SECRET:
            raise AccessError("Sign in first.")
        state: Any = request.app.state
        gateway: Gateway = state.gateway
        found: SignedIn = await in_thread(sessions.find, gateway.db, secret)
        who = Visitor(found.account, found.key, secret)
        request.state.visitor = who  # for pages that tell of an error
        if request.method not in SAFE_METHODS:
            from_our_own_page(request)
            await _check_csrf(request, who)
        if not who.account.role.covers(role):
            raise ScopeError(f"This needs the role {role.value}.")
        return who

    dependency.role = role  # type: ignore[attr-defined]  # a test walks all routes by it
    return dependency


async def form_of(request: Request) -> Form:
    """The posted form. Raises InputError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("", "application/x-www-form-urlencoded"):
        raise InputError("This page sends forms as application/x-www-form-urlencoded.")
    data: FormData = await request.form(max_fields=MAX_FIELDS)
    values: dict[str, list[str]] = {}
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            raise InputError(f"{name} is a file, and none was asked for.")
        if "\0" in value or (not value.isprintable() and not _lines(value)):
            raise InputError(f"{name} has characters that cannot be shown.")
        # Browsers end lines by two characters, and count one of them.
        values.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return Form(values)


def from_our_own_page(request: Request) -> None:
    """Raises ForgeryError where the browser says that another site sent it. Browsers without such
    headers are held back by the token alone."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        raise ForgeryError("Another site sent this request.")
    origin = request.headers.get("origin")
    if origin is not None and _place_of(origin) != request.headers.get("host"):
        raise ForgeryError("Another site sent this request.")


def _place_of(origin: str) -> str | None:
    """Host and port of an origin; None for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def give_cookie(request: Request, response: Response, secret: str, seconds: int) -> None:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=seconds,
        path=PATH,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # `strict` would ask who follows a link from a mail to sign in again
    )


def take_cookie(response: Response) -> None:
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="lax")


async def _check_csrf(request: Request, who: Visitor) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None:
        given = (await form_of(request)).get(CSRF_FIELD)
    if not hmac.compare_digest(given.encode(), who.csrf.encode()):
        raise ForgeryError("This page is too old: load it again.")


def _lines(value: str) -> bool:
    return all(line.isprintable() for line in value.replace("\t", " ").splitlines())


FormDep = Annotated[Form, Depends(form_of)]
Viewer = Annotated[Visitor, Depends(visitor(Role.VIEWER))]
Reviewer = Annotated[Visitor, Depends(visitor(Role.REVIEWER))]
Lead = Annotated[Visitor, Depends(visitor(Role.LEAD))]
Admin = Annotated[Visitor, Depends(visitor(Role.ADMIN))]
