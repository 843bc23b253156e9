"""The header tells what a file is, whatever the bytes."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moderation.errors import MediaError, UnsupportedMediaError
from moderation.sniff import FORMATS, HEAD_BYTES, is_video, sniff, sniff_video
from moderation.structure import is_cut_off, trailing_bytes

MAGIC = {
    "jpeg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    "gif": b"GIF89a",
    "bmp": b"BM" + bytes(12) + struct.pack("<I", 40),
    "tiff": b"II*\0",
    "avif": b"\0\0\0\x18ftypavif",
    "heic": b"\0\0\0\x18ftypheic",
}
SAVED = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")


def encode(fmt: str, size: tuple[int, int] = (37, 23)) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(stream, fmt)
    return stream.getvalue()


@pytest.mark.parametrize("fmt", SAVED)
def test_format_and_size_are_read_from_the_header(fmt: str) -> None:
    sniffed = sniff(encode(fmt))
    assert (sniffed.format, sniffed.kind) == (fmt, "image")
    assert (sniffed.width, sniffed.height) == (37, 23)


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\0\0"}])
def test_every_kind_of_webp_tells_its_size(options: dict[str, object]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (300, 200)).save(stream, "webp", **options)
    sniffed = sniff(stream.getvalue())
    assert (sniffed.width, sniffed.height) == (300, 200)


def test_bmp_stored_from_the_top_has_a_positive_height() -> None:
    head = bytearray(encode("bmp"))
    head[22:26] = struct.pack("<i", -23)
    assert sniff(bytes(head)).height == 23


def test_jpeg_size_behind_a_large_thumbnail() -> None:
    data = encode("jpeg")
    filled = data[:2] + b"\xff\xe1" + struct.pack(">H", 40_000) + bytes(39_998) + data[2:]
    assert (sniff(filled).width, sniff(filled).height) == (37, 23)
    beyond = data[:2] + 2 * (b"\xff\xe1" + struct.pack(">H", 40_000) + bytes(39_998)) + data[2:]
    assert sniff(beyond[:HEAD_BYTES]).width is None


def test_heic_brands() -> None:
    for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        assert sniff(b"\0\0\0\x14ftyp" + brand + bytes(8)).format == "heic"
    compatible = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif"
    assert sniff(compatible).format == "avif"


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7",
        b"<svg xmlns=",
        b"BM is how this text begins",
        b"\0\0\0\x18ftypisom",
        b"RIFF\0\0\0\0WAVE",
        b"MZ",
        b"\xff\xd8",
    ],
)
def test_anything_else_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaError) as caught:
        sniff(data)
    assert (caught.value.code, caught.value.status) == ("unsupported_format", 415)


def test_no_bytes_are_an_empty_file() -> None:
    with pytest.raises(MediaError) as caught:
        sniff(b"")
    assert caught.value.code == "empty_file"


@given(start=st.sampled_from([b"", *MAGIC.values()]), rest=st.binary(max_size=400))
def test_random_bytes_give_a_format_or_a_media_error(start: bytes, rest: bytes) -> None:
    try:
        sniffed = sniff(start + rest)
    except MediaError:
        return
    assert sniffed.format in FORMATS
    assert (sniffed.width is None) == (sniffed.height is None)


@given(
    fmt=st.sampled_from(sorted(MAGIC)),
    rest=st.binary(max_size=400),
)
def test_structure_of_random_bytes_never_raises(fmt: str, rest: bytes) -> None:
    data = MAGIC[fmt] + rest
    assert 0 <= trailing_bytes(data, fmt) <= len(data)
    assert is_cut_off(data, fmt) in (True, False)


@pytest.mark.parametrize("fmt", [fmt for fmt in SAVED if fmt != "tiff"])
@pytest.mark.parametrize("extra", [b"", b"x" * 77, b"\xff\xd9;IEND"])
def test_trailing_bytes_are_counted(fmt: str, extra: bytes) -> None:
    data = encode(fmt)
    assert trailing_bytes(data + extra, fmt) == len(extra)
    assert not is_cut_off(data + extra, fmt)


@pytest.mark.parametrize("fmt", SAVED)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_cut_off_files_are_told(fmt: str, kept: float) -> None:
    data = encode(fmt, (300, 300))
    cut = data[: int(len(data) * kept)]
    if fmt == "tiff":  # its directory may stand first: only the decoder can tell
        assert is_cut_off(data[:4] + struct.pack("<I", len(data)) + data[8:], fmt)
    else:
        assert is_cut_off(cut, fmt)
        assert trailing_bytes(cut, fmt) == 0


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0 ftypisom\0\0\2\0isomiso2",
        b"\0\0\0\x14ftypqt  \0\0\0\0",
        b"\0\0\0\x08wide\0\0\0\0mdat",
        b"\x1aE\xdf\xa3\x93B\x82",
        b"RIFF\x10\0\0\0AVI LIST",
        b"FLV\x01\x05",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        b"OggS\0\2",
        b"\0\0\1\xba!\0",
        (b"G" + b"\0" * 187) * 3,
    ],
)
def test_containers_of_moving_pictures_are_told_from_pictures(head: bytes) -> None:
    assert is_video(head)
    with pytest.raises(UnsupportedMediaError):
        sniff(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"text",
        b"GGG",
        b"GIF89a",
        b"\xff\xd8\xff\xe0",
        b"\0\0\0 ftypheic\0\0\0\0",
        b"\0\0\0 ftypavif\0\0\0\0",
        b"RIFF\x10\0\0\0WEBP",
        b"#EXTM3U",
    ],
)
def test_what_is_no_video(head: bytes) -> None:
    assert not is_video(head)


CONTAINERS = {
    "mp4": b"\0\0\0 ftypisom\0\0\2\0isomiso2",
    "mov": b"\0\0\0\x14ftypqt  \0\0\0\0",
    "matroska": b"\x1aE\xdf\xa3\x93\x42\x82\x88matroska",
    "webm": b"\x1aE\xdf\xa3\x93\x42\x82\x84webm",
    "avi": b"RIFF\x10\0\0\0AVI LIST",
    "flv": b"FLV\x01\x05",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "ogg": b"OggS\0\2",
    "mpeg": b"\0\0\1\xba!\0",
    "mpegvideo": b"\0\0\1\xb3\x16",
    "mpegts": (b"G" + b"\0" * 187) * 3,
    "mxf": b"\x06\x0e+4\2\5",
    "y4m": b"YUV4MPEG2 W8 H8 F25:1\n",
    "gif": b"GIF89a\x08\0\x08\0",
}


@pytest.mark.parametrize(("name", "head"), CONTAINERS.items())
def test_a_container_has_its_name(name: str, head: bytes) -> None:
    told = sniff_video(head)
    assert (told.format, told.kind) == (name, "video")


@pytest.mark.parametrize(("size", "at"), [(188, 0), (192, 4), (204, 0)])
def test_transport_streams_of_each_packet_size(size: int, at: int) -> None:
    packet = (bytes(at) + b"G" + bytes(size))[:size]
    assert sniff_video(packet * 4).format == "mpegts"


@pytest.mark.parametrize("fmt", ["gif", "png", "webp"])
def test_an_animated_picture_is_a_video_where_one_is_asked_for(fmt: str) -> None:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (32, 24), (shade, 9, 9)) for shade in (0, 120, 240)]
    frames[0].save(stream, fmt, save_all=True, append_images=frames[1:])
    assert sniff_video(stream.getvalue()).format == {"png": "apng"}.get(fmt, fmt)
    assert not is_video(stream.getvalue()), "it stays a picture where pictures are read"


@pytest.mark.parametrize("fmt", [fmt for fmt in SAVED if fmt != "gif"])
def test_a_still_picture_is_no_video(fmt: str) -> None:
    with pytest.raises(UnsupportedMediaError, match="does not move"):
        sniff_video(encode(fmt))


@pytest.mark.parametrize(
    "text",
    [
        b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n",
        b"\xef\xbb\xbf#EXTM3U\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b'<?xml version="1.0"?>\n<!-- x -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">',
        b"<MPD>",
        b"  <SmoothStreamingMedia MajorVersion='2'>",
        b"[playlist]\nFile1=http://a/",
        b"<ASX version='3.0'>",
    ],
)
def test_a_playlist_is_told_as_such(text: bytes) -> None:
    with pytest.raises(UnsupportedMediaError) as error:
        sniff_video(text)
    assert error.value.code == "playlist"
    assert not is_video(text)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_name_or_an_error(data: bytes) -> None:
    for head in CONTAINERS.values():
        assert sniff_video(head + data).kind == "video"
    with contextlib.suppress(MediaError):  # any other error fails
        assert sniff_video(data).kind == "video"
