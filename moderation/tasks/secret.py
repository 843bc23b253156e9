"""Secrets that an installation makes for itself, in its data folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from moderation.errors import ConfigError
from moderation.settings import Settings

SAMPLING_FILE: Final = "sampling-secret"
SAMPLING_BYTES: Final = 32


def own_secret(path: Path, make: Callable[[], str]) -> str:
    """Read a secret of the data folder; whoever comes first makes it, once (mode 0600).

    Raises ConfigError where it cannot be kept.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(make() + "\n")
                # A link, not a rename: the first one made stays, and is never half written.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                Path(draft).unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot keep the {path.name} in {path}: {error}") from error


def sampling_secret(settings: Settings) -> bytes:
    """What the sampled moments depend on beside the file, so that who made the file cannot tell
    them. Machines of a fleet may have different ones: a video is planned once. Raises ConfigError.
    """
    if settings.sampling_secret is not None:
        told = settings.sampling_secret.get_secret_value()
    else:
        path = settings.home / SAMPLING_FILE
        told = own_secret(path, lambda: secrets.token_hex(SAMPLING_BYTES))
    return hashlib.blake2b(told.encode()).digest()


def sampling_seed(secret: bytes, sha256: str) -> str:
    """The seed of one content under one secret."""
    return hashlib.blake2b(sha256.encode(), key=secret, digest_size=32).hexdigest()
