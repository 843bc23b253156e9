"""Which passes people look at all the same: drawn by lot, under a secret of the installation."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Self

from moderation.settings import Settings
from moderation.tasks.secret import sampling_secret

_PURPOSE: Final = b"audit\0"
"""The same secret chooses moments of films: one choice tells nothing of the other."""
_SPAN: Final = 1 << 64


def drawn(secret: bytes, sha256: str, share: float) -> bool:
    """Whether a content is among the share (0..1) of all that is drawn. Pure.

    The same bytes always or never are; who draws more later draws these, too. Nobody can tell
    which who does not know the secret.
    """
    digest = hmac.new(secret, _PURPOSE + sha256.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") < share * _SPAN


@dataclass(frozen=True, slots=True)
class Lot:
    """What a worker draws by. share: 0..1 of all contents."""

    share: float = 0.0
    secret: bytes = b""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ConfigError where the secret cannot be kept."""
        if settings.audit_share == 0:
            return cls()
        return cls(settings.audit_share, sampling_secret(settings))

    def draws(self, sha256: str) -> bool:
        return drawn(self.secret, sha256, self.share)
