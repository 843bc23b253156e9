"""The command `moderation`. Commands import what they need when they run: `--help` is fast."""

from __future__ import annotations

from moderation.cli.app import main

__all__ = ["main"]
