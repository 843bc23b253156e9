"""Standard Webhooks: signatures, secrets, and when to try again. No network here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from moderation.errors import ConfigError
from moderation.settings import Settings
from moderation.tasks.secret import own_secret

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix
SECRET_FILE: Final = "webhook-secret"  # noqa: S105 - a file name
SECRET_BYTES: Final = 24

FIRST_DELAY_S: Final = 5.0
GROWTH: Final = 3.0
MAX_DELAY_S: Final = 4 * 3600.0
JITTER: Final = 0.2
"""A delay is spread over 1 ± this, so that callbacks that failed together do not return so."""
GIVE_UP_AFTER_S: Final = 26 * 3600.0
MIN_ATTEMPTS: Final = 10
"""Both have to be reached: a system that was off for days still tries its callbacks."""


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """The bytes that are signed and sent: the same for every attempt of one event."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def parse_secret(text: str) -> bytes:
    """The key bytes of `whsec_<base64>`. Raises ConfigError, without showing the secret."""
    try:
        if not text.startswith(SECRET_PREFIX):
            raise ValueError
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise ConfigError("a webhook secret is spelt whsec_<base64>") from None
    if not 16 <= len(key) <= 64:
        raise ConfigError("a webhook secret holds 16 to 64 bytes")
    return key


def load_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The secrets to sign with, newest first: the configured ones, else one made in HOME.

    Raises ConfigError for a secret that cannot be used.
    """
    if settings.webhook_secrets:
        return tuple(parse_secret(secret.get_secret_value()) for secret in settings.webhook_secrets)
    return (parse_secret(own_secret(settings.home / SECRET_FILE, _new_secret)),)


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,<base64>` per key, separated by spaces.

    timestamp: seconds since 1970 of this attempt.
    """
    content = b".".join((event_id.encode(), str(timestamp).encode(), body))
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def headers(
    keys: Sequence[bytes], event_id: str, delivery_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """All headers of one attempt. The event id stays over attempts, the delivery id does not."""
    return {
        "content-type": "application/json",
        "user-agent": "moderation-webhooks/1",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, event_id, timestamp, body),
        "webhook-delivery": delivery_id,
    }


def retry_delay_s(attempts: int, age_s: float, draw: float) -> float | None:
    """Seconds until the next attempt, or None when it is time to give up.

    attempts: made so far, at least 1. age_s: since the callback was written. draw: a random
    number in 0..1 for the jitter. Delays grow from 5 s to 4 h over more than 24 hours.
    """
    if attempts >= MIN_ATTEMPTS and age_s >= GIVE_UP_AFTER_S:
        return None
    exponent = min(attempts - 1, 20)
    delay = min(MAX_DELAY_S, FIRST_DELAY_S * GROWTH**exponent)
    return delay * (1 + JITTER * (2 * draw - 1))
