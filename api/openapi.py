"""The OpenAPI document: what FastAPI derives from the routes, completed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.schemas.lists import BankBody, BankPatch, EntryBody, ExchangeBody, LookupBody
from api.schemas.params import UrlBody, VideoBody
from api.schemas.policies import Draft, PublishBody, RollBackBody
from api.schemas.problems import NotReady
from api.schemas.streams import Event, StreamBody, StreamPatch
from api.schemas.whatif import WhatIfBody
from moderation.policy import Policy
from moderation.types import Problem

REFERENCE: Final = "#/components/schemas/{model}"
# Named by the routes through references alone, so that FastAPI does not collect them.
NAMED: Final[tuple[type[BaseModel], ...]] = (
    Problem,
    NotReady,
    UrlBody,
    VideoBody,
    StreamBody,
    StreamPatch,
    BankBody,
    BankPatch,
    EntryBody,
    LookupBody,
    ExchangeBody,
    Draft,
    PublishBody,
    RollBackBody,
    WhatIfBody,
    Event,
)
UNUSED: Final = ("HTTPValidationError", "ValidationError")

DESCRIPTION: Final = """
Send a picture or a video, get a verdict: `pass`, `review` or `block`, with the reasons and all
scores. Name a live stream, get an alert within seconds.

Keys travel as `Authorization: Bearer KEY`. Every error is `application/problem+json` with a
stable `code` and the request's id, which `X-Request-ID` carries in both directions.
"""

ITEM_LINK: Final[Mapping[str, Any]] = {
    "item": {"operationId": "get_item", "parameters": {"item_id": "$response.body#/id"}},
    "job": {"operationId": "get_job", "parameters": {"job_id": "$response.body#/job_id"}},
}


def install(app: FastAPI, policies: Mapping[str, Policy]) -> None:
    """Serve the completed document; built once, at the first request for it."""
    names = sorted({name for policy in policies.values() for name in (policy.id, policy.ref)})

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary=app.summary,
                    description=app.description,
                    routes=app.routes,
                    tags=app.openapi_tags,
                ),
                names,
            )
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def complete(document: dict[str, Any], policies: Sequence[str]) -> dict[str, Any]:
    """Add the schemas that are only referred to, links, the request id's header, and the
    names of the policies that this gateway knows."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in NAMED], ref_template=REFERENCE
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    for name in UNUSED:
        schemas.pop(name, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = never_null(parameter["schema"])
                if parameter["name"] == "policy":
                    parameter["schema"] = {"type": "string", "enum": list(policies)}
            for status, response in operation["responses"].items():
                response.setdefault("headers", {})["X-Request-ID"] = {
                    "schema": {"type": "string"},
                    "description": "the request's id",
                }
                if path in ("/v1/images", "/v1/videos") and status in ("200", "202"):
                    response["links"] = dict(ITEM_LINK)
            if path == "/ready":
                problem = operation["responses"]["503"]["content"]["application/problem+json"]
                problem["schema"] = {"$ref": REFERENCE.format(model="NotReady")}
                problem["example"] |= _NOT_READY
    return document


def never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional parameter: one may leave it out, but not send null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    plain: dict[str, Any] = {**schema, **options[0]}
    del plain["anyOf"]
    return plain


_NOT_READY: Final[Mapping[str, Any]] = {
    "title": "Not ready",
    "code": "not_ready",
    "detail": "Missing: infer_worker.",
    "missing": [{"name": "infer_worker", "detail": "No worker with loaded models is alive."}],
}
