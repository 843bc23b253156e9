"""Pages from templates: in the reader's language, under a strict content security policy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from api.console.access import PATH, Visitor
from api.console.preferences import Preferences
from api.console.words import LANGUAGES, translate
from api.problems import problem_for, request_id_of
from moderation import __version__
from moderation.errors import AccessError, ModerationError, ScopeError

SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
STATIC: Final = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class ConsoleRoute(APIRoute):
    """A route whose errors are pages: who is not signed in is led there, and back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except ScopeError as error:
                return error_page(request, 403, error.message)
            except AccessError:
                return _to_sign_in(request)
            except RequestValidationError:
                return error_page(request, 404, "There is nothing at this address.")
            except ModerationError as error:
                problem = problem_for(error, request_id_of(request.scope))
                return error_page(request, problem.status, problem.detail or problem.title)

        return handler


def render(
    request: Request, template: str, who: Visitor | None, *, status: int = 200, **values: Any
) -> Response:
    """A page. who: whoever is signed in."""
    preferences = Preferences() if who is None else Preferences.of(who.account.preferences)
    language = preferences.language or asked_language(request)
    html = (
        environment()
        .get_template(template)
        .render(
            **values,
            _=partial(translate, language),
            language=language,
            who=who,
            preferences=preferences,
            path=request.url.path,
            now=datetime.now(UTC),
        )
    )
    headers = SECURITY | {"Cache-Control": "no-store", "Vary": "Cookie, Accept-Language"}
    return Response(html, status, headers=headers, media_type="text/html")


def error_page(request: Request, status: int, words: str) -> Response:
    who = getattr(request.state, "visitor", None)
    return render(request, "error.html", who, status=status, words=words)


def see(path: str, **query: str | None) -> Response:
    """Leads the browser to another page, by GET."""
    asked = "&".join(f"{name}={quote(value)}" for name, value in query.items() if value)
    return RedirectResponse(f"{PATH}{path}?{asked}" if asked else f"{PATH}{path}", 303)


def asked_language(request: Request) -> str:
    """The first that a browser asks for and we have."""
    for one in request.headers.get("accept-language", "").split(","):
        tag = one.partition(";")[0].strip().casefold()[:2]
        if tag in LANGUAGES:
            return tag
    return "en"


@cache
def environment() -> Environment:
    found = Environment(
        loader=PackageLoader("api.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"static": static, "version": __version__, "base": PATH}
    found.filters |= {"moment": moment, "percent": percent, "ago": ago, "seconds": seconds}
    return found


@cache
def static_file(name: str) -> bytes:
    return files("api.console").joinpath("static", name).read_bytes()


@cache
def version_of(name: str) -> str:
    return hashlib.sha256(static_file(name)).hexdigest()[:12]


def static(name: str) -> str:
    """The address of a file of ours, which changes with its content."""
    return f"{PATH}/static/{name}?v={version_of(name)}"


def moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def seconds(number: float) -> str:
    whole, tenths = divmod(round(max(0.0, number) * 10), 10)
    minutes, second = divmod(whole, 60)
    return f"{minutes}:{second:02}.{tenths}"


def ago(when: datetime, now: datetime) -> str:
    """12 s, 5 min, 3 h, 2 d: in units that read the same in every language."""
    passed = max(0, int((now - when).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed // size} {unit}"
    return f"{passed} s"


def _to_sign_in(request: Request) -> Response:
    here = request.url.path
    if request.url.query:
        here = f"{here}?{request.url.query}"
    then = here if request.method == "GET" and not here.startswith(f"{PATH}/media") else None
    led = see("/sign-in", then=then)
    if request.headers.get("hx-request") == "true":
        # A part of a page is no place for another page.
        return Response(status_code=401, headers={"HX-Redirect": f"{PATH}/sign-in"})
    return led
