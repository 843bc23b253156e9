"""Where a picture's own bytes end, read from its blocks without decoding a pixel.

Tells bytes hidden behind a picture from a picture that was cut off. Pure Python.
"""

from __future__ import annotations

import struct

_ISO_BOXES = {b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"free", b"skip", b"uuid", b"idat"}


def trailing_bytes(data: bytes, fmt: str) -> int:
    """Bytes after the picture's end; 0 where it has no end of its own, or none was found."""
    end = _end(data, fmt)
    return 0 if end is None else max(0, len(data) - end)


def is_cut_off(data: bytes, fmt: str) -> bool:
    """True where the blocks promise bytes that are not there.

    True does not yet mean that pixels are missing (some writers forget the end mark), except
    for webp, bmp, avif and heic, whose sizes stand in the header.
    """
    end = _end(data, fmt)
    if fmt in ("jpeg", "png", "gif"):
        return end is None
    if fmt == "tiff":
        order = "little" if data[:1] == b"I" else "big"
        return int.from_bytes(data[4:8], order) + 2 > len(data)  # type: ignore[arg-type]
    return end is not None and end > len(data)


def _end(data: bytes, fmt: str) -> int | None:
    try:
        return _ENDS[fmt](data) if fmt in _ENDS else None
    except (struct.error, IndexError):
        return None


def _jpeg_end(data: bytes) -> int | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            # In coded data FF is followed by 00 or by a restart mark, so this is the end mark
            # (unless a table between two scans holds the two bytes, which nobody has seen).
            found = data.find(b"\xff\xd9", at)
            return None if found < 0 else found + 2
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in (0x01, 0xD8):
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _png_end(data: bytes) -> int | None:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return at if at <= len(data) else None
    return None


def _gif_end(data: bytes) -> int | None:
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while True:
        kind = data[at]
        if kind == 0x3B:
            return at + 1
        if kind == 0x21:
            at += 2
        elif kind == 0x2C:
            flags = data[at + 9]
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        else:
            at += 1  # decoders skip stray bytes between blocks
            continue
        while length := data[at]:
            at += 1 + length
        at += 1


def _webp_end(data: bytes) -> int:
    size = int(struct.unpack_from("<I", data, 4)[0])
    return 8 + size + (size & 1 and len(data) > 8 + size)


def _bmp_end(data: bytes) -> int | None:
    return int(struct.unpack_from("<I", data, 2)[0]) or None


def _iso_end(data: bytes) -> int:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _ISO_BOXES:
            break
        if length == 0:  # up to the end of the file
            return len(data)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        at += max(8, length)
    return at


_ENDS = {
    "jpeg": _jpeg_end,
    "png": _png_end,
    "gif": _gif_end,
    "webp": _webp_end,
    "bmp": _bmp_end,
    "avif": _iso_end,
    "heic": _iso_end,
}
