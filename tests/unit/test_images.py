"""Pictures as people send them, decoded into views."""

from __future__ import annotations

import io
import math
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from skimage import data as samples

from moderation.errors import MediaError
from moderation.images import ANIMATION_PIXELS, DecodePlan, decode_image
from moderation.pdq import pdq_hash
from moderation.pixels import composite, resize, to_srgb, upright
from moderation.types import InputKey
from moderation.views import rectangles, sample_frames, tile_spans

KEY = InputKey(224, 224)
PLAN = DecodePlan(keys=(KEY,), max_pixels=20_000_000, max_frames=16)
SMALL = InputKey(2, 2)
CORNERS = DecodePlan(keys=(SMALL,), max_pixels=20_000_000, max_frames=16)


def photo(size: tuple[int, int] = (360, 240)) -> Image.Image:
    return Image.fromarray(samples.coffee()).resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def code_of(data: bytes, plan: DecodePlan = PLAN) -> str:
    with pytest.raises(MediaError) as caught:
        decode_image(data, plan)
    assert caught.value.message.strip()
    return caught.value.code


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.fixture(scope="module")
def truth() -> NDArray[np.uint8]:
    return decode_image(encode(photo(), "png"), PLAN).pixels[KEY]


# --- formats ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "options", "tolerance"),
    [
        ("jpeg", {"quality": 95}, 3),
        ("jpeg", {"quality": 95, "progressive": True}, 3),
        ("png", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("gif", {}, 8),
        ("bmp", {}, 0),
        ("tiff", {}, 0),
        ("tiff", {"compression": "tiff_lzw"}, 0),
        ("avif", {"quality": 90}, 4),
    ],
)
def test_formats(
    fmt: str, options: dict[str, object], tolerance: float, truth: NDArray[np.uint8]
) -> None:
    data = encode(photo(), fmt, **options)
    decoded = decode_image(data, PLAN)
    info = decoded.info
    assert (info.format, info.width, info.height) == (fmt, 360, 240)
    assert (info.frames_total, info.frames_decoded, info.frames_failed) == (1, 1, 0)
    assert (info.size_bytes, info.trailing_bytes) == (len(data), 0)
    assert [view.background for view in decoded.views] == ["opaque"]
    assert decoded.pixels[KEY].shape == (1, 224, 224, 3)
    assert decoded.pixels[KEY].dtype == np.uint8
    assert difference(decoded.pixels[KEY], truth) <= tolerance


def test_grey_and_bilevel() -> None:
    for mode in ("L", "1"):
        pixels = decode_image(encode(photo().convert(mode), "png"), PLAN).pixels[KEY]
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_cmyk_jpeg_as_adobe_writes_it(truth: NDArray[np.uint8]) -> None:
    data = encode(photo().convert("CMYK"), "jpeg", quality=95)
    assert b"Adobe" in data  # with that marker the samples are stored inverted
    assert difference(decode_image(data, PLAN).pixels[KEY], truth) < 4


def test_png_of_16_bits_keeps_its_contrast() -> None:
    grey = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
    pixels = decode_image(encode(Image.fromarray(grey), "png"), PLAN).pixels[KEY]
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert abs(float(pixels.mean()) - 127.5) < 1


def test_png_of_16_bits_with_a_transparent_level() -> None:
    grey = np.full((8, 8), 1000, np.uint16)
    grey[:, 4:] = 65535
    data = encode(Image.fromarray(grey), "png")
    body = struct.pack(">H", 1000)
    chunk = struct.pack(">I", 2) + b"tRNS" + body + struct.pack(">I", zlib.crc32(b"tRNS" + body))
    decoded = decode_image(data[:33] + chunk + data[33:], CORNERS)
    assert [view.background for view in decoded.views] == ["black", "white"]
    assert decoded.pixels[SMALL][:, 0, 0, 0].tolist() == [0, 255]


def test_float_tiff_from_0_to_1() -> None:
    values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    pixels = decode_image(encode(Image.fromarray(values), "tiff"), PLAN).pixels[KEY]
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)


