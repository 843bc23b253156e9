"""Runs `moderation` as a user does: a process of its own, with the fake backend by default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "moderation.cli"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the tester's own settings, a data folder of the test's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODERATION_")}
    return kept | {"MODERATION_HOME": str(home), "MODERATION_BACKEND": "fake"} | more


def moderation(*args: str | Path, home: Path, timeout: float = 120, **more: str) -> Done:
    """One command to its end. `more`: environment; the working folder is `home`'s parent."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)],
        env=environment(home, **more),
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
