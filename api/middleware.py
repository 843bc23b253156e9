"""The outermost layer: the request's id, one access line, one measurement, no bare crash."""

from __future__ import annotations

import logging
import re
import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.problems import internal, respond
from moderation.ids import new_id

access = logging.getLogger("api.access")
log = logging.getLogger(__name__)

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_LEFT: Final = 499
"""Status in log and metrics of a request that nobody waits for any more; never sent."""
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"})


class Envelope:
    """ASGI middleware around everything else.

    What other layers put into the state's `headers` is answered whatever the outcome.
    `X-Request-ID` is taken over when it is 1..128 letters, digits, `.`, `_` or `-`, made
    otherwise, and answered. An exception that nobody handled becomes a problem with 500 and
    a log entry under the same id.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req")
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = 0

        async def wrapped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in state.get("headers", {}).items():
                    headers[name] = value
            await send(message)

        try:
            await self._app(scope, receive, wrapped)
        except ClientDisconnect:
            status = CLIENT_LEFT
            log.info("the client left before its body had arrived (request %s)", request_id)
        except Exception:  # the last net: logged and answered, never swallowed
            log.exception("unexpected error (request %s)", request_id)
            if status:
                raise  # the answer has begun: only breaking the connection is honest now
            await respond(internal(request_id))(scope, receive, wrapped)
        finally:
            self._note(scope, status, time.perf_counter() - began, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self._metrics.request(method, route, status, seconds)
        # The raw path is still percent-encoded, so it cannot forge a line; the query is left
        # out, since callback URLs carry secrets.
        path = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
        access.info("%s %s %d %.1fms %s", method, path, status, seconds * 1000.0, request_id)
