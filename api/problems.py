"""Every error as RFC 9457 problem details, with a stable `code` and the request's id."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from moderation.errors import ConfigError, ModerationError, ServiceError
from moderation.policy import problem_of
from moderation.types import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2
"""Seconds after which a client may try again when our side failed."""

# A code keeps one meaning in a verdict and over HTTP, but over HTTP some of them have a
# status that says more than that of their class.
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "checksum_mismatch": 460,
    "checksum_unsupported": 400,
    "fetch_disabled": 403,
    "fetch_too_large": 413,
    "policy_unknown": 422,
    "rate_limited": 429,
    "tus_version": 412,
    "upload_stalled": 408,
}
METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
TITLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("bad_request", "Bad request"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
}


def request_id_of(scope: Scope) -> str | None:
    """The id that the outermost middleware gave this request."""
    state: Mapping[str, Any] = scope.get("state") or {}
    value = state.get("request_id")
    return value if isinstance(value, str) else None


def problem_for(error: ModerationError, request_id: str | None = None) -> Problem:
    """One of our errors as problem details.

    A ConfigError is the operator's concern: its sentence goes to the log, not to the caller
    (except for an unknown policy, which the caller named).
    """
    problem = problem_of(error)
    status = STATUS_OF_CODE.get(problem.code, problem.status)
    if isinstance(error, ConfigError) and status == 500:
        return internal(request_id)
    return problem.model_copy(update={"status": status, "request_id": request_id})


def internal(request_id: str | None) -> Problem:
    """What a caller learns of an unexpected error: the id that the log line carries."""
    return Problem(
        title="Internal error",
        status=500,
        code="internal",
        detail="An unexpected error; the request's id leads to it in the log.",
        request_id=request_id,
    )


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response, with the headers that its status asks for."""
    extra = dict(headers or {})
    if problem.status == 401:
        extra.setdefault("WWW-Authenticate", 'Bearer realm="moderation"')
    if problem.status == 408:
        extra.setdefault("Connection", "close")
    if problem.status == 503:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(problem.model_dump_json(), problem.status, headers=extra, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers. What they do not know, the outermost middleware answers."""
    app.add_exception_handler(ModerationError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ModerationError)  # noqa: S101 - registered for this class
    request_id = request_id_of(request.scope)
    if isinstance(error, ServiceError | ConfigError):
        log.warning("%s: %s (request %s)", error.code, error.message, request_id)
    return respond(problem_for(error, request_id))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    errors = error.errors()
    request_id = request_id_of(request.scope)
    if any(one["loc"][:1] == ("path",) for one in errors):
        # An id that cannot exist is an id that does not exist.
        return respond(_plain(404, request_id, "There is nothing with this id."))
    return respond(
        Problem(
            title="Invalid request",
            status=422,
            code="input_invalid",
            detail=describe(errors),
            request_id=request_id,
        )
    )


def describe(errors: Sequence[Any], *, at_most: int = 5) -> str:
    """Validation errors as one sentence; never repeats the caller's values."""
    said = [f"{'.'.join(str(p) for p in one['loc'])}: {one['msg']}" for one in errors[:at_most]]
    return "; ".join(said)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(allowed_methods(request))
    detail = {
        404: "There is nothing at this path.",
        405: f"This path does not answer {request.method}.",
    }.get(error.status_code, str(error.detail))
    return respond(_plain(error.status_code, request_id_of(request.scope), detail), headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods of all routes on the request's path (a router tells those of the first)."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def _plain(status: int, request_id: str | None, detail: str) -> Problem:
    code, title = TITLES.get(status, (f"http_{status}", "Request refused"))
    return Problem(title=title, status=status, code=code, detail=detail, request_id=request_id)
