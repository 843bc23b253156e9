"""Where the picture of a film changes at once: the cuts."""

from __future__ import annotations

import re
from pathlib import Path

import ffmpeg

from moderation.video.ffmpeg import MediaProcess
from moderation.video.probe import VideoInfo
from moderation.video.source import ReadOptions, picture

CHANGE = 0.3
"""ffmpeg's own measure, 0..1: its documentation names 0.3 to 0.5 for cuts."""
MAX_ANSWER = 16 * 1024 * 1024
SPEED = 4.0
"""Slower than so many times real time is too slow."""
_LINE = re.compile(rb"frame:\d+\s+pts:(-?\d+)\s")


def find_scenes(path: Path, info: VideoInfo, options: ReadOptions) -> tuple[float, ...]:
    """Seconds of the first frame of every scene but the first, ascending.

    Decodes the whole file, but for the frames that no other needs. What cannot be decoded has no
    cuts. Raises MediaError decode_timeout.
    """
    with MediaProcess(
        command(path, info, options),
        timeout_s=options.timeout_s + info.held_s / SPEED,
        memory_mib=options.memory_mib,
    ) as process:
        told = process.read_all(MAX_ANSWER)
        process.finish()
    found = {int(ticks) / 1_000_000 - info.start_s for ticks in _LINE.findall(told)}
    return tuple(sorted(time_s for time_s in found if 0 < time_s < info.held_s))


def command(path: Path, info: VideoInfo, options: ReadOptions) -> list[str]:
    """The argv of ffmpeg: a line for every cut on standard output."""
    cuts = (
        picture(path, info, options, skip_frame="noref")
        .filter("scale", 160, 90, flags="area")
        .filter("select", f"gt(scene,{CHANGE})")
        .filter("settb", "1/1000000")
        .filter("metadata", mode="print", file="pipe:1", direct=1)
    )
    words: list[str] = (
        ffmpeg.output(cuts, "-", format="null", fps_mode="passthrough")
        .global_args("-nostdin", "-hide_banner", "-v", "error", "-filter_threads", "1")
        .compile(cmd=options.program)
    )
    return words