def test_lab_tiff_becomes_rgb() -> None:
    image = Image.new("LAB", (64, 64), (255, 128, 128))  # white
    assert decode_image(encode(image, "tiff"), PLAN).pixels[KEY].min() > 250


def test_heic_is_decoded_upright() -> None:
    """128 x 64 as stored, blue with a red corner top left, turned by an irot box."""
    data = (Path(__file__).parent.parent / "data" / "rotated.heic").read_bytes()
    decoded = decode_image(data, CORNERS)
    info = decoded.info
    assert (info.format, info.width, info.height) == ("heic", 64, 128)
    red = decoded.pixels[SMALL][0, :, :, 0] > 128
    assert red.tolist() == [[False, True], [False, False]]
    assert code_of(data[: len(data) * 9 // 10], CORNERS) == "truncated"
    assert decode_image(data + b"more", CORNERS).info.trailing_bytes == 4


# --- damage -----------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_half_a_picture_is_not_a_picture(fmt: str, kept: float) -> None:
    data = encode(photo(), fmt)
    assert code_of(data[: int(len(data) * kept)]) == "truncated"


@pytest.mark.parametrize("fmt", ["webp", "gif", "png", "avif"])
def test_half_an_animation_is_not_an_animation(fmt: str) -> None:
    data = animation(fmt, frames=6)
    assert code_of(data[: int(len(data) * 0.6)]) == "truncated"


def test_no_bytes_and_no_picture() -> None:
    assert code_of(b"") == "empty_file"
    assert code_of(b"just text, whatever the name of the file says") == "unsupported_format"


def test_damaged_inside() -> None:
    data = bytearray(encode(photo(), "png"))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    assert code_of(bytes(data)) == "corrupt"


@given(
    fmt=st.sampled_from(["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]),
    at=st.integers(0, 2000),
    junk=st.binary(min_size=1, max_size=24),
)
def test_damage_anywhere_raises_nothing_but_media_errors(fmt: str, at: int, junk: bytes) -> None:
    data = bytearray(encode(photo((48, 32)), fmt))
    at %= len(data)
    data[at : at + len(junk)] = junk
    try:
        decoded = decode_image(bytes(data), CORNERS)
    except MediaError:
        return
    assert len(decoded.views) == len(decoded.pixels[SMALL])


@pytest.mark.parametrize("fmt", ["jpeg", "png", "gif", "webp", "bmp"])
def test_bytes_after_the_end_are_tolerated_and_counted(fmt: str) -> None:
    data = encode(photo(), fmt)
    assert decode_image(data + b"PK\3\4" * 25, PLAN).info.trailing_bytes == 100


# --- limits -----------------------------------------------------------------------------


def png_bomb(width: int, height: int) -> bytes:
    """A small file whose header promises a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (20_000_001, 1)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert code_of(png_bomb(*size)) == "too_many_pixels"


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_every_format_keeps_to_the_pixel_limit(fmt: str) -> None:
    tight = DecodePlan(keys=(KEY,), max_pixels=360 * 240 - 1, max_frames=16)
    exact = DecodePlan(keys=(KEY,), max_pixels=360 * 240, max_frames=16)
    data = encode(photo(), fmt)
    assert code_of(data, tight) == "too_many_pixels"
    assert decode_image(data, exact).info.width == 360


def test_a_later_page_may_not_be_larger() -> None:
    pages = [Image.new("RGB", (600, 600))]
    data = encode(Image.new("RGB", (10, 10)), "tiff", save_all=True, append_images=pages)
    plan = DecodePlan(keys=(KEY,), max_pixels=10_000, max_frames=16)
    assert code_of(data, plan) == "too_many_pixels"


def test_frames_times_pixels_are_limited() -> None:
    data = animation("gif", frames=ANIMATION_PIXELS + 1, size=(40, 40))
    plan = DecodePlan(keys=(KEY,), max_pixels=1600, max_frames=16)
    assert code_of(data, plan) == "too_many_pixels"


def test_no_pixels() -> None:
    assert code_of(png_bomb(0, 5)) == "corrupt"


@pytest.mark.parametrize("wrong", [{"keys": ()}, {"max_pixels": 0}, {"max_views": 3}])
def test_a_plan_that_asks_for_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a usable plan"):
        DecodePlan(**({"keys": (KEY,), "max_pixels": 9, "max_frames": 1} | wrong))


# --- rotation, colour, alpha ------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation(fmt: str, orientation: int) -> None:
    stored = Image.new("RGB", (64, 32), (0, 0, 255))
    stored.paste((255, 0, 0), (0, 0, 32, 16))  # a red corner, top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(stored, fmt, exif=exif), CORNERS)
    # Where the EXIF standard says that row 0 and column 0 of the stored picture are shown.
    top_left = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1)}
    red = np.zeros((2, 2), bool)
    red[top_left.get(orientation, (1, 0))] = True
    assert (decoded.pixels[SMALL][0, :, :, 0] > 128).tolist() == red.tolist()
    shown = (64, 32) if orientation < 5 else (32, 64)
    assert (decoded.info.width, decoded.info.height) == shown


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_does(orientation: int) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8))
    operation = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    expected = np.asarray(image if operation is None else image.transpose(operation))
    assert (upright(np.asarray(image), orientation) == expected).all()


def swapped_profile() -> bytes:
    """An RGB profile that is sRGB with red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for index in range(count):
        at = 132 + 12 * index
        name = bytes(profile[at : at + 4])
        if name in (b"rXYZ", b"bXYZ"):
            profile[at : at + 4] = b"bXYZ" if name == b"rXYZ" else b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff", "avif"])
def test_colour_profile_is_applied(fmt: str) -> None:
    red = Image.new("RGB", (64, 64), (250, 10, 10))
    data = encode(red, fmt, icc_profile=swapped_profile(), quality=95)
    r, _, b = decode_image(data, PLAN).pixels[KEY][0, 100, 100].tolist()
    assert b > 200
    assert r < 60


def test_srgb_under_any_name_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, tagged = encode(photo(), "png"), encode(photo(), "png", icc_profile=profile)
    assert len(tagged) > len(plain)
    assert (decode_image(plain, PLAN).pixels[KEY] == decode_image(tagged, PLAN).pixels[KEY]).all()


@pytest.mark.parametrize("profile", [b"no profile at all", bytes(200)])
def test_a_broken_profile_is_ignored(profile: bytes, truth: NDArray[np.uint8]) -> None:
    decoded = decode_image(encode(photo(), "png", icc_profile=profile), PLAN)
    assert (decoded.pixels[KEY] == truth).all()


def test_alpha_is_seen_on_black_and_on_white() -> None:
    image = Image.new("RGBA", (10, 10), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 5, 10))  # white, seen on black alone
    decoded = decode_image(encode(image, "png"), CORNERS)
    assert [view.background for view in decoded.views] == ["black", "white"]
    black, white = decoded.pixels[SMALL][:, 0, :, 0].tolist()
    assert black == [255, 0]
    assert white == [255, 255]


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_alpha_that_is_opaque_everywhere_does_not_matter(fmt: str) -> None:
    decoded = decode_image(encode(photo().convert("RGBA"), fmt), PLAN)
    assert [view.background for view in decoded.views] == ["opaque"]


def test_transparent_palette_colour() -> None:
    image = Image.new("P", (10, 10), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.paste(1, (0, 0, 5, 10))
    decoded = decode_image(encode(image, "png", transparency=0), CORNERS)
    assert decoded.pixels[SMALL][:, 0, 1].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert decoded.pixels[SMALL][0, 0, 0].tolist() == [0, 200, 0]


@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from([0, 255]))
def test_composite_rounds(value: int, alpha: int, background: int) -> None:
    mixed = composite(
        np.full((1, 1, 3), value, np.uint8), np.full((1, 1), alpha, np.uint8), background
    )
    assert abs(int(mixed[0, 0, 0]) - (value * alpha + background * (255 - alpha)) / 255) <= 0.5


def test_composite_in_bands_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rgb = random.integers(0, 256, (23, 7, 3), np.uint8)
    alpha = random.integers(0, 256, (23, 7), np.uint8)
    whole = composite(rgb, alpha, 255)
    monkeypatch.setattr("moderation.pixels._BAND_BYTES", 6 * 7 * 5)
    assert np.array_equal(composite(rgb, alpha, 255), whole)


# --- animations -------------------------------------------------------------------------


def animation(fmt: str, frames: int, size: tuple[int, int] = (120, 80)) -> bytes:
    """Frame i is grey level 5 * i with a noisy half, shown for 100 ms."""
    rng = np.random.default_rng(3)
    pictures = []
    for index in range(frames):
        pixels = np.full((size[1], size[0], 3), 5 * index, np.uint8)
        pixels[size[1] // 2 :] = rng.integers(0, 256, pixels[size[1] // 2 :].shape)
        pictures.append(Image.fromarray(pixels))
    timing = {} if fmt == "tiff" else {"duration": 100}
    lossless = {"lossless": True} if fmt == "webp" else {}
    return encode(pictures[0], fmt, save_all=True, append_images=pictures[1:], **timing, **lossless)


@pytest.mark.parametrize("fmt", ["gif", "webp", "png", "avif", "tiff"])
def test_animations_are_sampled_over_all_their_frames(fmt: str) -> None:
    decoded = decode_image(animation(fmt, frames=40), CORNERS)
    info = decoded.info
    assert (info.frames_total, info.frames_decoded, info.frames_failed) == (40, 16, 0)
    frames = [view.frame for view in decoded.views]
    assert frames == list(sample_frames(40, 16))
    assert (frames[0], frames[-1]) == (0, 39)
    levels = decoded.pixels[SMALL][:, 0, 0, 0].astype(int)
    tolerance = 1 if fmt in ("webp", "png", "tiff") else 8
    assert np.abs(levels - 5 * np.array(frames)).max() <= tolerance
    times = [view.time_s for view in decoded.views]
    if fmt == "tiff":
        assert set(times) == {0.0}
    else:
        assert times == pytest.approx([frame / 10 for frame in frames], abs=0.02)


def test_a_frame_that_cannot_be_decoded_is_counted() -> None:
    data = bytearray(animation("png", frames=8))
    last = data.rindex(b"fdAT")
    data[last + 40 : last + 400] = bytes(360)
    info = decode_image(bytes(data), CORNERS).info
    assert (info.frames_total, info.frames_decoded, info.frames_failed) == (8, 7, 1)


def test_frames_give_way_to_the_limit_of_views() -> None:
    plan = DecodePlan(keys=(SMALL,), max_pixels=20_000_000, max_frames=100, max_views=10)
    decoded = decode_image(animation("webp", frames=40), plan)
    assert [view.frame for view in decoded.views] == [0, 10, 20, 29, 39]


@given(total=st.integers(1, 30_000), limit=st.integers(1, 64))
def test_sampled_frames_are_even_and_have_both_ends(total: int, limit: int) -> None:
    frames = sample_frames(total, limit)
    assert frames[0] == 0
    assert frames[-1] == total - 1
    assert len(frames) == min(total, max(2, limit))
    gaps = [b - a for a, b in pairwise(frames)]
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


# --- tiles ------------------------------------------------------------------------------


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(1, 64))
def test_rectangles_cover_every_pixel_and_overlap(width: int, height: int, limit: int) -> None:
    whole, *tiles = rectangles(width, height, limit)
    assert whole == (0, 0, width, height)
    assert len(tiles) < max(limit, 1) + (limit == 0)
    if max(width, height) <= 2 * min(width, height):
        assert not tiles
        return
    if not tiles:
        assert limit < 3
        return
    end = 0
    for left, top, right, bottom in tiles:
        start, stop = (left, right) if width > height else (top, bottom)
        assert (top, bottom) == (0, height) or width <= height
        assert (left, right) == (0, width) or width > height
        assert start <= end
        if start:  # about a quarter of a tile is seen twice
            assert end - start >= math.floor((stop - start) * 0.25) - 2
        end = stop
    assert end == max(width, height)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_tiles_are_square_where_the_limit_allows(length: int, breadth: int) -> None:
    spans = tile_spans(length, breadth, 10_000)
    assert all(end - start == min(length, breadth) for start, end in spans)


def test_a_long_picture_is_seen_as_a_whole_and_in_tiles() -> None:
    long = Image.new("RGB", (1000, 100))
    long.paste((255, 0, 0), (990, 0, 1000, 100))
    decoded = decode_image(encode(long, "png"), CORNERS)
    boxes = [view.box for view in decoded.views]
    assert boxes[0] == (0, 0, 1, 1)
    assert boxes[1] == (0, 0, 0.1, 1)
    assert boxes[-1] == (0.9, 0, 1, 1)
    assert len(boxes) == 14
    reds = decoded.pixels[SMALL][:, 0, 1, 0].tolist()
    assert reds[-1] > reds[0] > 0  # the last tile sees the strip larger
    assert decode_image(encode(long.resize((200, 100)), "png"), CORNERS).views[1:] == ()


# --- resizing ---------------------------------------------------------------------------


def weights(source: int, wanted: int, interpolation: str) -> NDArray[np.float64]:
    """Matrix (wanted, source) of a one-dimensional resize, written from its definition."""
    matrix = np.zeros((wanted, source))
    scale = source / wanted
    for i in range(wanted):
        if interpolation == "area" and scale >= 1:
            for j in range(source):
                matrix[i, j] = max(0.0, min(j + 1, (i + 1) * scale) - max(j, i * scale))
        elif interpolation == "area":
            centre = (i + 0.5) * scale - 0.5
            low = math.floor(centre)
            for j, part in ((low, 1 - (centre - low)), (low + 1, centre - low)):
                matrix[i, min(max(j, 0), source - 1)] += part
        else:
            centre, wide = (i + 0.5) * scale, max(scale, 1.0)
            reach = wide * (1 if interpolation == "bilinear" else 2)
            for j in range(source):
                x = abs(j + 0.5 - centre) / wide
                if abs(j + 0.5 - centre) >= reach:
                    continue
                if interpolation == "bilinear":
                    matrix[i, j] = 1 - x
                elif x < 1:
                    matrix[i, j] = (1.5 * x - 2.5) * x * x + 1
                else:
                    matrix[i, j] = ((-0.5 * x + 2.5) * x - 4) * x + 2
        matrix[i] /= matrix[i].sum()
    return matrix


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(97, 61), (224, 100), (30, 400), (20, 10), (64, 48)])
def test_resizing_is_what_its_definition_says(interpolation: str, size: tuple[int, int]) -> None:
    width, height = size
    source = np.random.default_rng(5).integers(64, 192, (height, width, 3), dtype=np.uint8)
    key = InputKey(64, 48, "stretch", interpolation)
    rows, columns = weights(height, 48, interpolation), weights(width, 64, interpolation)
    expected = np.einsum("ir,rcx,jc->ijx", rows, source.astype(np.float64), columns)
    made = resize(source, (0, 0, width, height), key)
    assert made.shape == (48, 64, 3)
    assert np.abs(expected - made).max() <= 1.6


def test_only_the_rectangle_is_read() -> None:
    source = np.zeros((40, 80, 3), np.uint8)
    source[:, 40:] = 200
    for interpolation in ("area", "bilinear", "bicubic"):
        key = InputKey(16, 16, "stretch", interpolation)
        assert (resize(source, (0, 0, 40, 40), key) == 0).all()
        assert (resize(source, (40, 0, 80, 40), key) == 200).all()


def test_a_large_jpeg_is_shrunk_while_decoding_without_moving_the_pixels() -> None:
    data = encode(photo((2400, 1800)), "jpeg", quality=90)
    quick = decode_image(data, PLAN)
    assert (quick.info.width, quick.info.height) == (2400, 1800)
    rgb, _ = to_srgb(Image.open(io.BytesIO(data)), None)
    full = resize(rgb, (0, 0, 2400, 1800), KEY)
    assert difference(quick.pixels[KEY][0], full) < 0.6
    moved = np.abs(quick.pixels[KEY][0].astype(int) - full)
    assert np.quantile(moved, [0.99, 0.999]).tolist() <= [5, 10]


def test_large_pictures_are_copied_in_bands() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2000, 2100, 3), dtype=np.uint8)  # more than one band
    copied, alpha = to_srgb(Image.fromarray(pixels), None)
    assert alpha is None
    assert (copied == pixels).all()


