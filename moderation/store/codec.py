"""Values <-> columns: packed arrays, verdicts, policies, model sets and cursors."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from moderation.errors import InputError
from moderation.policy import Policy
from moderation.types import Verdict

# The suffix of ids made by `moderation.ids.new_id`.
ID_FORM = re.compile(r"[a-z]+_[0-9a-f]{32}")


def pack_f16(vector: NDArray[np.float16]) -> bytes:
    """float16, little endian."""
    return np.ascontiguousarray(vector, dtype="<f2").tobytes()


def unpack_f16(packed: bytes) -> NDArray[np.float16]:
    """One vector (dim,)."""
    return np.frombuffer(packed, dtype="<f2").astype(np.float16)


def model_set(models: Iterable[str]) -> str:
    """The same text for the same models, whatever their order."""
    return ",".join(sorted(set(models)))


def dump_verdict(verdict: Verdict) -> str:
    return verdict.model_dump_json()


def load_verdict(body: str) -> Verdict:
    return Verdict.model_validate_json(body)


def policy_row_id(tenant: str, body: str) -> str:
    """An id made from the content, so that two writers of one policy write one row."""
    digest = hashlib.sha256(f"{tenant}\n{body}".encode()).hexdigest()
    return f"policy_{digest[:32]}"


def dump_policy(policy: Policy) -> str:
    return policy.model_dump_json()


def load_policy(body: str) -> Policy:
    return Policy.model_validate_json(body)


def dump_cursor(item_id: str) -> str:
    return base64.urlsafe_b64encode(item_id.encode()).decode().rstrip("=")


def load_cursor(cursor: str) -> str:
    """Raises InputError (cursor_invalid) for a text that `dump_cursor` did not make."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not ID_FORM.fullmatch(text):
        raise InputError("The cursor is not one that this service gave.", code="cursor_invalid")
    return text


def clock(now: datetime | None) -> datetime:
    """`now`, or the time when it is None; always UTC."""
    return datetime.now(UTC) if now is None else now.astimezone(UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 with milliseconds: 2026-01-31T12:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unique(values: Sequence[str]) -> list[str]:
    """In order, each once."""
    return list(dict.fromkeys(values))
