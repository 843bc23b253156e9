"""The messages of the queue: ids only, with a schema version. Imports nothing heavy.

A message is a hint. The database says whether there is still something to do, so a lost,
doubled, late or unknown message changes no result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SCHEMA_VERSION: Final = 1
TASK: Final = "moderation.job"
"""Name of the one Celery task; a message's `kind` says what is done."""

INFER: Final = "infer"
"""Queue of work that needs the models."""
LIGHT: Final = "light"
"""Queue of work that needs none: callbacks, reading of video files."""

IMAGE: Final = "image"
VIDEO: Final = "video"
READ: Final = "read"
SCORE: Final = "score"
DELIVER: Final = "deliver"
DERIVE: Final = "derive"
QUEUES: Final[Mapping[str, str]] = {
    IMAGE: INFER,
    VIDEO: LIGHT,
    READ: LIGHT,
    SCORE: INFER,
    DELIVER: LIGHT,
    DERIVE: LIGHT,
}
"""kind -> queue."""

MAX_PRIORITY: Final = 9
"""Priorities are 0 (usual) to 9 (most urgent)."""


class UnknownMessageError(ValueError):
    """A message of another schema version or kind, or a malformed one."""


@dataclass(frozen=True, slots=True)
class JobMessage:
    """Look at this job. kind: `image` (analyse it), `video` (its next step), `read` or `score`
    (a chunk of it, then `job_id` is `<job>/<number>`), `deliver` (its callback is due), `derive`
    (a picture for people is wanted, then `job_id` is the derivative's)."""

    kind: str
    job_id: str
    schema_version: int = SCHEMA_VERSION

    @property
    def queue(self) -> str:
        """The queue that this kind goes to. Raises UnknownMessageError."""
        try:
            return QUEUES[self.kind]
        except KeyError:
            raise UnknownMessageError(f"unknown kind of message {self.kind!r}") from None

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": self.schema_version,
            "kind": self.kind,
            "job_id": self.job_id,
        }

    @classmethod
    def from_dict(cls, data: object) -> JobMessage:
        """Read a message. Unknown keys are ignored: a newer producer may add hints.

        Raises UnknownMessageError for another schema version, an unknown kind, or anything
        that is no message.
        """
        if not isinstance(data, Mapping):
            raise UnknownMessageError(f"a message is an object, not {type(data).__name__}")
        version = data.get("schema_version")
        if type(version) is not int or version != SCHEMA_VERSION:
            raise UnknownMessageError(f"unknown schema version {version!r}")
        kind, job_id = data.get("kind"), data.get("job_id")
        if not isinstance(kind, str) or kind not in QUEUES:
            raise UnknownMessageError(f"unknown kind of message {kind!r}")
        if not isinstance(job_id, str) or not job_id:
            raise UnknownMessageError("a message names a job")
        return cls(kind=kind, job_id=job_id)
