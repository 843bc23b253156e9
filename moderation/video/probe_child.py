"""Runs in a child: opens one local file, decodes its first frame, prints JSON.

    python -P -m moderation.video.probe_child PATH MAX_PIXELS

Answers {"video": {…}} or {"code": …, "detail": …}; any other end means that the file broke it.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

FORMATS = (
    "mov", "mp4", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg", "ogg", "mxf",
    "3gp", "m4v", "mpegvideo", "h264", "hevc", "ivf", "gif", "apng", "webp_pipe", "rm", "nut",
    "obu", "vc1", "dv", "wtv", "m4a", "mjpeg", "yuv4mpegpipe",
)  # fmt: skip
"""Containers that hold their own pictures. Playlists (hls, dash, concat, sdp) name other files
and addresses, so they are not on the list."""

LOOK_BYTES = 4 * 1024 * 1024
"""Part of either end of a file in which its index is looked for."""


def main(argv: list[str]) -> int:
    """Print one JSON object; exit code 0 unless the arguments are wrong."""
    path, max_pixels = argv[0], int(argv[1])
    answer: dict[str, Any]
    try:
        answer = {"video": look(path, max_pixels)}
    except Refused as error:
        answer = {"code": error.code, "detail": str(error)}
    except av.error.FFmpegError as error:
        answer = {"code": "corrupt", "detail": f"not a readable video: {error.strerror}"}
        if _says_encrypted(path):
            answer = {"code": "encrypted", "detail": "the video is encrypted"}
    except MemoryError:
        answer = {"code": "decode_memory", "detail": "the video needs more memory than it may"}
    sys.stdout.write(json.dumps(answer))
    return 0


class Refused(Exception):  # noqa: N818 - an outcome of this program, not an error of its own
    """The file is readable and may not be used."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def look(path: str, max_pixels: int) -> dict[str, Any]:
    """Facts of the first real video stream. Raises Refused and FFmpegError."""
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    with av.open(path, options=options, metadata_errors="replace") as container:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise Refused("no_video", "the file has no video track")
        stream = streams[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > max_pixels:
            raise Refused("too_many_pixels", f"{width} x {height} pixels are more than allowed")
        frame = next(iter(container.decode(stream)), None)
        if frame is None:
            raise Refused("corrupt", "no frame of the video can be decoded")
        if frame.width * frame.height > max_pixels:
            raise Refused("too_many_pixels", f"{frame.width} x {frame.height} pixels")
        rotation = round(frame.rotation) % 360
        turned = rotation in (90, 270)
        return {
            "container": container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": frame.format.name,
            "width": frame.height if turned else frame.width,
            "height": frame.width if turned else frame.height,
            "rotation": rotation,
            "duration_s": _duration(container, stream, frame.time or 0.0),
            "fps": _number(stream.average_rate),
            "start_s": _number(frame.time) or 0.0,
            "audio": [s.codec_context.name for s in container.streams.audio],
        }


def _is_cover(stream: VideoStream) -> bool:
    """A picture attached to a song, not a moving one."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _says_encrypted(path: str) -> bool:
    """Whether an MP4 that cannot be decoded has a sample entry of Common Encryption
    (ISO/IEC 23001-7): the demuxer hides that entry, so its bytes are looked for."""
    with open(path, "rb") as file:  # noqa: PTH123 - nothing more to import in the child
        head = file.read(LOOK_BYTES)
        file.seek(max(0, file.seek(0, 2) - LOOK_BYTES))
        tail = file.read(LOOK_BYTES)
    return any(b"encv" in part and b"sinf" in part for part in (head, tail))


def _duration(container: InputContainer, stream: VideoStream, start_s: float) -> float | None:
    """Seconds from the first frame to the end, as the file claims; None where it claims nothing.

    MP4 and MOV count from the start of the presentation, which an edit list may put before the
    first frame; other containers count from the first frame."""
    if stream.duration is not None and stream.time_base is not None:
        claimed = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        claimed = container.duration / av.time_base
    else:
        return None
    return claimed - start_s if "mp4" in container.format.name else claimed


def _number(value: Fraction | float | None) -> float | None:
    return None if value is None else float(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
