"""What the pool and its decoder children say to each other over a unix stream socket.

A message is a 4-byte big-endian length and JSON: nothing in it can run code in the parent. A
request brings two file descriptors: the picture's bytes, and a file of `output_bytes(plan)`
that the child fills with the pixels, one layout after the other. What comes from a child is
checked here, since a picture may have taken the child over.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
import socket
import struct
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.errors import MediaError, UnsupportedMediaError
from moderation.images import DecodePlan
from moderation.sniff import FORMATS
from moderation.types import DecodedImage, InputKey, MediaInfo, View

LENGTH = struct.Struct(">I")
MAX_MESSAGE = 1 << 20
_CODES = {
    "empty_file",
    "unsupported_format",
    "truncated",
    "corrupt",
    "too_many_pixels",
    "too_many_frames",
    "decode_memory",
}
_COUNTS = (
    "width",
    "height",
    "frames_total",
    "frames_decoded",
    "frames_failed",
    "size_bytes",
    "trailing_bytes",
)
_PDQ = re.compile(r"[0-9a-f]{64}")


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message, with file descriptors (Linux and macOS)."""
    body = json.dumps(message).encode()
    head = LENGTH.pack(len(body))
    if fds:
        socket.send_fds(sock, [head], list(fds))
    else:
        sock.sendall(head)
    sock.sendall(body)


def receive(sock: socket.socket, deadline: float | None = None) -> tuple[dict[str, Any], list[int]]:
    """Receive one message, at the latest by `deadline` (time.monotonic).

    Raises EOFError at the end of the stream, TimeoutError, ValueError for nonsense.
    """
    _wait_until(sock, deadline)
    head, fds, _, _ = socket.recv_fds(sock, LENGTH.size, 2)
    if not head:
        raise EOFError
    try:
        head += _exactly(sock, LENGTH.size - len(head), deadline)
        (length,) = LENGTH.unpack(head)
        if length > MAX_MESSAGE:
            raise ValueError("message too long")
        return _parse(_exactly(sock, length, deadline)), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


def _exactly(sock: socket.socket, count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        _wait_until(sock, deadline)
        part = sock.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _wait_until(sock: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        sock.settimeout(max(0.001, deadline - time.monotonic()))


def output_bytes(plan: DecodePlan) -> int:
    """The most that a plan's pixels can take; pages that nobody writes cost nothing."""
    return plan.max_views * sum(3 * key.width * key.height for key in plan.keys)


def to_request(plan: DecodePlan, timeout_s: float) -> dict[str, Any]:
    """A plan and its time limit as JSON."""
    return {
        "keys": [[k.width, k.height, k.fit, k.interpolation] for k in plan.keys],
        "max_pixels": plan.max_pixels,
        "max_frames": plan.max_frames,
        "max_views": plan.max_views,
        "timeout_s": timeout_s,
    }


def to_plan(request: dict[str, Any]) -> DecodePlan:
    """The plan of a request: the inverse of `to_request`."""
    return DecodePlan(
        keys=tuple(InputKey(*key) for key in request["keys"]),
        max_pixels=request["max_pixels"],
        max_frames=request["max_frames"],
        max_views=request["max_views"],
    )


def to_reply(decoded: DecodedImage, target: int) -> dict[str, Any]:
    """Write the pixels into `target` and describe them."""
    with mmap.mmap(target, os.fstat(target).st_size) as output:
        at = 0
        for pixels in decoded.pixels.values():
            output[at : at + pixels.nbytes] = pixels.tobytes()
            at += pixels.nbytes
    return {
        "info": asdict(decoded.info),
        "views": [[v.frame, v.time_s, v.box, v.background] for v in decoded.views],
    }


def to_result(reply: dict[str, Any], plan: DecodePlan, target: int) -> DecodedImage:
    """Views and pixels of an answer. Raises KeyError, TypeError or ValueError for nonsense."""
    views = tuple(_view(*view) for view in reply["views"])
    if not 1 <= len(views) <= plan.max_views:
        raise ValueError("a wrong number of views")
    used = len(views) * output_bytes(plan) // plan.max_views
    # The mapping lives as long as an array that looks into it.
    mapped = mmap.mmap(target, used, prot=mmap.PROT_READ)
    pixels: dict[InputKey, NDArray[np.uint8]] = {}
    at = 0
    for key in plan.keys:
        shape = (len(views), key.height, key.width, 3)
        count = math.prod(shape)
        pixels[key] = np.frombuffer(mapped, np.uint8, count, at).reshape(shape)
        at += count
    return DecodedImage(_info(reply["info"]), views, pixels)


def _info(raw: dict[str, Any]) -> MediaInfo:
    pdq, quality = raw["pdq"], raw["pdq_quality"]
    if raw["format"] not in FORMATS or not (pdq is None or _PDQ.fullmatch(pdq)):
        raise ValueError("an unknown format or hash")
    return MediaInfo(
        format=raw["format"],
        pdq=pdq,
        pdq_quality=None if quality is None else int(quality),
        **{name: int(raw[name]) for name in _COUNTS},
    )


def _view(frame: int, time_s: float, box: list[float], background: str) -> View:
    left, top, right, bottom = (float(edge) for edge in box)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1 and math.isfinite(time_s)):
        raise ValueError("a view outside the picture")
    match background:
        case "opaque" | "black" | "white":
            return View(int(frame), float(time_s), (left, top, right, bottom), background)
    raise ValueError("an unknown background")


def to_refusal(reply: dict[str, Any]) -> MediaError:
    """The child's own MediaError. Raises KeyError or ValueError for nonsense."""
    code = reply["code"]
    if code not in _CODES:
        raise ValueError("an unknown code")
    kind = UnsupportedMediaError if code == UnsupportedMediaError.code else MediaError
    return kind(str(reply["error"]), code=code)


def anonymous_file(size: int) -> int:
    """A file without a name, in memory, that cannot be shrunk under a reader's mapping."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    fd = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    # Reading a mapping beyond the end of a file that somebody shrank would be SIGBUS.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd
