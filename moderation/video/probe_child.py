"""Runs in a child: opens one local file, decodes its first frame, lists all of them.

    python -P -m moderation.video.probe_child PATH MAX_PIXELS

Answers a line of JSON, {"video": {…}} or {"code": …, "detail": …}, after the former the frames'
times and key flags in binary; any other end means that the file broke it.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from moderation.video.limits import FORMATS, MAX_FRAMES

SLACK_S = 1.0
SLACK = 0.02
"""How much later than its last packet a file may claim to end: headers are rounded."""
USABLE = 0.95
"""The part of all frames that must have a time of their own for those times to be believed."""
LOOK_BYTES = 4 * 1024 * 1024
"""Part of either end of a file in which its index is looked for."""


def main(argv: list[str]) -> int:
    """Print the answer; exit code 0 unless the arguments are wrong."""
    path, max_pixels = argv[0], int(argv[1])
    answer: dict[str, Any]
    frames = b""
    try:
        facts, frames = look(path, max_pixels)
        answer = {"video": facts}
    except Refused as error:
        answer = {"code": error.code, "detail": str(error)}
    except av.error.FFmpegError as error:
        answer = {"code": "corrupt", "detail": f"not a readable video: {error.strerror}"}
    except MemoryError:
        answer = {"code": "decode_memory", "detail": "the video needs more memory than it may"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + frames)
    return 0


class Refused(Exception):  # noqa: N818 - an outcome of this program, not an error of its own
    """The file is readable and may not be used."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def look(path: str, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """Facts of the video stream that the file asks players to show, or else of the first, and its
    frames: float64 times, then one byte each, 1 for a key frame. Reads every packet, decodes one
    frame. Raises Refused and FFmpegError."""
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    with av.open(path, options=options, metadata_errors="replace") as container:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise Refused("no_video", "the file has no video track")
        if "mp4" in container.format.name and _says_encrypted(path):
            raise Refused("encrypted", "the video is encrypted")
        stream = next((s for s in streams if _is_default(s)), streams[0])
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > max_pixels:
            raise Refused("too_many_pixels", f"{width} x {height} pixels are more than allowed")
        walk = _walk(container, stream, max_pixels)
        if walk.first is None:
            raise Refused("corrupt", "no frame of the video can be decoded")
        frame = walk.first
        zero = (container.start_time or 0) / av.time_base
        times, keys, held_s = walk.frames(zero)
        rotation = round(frame.rotation) % 360
        wide = max(1, round(frame.width * _pixel_aspect(stream)))
        shown = (frame.height, wide) if rotation in (90, 270) else (wide, frame.height)
        facts = {
            "container": container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": frame.format.name,
            "width": shown[0],
            "height": shown[1],
            "rotation": rotation,
            "held_s": held_s,
            "duration_s": _duration(container, stream, zero, max(held_s, walk.end_s - zero)),
            "start_s": zero,
            "frames": len(times),
            "audio": [s.codec_context.name for s in container.streams.audio],
            "stream": stream.index,
            "tracks": len(streams),
        }
    return facts, times.tobytes() + keys.tobytes()


class _Walk:
    """What passing over all packets of a file tells."""

    def __init__(self, stream: VideoStream) -> None:
        self.first: av.VideoFrame | None = None
        self.end_s = 0.0
        self._tick = float(stream.time_base or Fraction(1, av.time_base))
        self._rate = float(stream.average_rate or stream.guessed_rate or 25)
        self._shown: list[tuple[int | None, int | None, bool]] = []
        self._last_ticks = 0

    def add(self, packet: av.Packet[Any]) -> None:
        self._shown.append((packet.pts, packet.dts, packet.is_keyframe))
        self._last_ticks = packet.duration or 0
        if len(self._shown) > MAX_FRAMES:
            raise Refused("too_many_frames", f"more than {MAX_FRAMES} frames")

    def frames(self, zero: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Times ascending and distinct, key flags, and when the last frame goes.

        Where the container gives frames no time of their own, their order in the stream stands
        for it; where that tells nothing either, the frame rate does. Such a frame may then not be
        found at its time: it was not seen.
        """
        told = [(pts, key) for pts, _, key in self._shown if pts is not None]
        if not self._mostly_distinct(told):
            told = [(dts, key) for _, dts, key in self._shown if dts is not None]
        if not self._mostly_distinct(told):
            ticks = 1 / (self._rate * self._tick)
            told = [(round(i * ticks), key) for i, (_, _, key) in enumerate(self._shown)]
            zero = 0.0
        order = sorted(dict(reversed(told)).items())
        times = np.array([pts * self._tick - zero for pts, _ in order], np.float64)
        keys = np.array([key for _, key in order], np.uint8)
        keys[0] = 1  # whatever it says: there is no earlier place to begin at
        last = self._last_ticks * self._tick
        if len(times) > 1:
            usual = float(times[-1] - times[0]) / (len(times) - 1)
            last = last if 0 < last < 100 * usual else usual
        return times, keys, float(times[-1]) + (last or 1 / self._rate)

    def _mostly_distinct(self, told: list[tuple[int, bool]]) -> bool:
        return len({time for time, _ in told}) >= USABLE * len(self._shown)