# --- PDQ --------------------------------------------------------------------------------

# By the reference implementation (pdqhash 0.2.8) of the same pixels, with its quality.
REFERENCE: dict[tuple[str, tuple[int, int]], tuple[str, int]] = {
    ("coffee", (512, 512)): (
        "88629e779a663698f9a338668027727c21a679f61eb6e1f8c79b27e27c0299e0",
        100,
    ),
    ("coffee", (300, 200)): (
        "8c629e7792663698f9a33866c026727c21a679f61eb6e1f8c79ba7e23c0299e0",
        100,
    ),
    ("coffee", (131, 77)): (
        "cc629e669a663658f9a338668926f27c21a7f9e61eb6c1f8c79927e2788299a0",
        100,
    ),
    ("astronaut", (512, 512)): (
        "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724",
        100,
    ),
    ("astronaut", (300, 200)): (
        "6d6b1af3ad564529e79ca3d2526fa814d4196c81d6fd04de0a26b851fc99b724",
        100,
    ),
    ("astronaut", (131, 77)): (
        "0d6b52f3a8d6cd69cf9cabd6576b2836941b68098edd14de0a263855ec19b724",
        100,
    ),
    ("rocket", (512, 512)): (
        "8793786c8f9370e4af1bc0e43f1bc0e03f1cc2e33d2482537c8c821b7cecf376",
        100,
    ),
    ("rocket", (300, 200)): (
        "c793786d879b7064bf1b40e43f1bc0e03f1cc2e33d24c2537cac821b3ca4f376",
        100,
    ),
    ("rocket", (131, 77)): (
        "879370ec8f1330e4ef1b00e03f1f80e07f1c82f37d2483937ccc821b7cecf376",
        100,
    ),
}


def distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


@pytest.mark.parametrize(("name", "size"), sorted(REFERENCE))
def test_pdq_is_the_reference_hash(name: str, size: tuple[int, int]) -> None:
    picture = Image.fromarray(getattr(samples, name)()).resize(size, Image.Resampling.BOX)
    made, quality = pdq_hash(np.asarray(picture))
    reference, reference_quality = REFERENCE[name, size]
    assert distance(made, reference) <= 6  # float32 sums in another order
    assert quality == reference_quality


def test_pdq_survives_a_smaller_copy_and_tells_pictures_apart() -> None:
    def of(data: bytes) -> str:
        pdq = decode_image(data, PLAN).info.pdq
        assert pdq is not None
        return pdq

    original = of(encode(photo((1200, 800)), "jpeg", quality=92))
    copy = of(encode(photo((400, 267)), "webp", quality=60))
    other = of(encode(Image.fromarray(samples.astronaut()), "png"))
    assert distance(original, copy) <= 20
    assert distance(original, other) > 90


def test_pdq_of_a_plain_picture_has_no_quality() -> None:
    assert (
        decode_image(encode(Image.new("RGB", (300, 300), "teal"), "png"), PLAN).info.pdq_quality
        == 0
    )
