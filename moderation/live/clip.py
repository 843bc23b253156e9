"""A frozen clip as a file that browsers play: the same packets in another container."""

from __future__ import annotations

from pathlib import Path

from moderation.errors import MediaError
from moderation.live.ring import Clip
from moderation.video.ffmpeg import MediaProcess

TIMEOUT_S = 60.0
MEMORY_MIB = 1024


def playable(clip: Clip, program: str, target: Path) -> None:
    """Write the clip as MP4 with its index in front to `target`, a new file. Nothing is encoded
    again. Raises MediaError where its codec does not fit, and decode_timeout.
    """
    with MediaProcess(
        command(clip.path, program, str(target.resolve())),
        timeout_s=TIMEOUT_S,
        memory_mib=MEMORY_MIB,
        # MP4 has less around its packets than MPEG-TS.
        file_bytes=2 * clip.size,
    ) as process:
        process.read_all(0)
        code = process.finish()
    if code != 0:
        raise MediaError(f"the clip cannot be put into an MP4 ({code})")


def command(clip: Path, program: str, target: str) -> list[str]:
    """The argv of ffmpeg: that file alone, its first picture at 0."""
    return [
        *(program, "-nostdin", "-hide_banner", "-v", "error", "-y"),
        *("-protocol_whitelist", "file,pipe", "-f", "mpegts", "-i", str(clip.resolve())),
        *("-map", "0:v:0", "-c", "copy", "-map_metadata", "-1"),
        *("-f", "mp4", "-movflags", "+faststart", "-abort_on", "empty_output", target),
    ]
