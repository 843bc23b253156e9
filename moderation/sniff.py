"""What a file is, told by its first bytes and never by its name.

Pure Python over at most `HEAD_BYTES`, so that the gateway may use it on hostile bytes: no
image library is imported here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from moderation.errors import MediaError, UnsupportedMediaError

HEAD_BYTES = 65536

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
# Start-of-frame markers: all of C0..CF but DHT (C4), JPG (C8) and DAC (CC).
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

Size = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A recognised format. width and height in pixels as stored (before any rotation), None
    where the first `HEAD_BYTES` do not tell."""

    format: str
    kind: Literal["image"]
    width: int | None
    height: int | None


def sniff(head: bytes) -> Sniffed:
    """Recognise jpeg, png, webp, gif, bmp, tiff, avif or heic (APNG is png).

    head: the first bytes of the file, `HEAD_BYTES` are enough. Raises MediaError
    (empty_file) for no bytes, UnsupportedMediaError for everything else; nothing else,
    whatever the bytes.
    """
    if not head:
        raise MediaError("the file is empty", code="empty_file")
    head = head[:HEAD_BYTES]
    name = _format(head)
    if name is None:
        raise UnsupportedMediaError(
            "the file is not a picture of a supported format "
            "(JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC)"
        )
    try:
        size = _SIZES[name](head)
    except (struct.error, IndexError):  # the header is cut off: the decoder will say so
        size = None
    width, height = size if size is not None else (None, None)
    return Sniffed(name, "image", width, height)


def _format(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    # "BM" alone is two letters of any text: the header's own length has to fit as well.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head[4:8] == b"ftyp":
        return _iso_brand(head)
    return None


def _iso_brand(head: bytes) -> str | None:
    length = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(length, 512), 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "avif"
    if any(brand in _HEIC_BRANDS for brand in brands) or brands[0] in (b"mif1", b"msf1"):
        return "heic"
    return None


def _jpeg_size(head: bytes) -> Size:
    at = 2
    while True:
        while head[at] != 0xFF:  # stray bytes between segments are skipped by decoders, too
            at += 1
        while head[at] == 0xFF:
            at += 1
        marker = head[at]
        at += 1
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", head, at + 3)
            return width, height
        if marker in (0xD9, 0xDA):
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        at += struct.unpack_from(">H", head, at)[0]


def _png_size(head: bytes) -> Size:
    if head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _webp_size(head: bytes) -> Size:
    chunk = head[12:16]
    if chunk == b"VP8X":
        return (
            1 + int.from_bytes(head[24:27], "little"),
            1 + int.from_bytes(head[27:30], "little"),
        )
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _gif_size(head: bytes) -> Size:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _bmp_size(head: bytes) -> Size:
    if int.from_bytes(head[14:18], "little") == 12:
        width, height = struct.unpack_from("<HH", head, 18)
        return width, height
    width, height = struct.unpack_from("<ii", head, 18)
    return width, abs(height)  # negative: stored from the top


def _tiff_size(head: bytes) -> Size:
    order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        return None  # BigTIFF: left to the decoder
    (at,) = struct.unpack_from(order + "I", head, 4)
    (count,) = struct.unpack_from(order + "H", head, at)
    sizes: dict[int, int] = {}
    for index in range(count):
        tag, kind = struct.unpack_from(order + "HH", head, at + 2 + 12 * index)
        if tag in (256, 257):
            value = struct.unpack_from(
                order + ("H" if kind == 3 else "I"), head, at + 10 + 12 * index
            )
            sizes[tag] = value[0]
    return (sizes[256], sizes[257]) if len(sizes) == 2 else None


def _iso_size(head: bytes) -> Size:
    # Every image item has an `ispe` box; tiles of a grid have smaller ones than the whole.
    sizes = [
        struct.unpack_from(">II", head, match.end() + 4)
        for match in re.finditer(rb"\0\0\0\x14ispe", head)
        if match.end() + 12 <= len(head)
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


_SIZES = {
    "jpeg": _jpeg_size,
    "png": _png_size,
    "webp": _webp_size,
    "gif": _gif_size,
    "bmp": _bmp_size,
    "tiff": _tiff_size,
    "avif": _iso_size,
    "heic": _iso_size,
}

FORMATS = frozenset(_SIZES)
"""Every name that `sniff` may answer."""


_ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
_ASF = bytes.fromhex("3026b2758e66cf11")
_TS_PACKET = 188


def is_video(head: bytes) -> bool:
    """Whether the first bytes are those of a container that holds moving pictures (or sound):
    MP4, MOV, Matroska, WebM, AVI, ASF, FLV, MPEG-TS, MPEG-PS, Ogg, MXF. Whether it is a usable
    video, only a decoder can tell. Animated pictures are pictures: see `sniff`."""
    if _format(head[:HEAD_BYTES]) is not None:
        return False
    return (
        head[4:8] in _ISO_BOXES
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", _ASF, b"OggS", b"\x06\x0e+4"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:3] == b"\0\0\1" and head[3:4] in (b"\xba", b"\xb3"))
        or (len(head) > 2 * _TS_PACKET and head[: 3 * _TS_PACKET : _TS_PACKET] == b"GGG")
    )
