"""Small videos for tests, written by the bundled ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

from moderation.video.ffmpeg import program

PICTURE = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=2")
SOUND = ("-f", "lavfi", "-i", "sine=duration=2")


def write(path: Path, *words: str) -> Path:
    """Run ffmpeg with these words; the output is `path`."""
    subprocess.run(
        [program(), "-nostdin", "-v", "error", "-y", *words, str(path)],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return path
