"""`moderation version`."""

from __future__ import annotations

import platform
import sys

from moderation import __version__
from moderation.cli.out import Json, answer


def version(json: Json = False) -> None:
    """Print the version."""
    if json:
        answer(
            {
                "version": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
            }
        )
    else:
        sys.stdout.write(f"moderation {__version__}\n")
