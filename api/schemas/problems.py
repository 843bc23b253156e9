"""How errors are documented: every route names the statuses that it can answer."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from moderation.types import Problem

PROBLEM_JSON: Final = "application/problem+json"
REQUEST_ID: Final = "req_0198f1c2a7d47b0c8e5f6a7b8c9d0e1f"

Documented = dict[int | str, dict[str, Any]]

# status -> (meaning, code, detail)
MEANINGS: Final[dict[int, tuple[str, str, str]]] = {
    400: (
        "A checksum of an unknown kind",
        "checksum_unsupported",
        "Upload-Checksum is one of sha1, sha256, md5, a blank, and the digest in base64.",
    ),
    401: ("No key, or a wrong one", "unauthorized", "This API key is not valid."),
    403: ("The key lacks a scope", "forbidden", "This key lacks the scope media:write."),
    404: ("There is no such thing", "not_found", "There is nothing with this id."),
    405: ("Another method", "method_not_allowed", "This path does not answer PUT."),
    408: (
        "Nothing more of the body came",
        "upload_stalled",
        "Nothing of the body came for 60 s.",
    ),
    409: (
        "A conflict: an Idempotency-Key used for something else, or a job that has ended",
        "idempotency_conflict",
        "This Idempotency-Key was used for another request.",
    ),
    412: ("Another version of the protocol", "tus_version", "Send Tus-Resumable: 1.0.0."),
    413: ("Too many bytes or parts", "too_large", "The body is larger than 33554432 bytes."),
    415: (
        "Neither media of a known format nor one of the body types that are read",
        "unsupported_format",
        "The bytes are no picture of a known format.",
    ),
    416: ("A range behind the end", "range_invalid", "There are 48213 bytes."),
    422: (
        "Parameters or bytes that cannot be used",
        "input_invalid",
        "query.wait: Input should be a valid number",
    ),
    429: (
        "More requests a minute than the key may send",
        "rate_limited",
        "More than 600 requests a minute with this key; try again in 1 s.",
    ),
    460: (
        "The bytes are not those of the checksum; none was kept",
        "checksum_mismatch",
        "The bytes are not those of the checksum.",
    ),
    500: ("An unexpected error", "internal", "An unexpected error."),
    503: ("Try again later", "overloaded", "10000 jobs wait already; try again later."),
}

RATE_HEADERS: Final = {
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "requests a minute"},
    "RateLimit-Remaining": {"schema": {"type": "integer"}},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "seconds"},
}
RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    412: {"Tus-Version": {"schema": {"type": "string"}}},
    405: {"Allow": {"schema": {"type": "string"}}},
    416: {"Content-Range": {"schema": {"type": "string"}}},
    429: RATE_HEADERS | RETRY_AFTER,
    503: RETRY_AFTER,
}

OPEN: Final = (405, 500)
"""What a route without a key may answer beside its success."""
KEYED: Final = (401, 403, 405, 422, 429, 500, 503)
"""What every route with a key may answer."""


def problems(*statuses: int) -> Documented:
    """The OpenAPI responses of these statuses, each a problem with an example."""
    return {status: _documented(status) for status in sorted(statuses)}


def _documented(status: int) -> dict[str, Any]:
    meaning, code, detail = MEANINGS[status]
    example = Problem(
        title=code.replace("_", " ").capitalize(),
        status=status,
        code=code,
        detail=detail,
        request_id=REQUEST_ID,
    )
    documented: dict[str, Any] = {
        "description": meaning,
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example.model_dump(mode="json"),
            }
        },
    }
    if status in HEADERS:
        documented["headers"] = HEADERS[status]
    return documented


class Missing(BaseModel):
    """One thing that a gateway needs and does not have."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(
        description="database, migrations, broker or infer_worker", examples=["infer_worker"]
    )
    detail: str = Field(examples=["No worker with loaded models is alive."])


class NotReady(Problem):
    """Problem details with the list of what is missing."""

    missing: list[Missing]
