"""Examples and request bodies of the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from api.schemas.answers import Accepted, Batch, BatchPart, Item, ItemDetail, ItemPage, Job, Media
from api.schemas.problems import RETRY_AFTER
from moderation.store.records import JobState
from moderation.types import Coverage, Decision, Problem, Reason, Status, Verdict

ITEM: Final = "item_0198f1c2a7d47b0c8e5f6a7b8c9d0e1f"
JOB: Final = "job_0198f1c2a7d47b0c8e5f6a7b8c9d0e20"
UPLOAD: Final = "upload_0198f1c2a7d47b0c8e5f6a7b8c9d0e21"
CREATED: Final = "2026-01-31T12:00:00Z"
LOCATION: Final = {
    "Location": {"schema": {"type": "string"}, "required": True, "description": "the item"}
}

VERDICT: Final = Verdict(
    id=ITEM,
    job_id=JOB,
    source="holiday.jpg",
    data_id="upload-4711",
    status=Status.DONE,
    decision=Decision.REVIEW,
    reasons=[
        Reason(
            category="violence",
            label="violence.fire",
            score=0.94,
            decision=Decision.REVIEW,
            threshold=0.9,
            frames=[0],
            model="scenes@2",
        )
    ],
    scores={"porn.explicit": 0.01, "smoking.smoking": 0.03, "violence.fire": 0.94},
    coverage=Coverage(frames_total=1, frames_scored=1, views_scored=1, complete=True),
    policy="default@4",
    models=["image-safety-s@1", "scenes@2"],
    device="cpu",
    timings_ms={"decode": 3.1, "infer": 21.7, "total": 25.9},
)
ACCEPTED: Final = Accepted(id=ITEM, job_id=JOB, status=JobState.QUEUED)
_ITEM: Final[dict[str, Any]] = {
    "id": ITEM,
    "job_id": JOB,
    "state": "done",
    "created": CREATED,
    "source": "holiday.jpg",
    "data_id": "upload-4711",
    "media": Media(
        kind="image", sha256="5e" * 32, format="jpeg", size=48213, width=1280, height=720
    ),
    "verdict": VERDICT,
}
_JOB: Final[dict[str, Any]] = {
    "id": JOB,
    "item_id": ITEM,
    "kind": "image",
    "state": "done",
    "attempt": 1,
    "created": CREATED,
    "updated": CREATED,
    "policy": "default@4",
    "cancel_requested": False,
    "error": None,
    "progress": None,
}

IMAGE_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "One picture: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC, told by its "
    "bytes and not by its name or type.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {"$ref": "#/components/schemas/UrlBody"},
            "example": {"url": "https://example.org/cat.jpg"},
        },
    },
}
VIDEO_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "One video: whatever ffmpeg decodes, told by its bytes and not by its name or "
    "type. Animated pictures (GIF, APNG, WebP, AVIF) are videos here; playlists are refused.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
        "video/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {"$ref": "#/components/schemas/VideoBody"},
            "examples": {
                "url": {"value": {"url": "https://example.org/film.mp4"}},
                "upload": {"value": {"upload": UPLOAD}},
            },
        },
    },
}
BATCH_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "parts named `file` or `files`",
                    }
                },
            }
        }
    },
}


_TUS_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Location": {"schema": {"type": "string"}, "description": "the upload"},
    "Upload-Offset": {"schema": {"type": "integer"}, "description": "bytes that are there"},
    "Upload-Length": {"schema": {"type": "integer"}, "description": "bytes of the whole file"},
    "Upload-Expires": {"schema": {"type": "string"}, "description": "RFC 9110 date"},
    "Tus-Version": {"schema": {"type": "string"}},
    "Tus-Extension": {"schema": {"type": "string"}},
    "Tus-Max-Size": {"schema": {"type": "integer"}, "description": "bytes"},
    "Tus-Checksum-Algorithm": {"schema": {"type": "string"}},
}
TUS_FACTS: Final = ("Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm")


def tus(description: str, *headers: str) -> dict[str, Any]:
    """An answer of the tus protocol: headers and no body."""
    told = {name: _TUS_HEADERS[name] | {"required": True} for name in headers}
    told["Tus-Resumable"] = {"schema": {"type": "string"}, "required": True}
    return {"description": description, "headers": told}


def tus_request(*, body: bool = True, required: bool = True) -> dict[str, Any]:
    """What requests of the tus protocol have beside their own parameters."""
    version = {
        "name": "Tus-Resumable",
        "in": "header",
        "required": True,
        "schema": {"type": "string", "enum": ["1.0.0"]},
    }
    if not body:
        return {"parameters": [version]}
    content = {
        "application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}
    }
    return {"parameters": [version], "requestBody": {"required": required, "content": content}}


def _answer(
    model: type[Any], value: Any, description: str, headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    documented: dict[str, Any] = {
        "model": model,
        "description": description,
        "content": {"application/json": {"example": value.model_dump(mode="json")}},
    }
    if headers:
        documented["headers"] = headers
    return documented


def verdict(description: str) -> dict[str, Any]:
    return _answer(Verdict, VERDICT, description, LOCATION)


def accepted() -> dict[str, Any]:
    return _answer(Accepted, ACCEPTED, "Accepted, and not decided in time", LOCATION | RETRY_AFTER)


def batch() -> dict[str, Any]:
    refused = Problem(
        title="Unsupported format",
        status=415,
        code="unsupported_format",
        detail="The bytes are no picture of a known format.",
    )
    value = Batch(
        results=[
            BatchPart(index=0, source="holiday.jpg", status=200, verdict=VERDICT),
            BatchPart(index=1, source="notes.txt", status=415, problem=refused),
        ]
    )
    return _answer(Batch, value, "An answer for each part, in order")


def page() -> dict[str, Any]:
    return _answer(ItemPage, ItemPage(items=[Item(**_ITEM)], next_cursor=None), "One page")


def item() -> dict[str, Any]:
    return _answer(ItemDetail, ItemDetail(**_ITEM, history=[VERDICT], similar=[]), "The item")


def job(description: str, **changes: Any) -> dict[str, Any]:
    return _answer(Job, Job(**(_JOB | changes)), description)