def _walk(container: InputContainer, stream: VideoStream, max_pixels: int) -> _Walk:
    walk = _Walk(stream)
    flushed = False
    for packet in container.demux():
        if packet.stream is not stream:
            if packet.pts is not None and packet.time_base is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                walk.end_s = max(walk.end_s, float(end))
            continue
        flushed = packet.size == 0
        if not flushed and not packet.is_discard:
            walk.add(packet)
        if walk.first is None:
            walk.first = _first(packet)
            if walk.first is not None and walk.first.width * walk.first.height > max_pixels:
                size = f"{walk.first.width} x {walk.first.height}"
                raise Refused("too_many_pixels", f"{size} pixels are more than allowed")
    return walk


def _first(packet: av.Packet[Any]) -> av.VideoFrame | None:
    try:
        frames = packet.decode()
    except av.error.FFmpegError:  # the next packet may do; none at all is `corrupt`
        return None
    return next((f for f in frames if isinstance(f, av.VideoFrame)), None)


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height; 1 where the file tells nonsense."""
    told = float(stream.sample_aspect_ratio or 1)
    return told if 0.25 <= told <= 4 else 1.0


def _is_cover(stream: VideoStream) -> bool:
    """A picture attached to a song, not a moving one."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_default(stream: VideoStream) -> bool:
    """The one that the file asks players to show."""
    return bool(stream.disposition & av.stream.Disposition.default)


def _says_encrypted(path: str) -> bool:
    """Whether an MP4 has a sample entry of Common Encryption (ISO/IEC 23001-7). The demuxer hides
    that entry, so its bytes are looked for; and what is encrypted may decode, to noise."""
    with open(path, "rb") as file:  # noqa: PTH123 - nothing more to import in the child
        head = file.read(LOOK_BYTES)
        file.seek(max(0, file.seek(0, 2) - LOOK_BYTES))
        tail = file.read(LOOK_BYTES)
    return any(b"encv" in part and b"sinf" in part for part in (head, tail))


def _duration(
    container: InputContainer, stream: VideoStream, zero: float, held_s: float
) -> float | None:
    """When the file claims to end, where that is clearly later than anything it holds: it was cut
    off, or it lies. None otherwise.

    MP4 and MOV count from the start of the presentation; other containers from the first frame.
    """
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # The length itself is taken from what is left of the file.
        claimed = float(stream.frames / stream.average_rate)
    elif stream.duration is not None and stream.time_base is not None:
        claimed = float(stream.duration * stream.time_base)
        if "mp4" not in container.format.name and stream.start_time is not None:
            claimed += float(stream.start_time * stream.time_base) - zero
    elif container.duration is not None:
        claimed = container.duration / av.time_base
    else:
        return None
    return claimed if claimed > held_s + max(SLACK_S, SLACK * held_s) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
