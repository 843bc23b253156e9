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
    where the first `HEAD_BYTES` do not tell, and for videos."""

    format: str
    kind: Literal["image", "video"]
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


# --- moving pictures ---------------------------------------------------------------------

_ISO_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"FLV\x01", "flv"),
    (bytes.fromhex("3026b2758e66cf11"), "asf"),
    (b"OggS", "ogg"),
    (b"\x06\x0e+4", "mxf"),
    (b"\0\0\1\xba", "mpeg"),
    (b"\0\0\1\xb3", "mpegvideo"),
    (b"\0\0\1\xb0", "m4v"),
    (b"\0\0\1\x0f", "vc1"),
    (b"\0\0\0\1\x67", "h264"),
    (b"\0\0\0\1\x27", "h264"),
    (b"\0\0\0\1\x09", "h264"),
    (b"\0\0\0\1\x40", "hevc"),
    (b"\0\0\0\1\x46", "hevc"),
    (b"\x12\0\x0a", "obu"),
    (b"\x1f\x07\0", "dv"),
    (b"nut/multimedia container\0", "nut"),
    (bytes.fromhex("b7d800203749da11"), "wtv"),
    (b"YUV4MPEG2", "y4m"),
    (b"DKIF", "ivf"),
    (b".RMF", "rm"),
)
_STILL_BRANDS = _AVIF_BRANDS | _HEIC_BRANDS | {b"mif1", b"msf1"}
# Packets of MPEG-TS: plain, with a time stamp before each (Blu-ray), with parity after each.
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
_PLAYLIST = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXT|ffconcat|\[playlist\]|\[reference\]|v=0\r?\n|rtsptext|<asx\b"
    rb"|(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)?<(MPD|SmoothStreamingMedia|smil|playlist)\b)",
    re.IGNORECASE | re.DOTALL,
)


def sniff_video(head: bytes) -> Sniffed:
    """Recognise a container of moving pictures (or sound), or an animated picture: its name,
    with kind "video". Whether it is a usable video, only a decoder can tell.

    Raises MediaError (empty_file) for no bytes, UnsupportedMediaError for everything else:
    with the code `playlist` for a text that names other files, which ffmpeg would open.
    """
    if not head:
        raise MediaError("the file is empty", code="empty_file")
    head = head[:HEAD_BYTES]
    name = _container(head) or _animation(head)
    if name is not None:
        return Sniffed(name, "video", None, None)
    if _PLAYLIST.match(head):
        raise UnsupportedMediaError(
            "the file is a playlist: it names other files and holds no video", code="playlist"
        )
    if _format(head) is not None:
        raise UnsupportedMediaError("the file is a picture that does not move")
    raise UnsupportedMediaError(
        "the file is not a video of a supported format "
        "(MP4, MOV, Matroska, WebM, AVI, FLV, MPEG-TS, MPEG-PS, ASF, Ogg, MXF, GIF, APNG, WebP)"
    )


def is_video(head: bytes) -> bool:
    """Whether `sniff_video` names a container. Animated pictures are pictures: see `sniff`."""
    return _format(head[:HEAD_BYTES]) is None and _container(head[:HEAD_BYTES]) is not None


def _container(head: bytes) -> str | None:
    # A file with a picture's brand beside a film's is read as a film where one is asked for.
    if head[4:8] in _ISO_BOXES and head[8:12] not in _STILL_BRANDS:
        return "mov" if head[4:8] != b"ftyp" or head[8:12] == b"qt  " else "mp4"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if b"\x42\x82\x84webm" in head[:64] else "matroska"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    for size, at in _TS_PACKETS:
        if len(head) > 2 * size + at and head[at : at + 2 * size + 1 : size] == b"GGG":
            return "mpegts"
    return None


def _animation(head: bytes) -> str | None:
    """Formats of pictures that may move; of GIF, only its end tells whether it does."""
    name = _format(head)
    if name == "gif":
        return "gif"
    if name == "png":
        return "apng" if b"acTL" in head.partition(b"IDAT")[0] else None
    if name == "webp":
        return "webp" if head[12:16] == b"VP8X" and head[20:21] and head[20] & 2 else None
    if name == "avif":
        return "avif" if head[8:12] == b"avis" else None
    return None
