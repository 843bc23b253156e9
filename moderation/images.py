"""Bytes of a picture -> checked pixels, as the scorers read them.

Runs in a decoder child (see decoders.py), because the bytes are hostile. Formats: JPEG, PNG
and APNG, WebP, GIF, BMP, TIFF, AVIF through Pillow; HEIC through pi-heif (decoding only).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageFile

from moderation.errors import MediaError
from moderation.pdq import pdq_hash
from moderation.pixels import Pixels, composite, resize, to_srgb, upright
from moderation.sniff import HEAD_BYTES, sniff
from moderation.structure import is_cut_off, trailing_bytes
from moderation.types import DecodedImage, InputKey, MediaInfo, View
from moderation.views import rectangles, sample_frames

ANIMATION_PIXELS = 10
"""Frames x width x height of an animation may be this many times `max_pixels`: the frames
between the sampled ones cost decoding time as well."""
ANIMATION_FRAMES = 20_000

_ORIENTATION = 0x0112
Background = Literal["opaque", "black", "white"]


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """What is wanted of a picture.

    keys: pixel layouts, at least one. max_pixels: width x height of one frame. max_frames:
    frames sampled of an animation (at least 2 are, first and last). max_views: bound on
    frames x backgrounds x rectangles, at least 4.
    """

    keys: tuple[InputKey, ...]
    max_pixels: int
    max_frames: int
    max_views: int = 64

    def __post_init__(self) -> None:
        if not self.keys or min(self.max_pixels, self.max_frames) < 1 or self.max_views < 4:
            raise ValueError(f"not a usable plan: {self}")

    @property
    def frames(self) -> int:
        """Frames that fit, when each may need two backgrounds."""
        return min(self.max_frames, self.max_views // 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    index: int
    time_s: float
    rgb: Pixels
    alpha: Pixels | None
    swapped: bool
    """Width and height changed places when it was turned upright."""


def decode_image(data: bytes, plan: DecodePlan) -> DecodedImage:
    """Decode a picture, upright and in sRGB, into views of every layout of the plan.

    Each sampled frame gives a view of the whole and, when longer than 2:1, of overlapping
    tiles; where alpha is below 255 anywhere, all of them over black and over white. Pixels
    hidden by alpha or outside the frames shown are not looked at.

    Raises MediaError: empty_file, unsupported_format, too_many_pixels and too_many_frames
    (before pixels are allocated), truncated, corrupt, decode_memory. A frame of an animation
    that cannot be decoded, after one that could, is counted in `info.frames_failed`.
    """
    header = sniff(data[:HEAD_BYTES])
    if header.width is not None and header.height is not None:
        _check_pixels(header.width, header.height, plan)
    if header.format in ("webp", "avif", "heic") and is_cut_off(data, header.format):
        raise _truncated()
    try:
        with _open(data, header.format) as image:
            return _decode(image, data, header.format, plan)
    except MediaError:
        raise
    except MemoryError as error:
        raise _out_of_memory() from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(
            "the picture has more pixels than allowed", code="too_many_pixels"
        ) from error
    except Exception as error:  # decoders raise almost anything on hostile bytes
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            raise _out_of_memory() from error
        said = str(error).lower()
        if is_cut_off(data, header.format) or "truncated" in said or "expecting to read" in said:
            raise _truncated() from error
        raise MediaError(f"the {header.format} picture is damaged ({error})") from error


def _truncated() -> MediaError:
    return MediaError("the picture is cut off before its end", code="truncated")


def _out_of_memory() -> MediaError:
    return MediaError("the picture needs more memory than allowed", code="decode_memory")


def _check_pixels(width: int, height: int, plan: DecodePlan) -> None:
    if width * height > plan.max_pixels:
        raise MediaError(
            f"the picture is {width} x {height} pixels; at most {plan.max_pixels} are allowed",
            code="too_many_pixels",
        )
    if width < 1 or height < 1:
        raise MediaError("the picture has no pixels")


def _open(data: bytes, fmt: str) -> ImageFile.ImageFile:
    """The one decoder of that format: no other gets to guess. Imported when first needed."""
    stream = io.BytesIO(data)
    if fmt == "heic":
        from pi_heif.as_plugin import HeifImageFile

        opened: ImageFile.ImageFile = HeifImageFile(stream)
        return opened
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    openers: dict[str, type[ImageFile.ImageFile]] = {
        "jpeg": JpegImagePlugin.JpegImageFile,
        "png": PngImagePlugin.PngImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
        "gif": GifImagePlugin.GifImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
        "tiff": TiffImagePlugin.TiffImageFile,
        "avif": AvifImagePlugin.AvifImageFile,
    }
    return openers[fmt](stream)


def _decode(image: ImageFile.ImageFile, data: bytes, fmt: str, plan: DecodePlan) -> DecodedImage:
    width, height = image.size
    _check_pixels(width, height, plan)
    total = int(getattr(image, "n_frames", 1))
    _check_animation(total, width, height, plan)
    wanted = sample_frames(total, plan.frames) if total > 1 else (0,)
    if fmt == "jpeg":
        shrink = _jpeg_shrink(width, height, plan)
        image.draft(image.mode, (width // shrink, height // shrink))

    views: list[View] = []
    pixels: dict[InputKey, list[Pixels]] = {key: [] for key in plan.keys}
    shown, decoded = (width, height), 0
    pdq: tuple[str, int] | None = None
    try:
        for frame in _frames(image, fmt, wanted, plan):
            over = _backgrounds(frame)
            if pdq is None:
                pdq = pdq_hash(over[-1][1])
                shown = (height, width) if frame.swapped else (width, height)
            _add_views(frame, over, plan.max_views // len(wanted), views, pixels)
            decoded += 1
    except (MediaError, MemoryError):
        raise
    except Exception:
        if decoded == 0 or is_cut_off(data, fmt):
            raise
    info = MediaInfo(
        format=fmt,
        width=shown[0],
        height=shown[1],
        frames_total=total,
        frames_decoded=decoded,
        size_bytes=len(data),
        trailing_bytes=trailing_bytes(data, fmt),
        pdq=pdq[0] if pdq else None,
        pdq_quality=pdq[1] if pdq else None,
        frames_failed=len(wanted) - decoded,
    )
    return DecodedImage(info, tuple(views), {key: np.stack(pixels[key]) for key in plan.keys})


def _check_animation(total: int, width: int, height: int, plan: DecodePlan) -> None:
    if total > ANIMATION_FRAMES:
        raise MediaError(
            f"the picture has {total} frames; at most {ANIMATION_FRAMES} are allowed",
            code="too_many_frames",
        )
    if total * width * height > ANIMATION_PIXELS * plan.max_pixels:
        raise MediaError(
            f"the picture has {total} frames of {width} x {height} pixels, together more than "
            f"the {ANIMATION_PIXELS * plan.max_pixels} allowed",
            code="too_many_pixels",
        )


def _jpeg_shrink(width: int, height: int, plan: DecodePlan) -> int:
    """1, 2, 4 or 8: how much smaller the JPEG decoder may make the picture while it decodes.

    At least twice the largest wanted side stays, also in the tiles of a long picture (their
    side is the short side), so that what follows still averages and the scores do not move.
    """
    wanted = 2 * max(max(key.width, key.height) for key in plan.keys)
    return max((s for s in (2, 4, 8) if min(width, height) // s >= wanted), default=1)


def _frames(
    image: ImageFile.ImageFile, fmt: str, wanted: tuple[int, ...], plan: DecodePlan
) -> Iterator[_Frame]:
    """The wanted frames, decoded, in rising order, with their time from the start."""
    profile = image.info.get("icc_profile")
    # GIF and APNG tell only how long each frame lasts: all of them are passed on the way.
    steps = range(wanted[-1] + 1) if fmt in ("gif", "png") else wanted
    elapsed_ms, orientation = 0.0, 0
    for index in steps:
        if index > 0 or fmt == "heic":
            image.seek(index)
        duration = float(image.info.get("duration") or 0)
        if index in wanted:
            _check_pixels(*image.size, plan)
            stored = image.size
            image.load()
            orientation = orientation or _orientation(image)
            rgb, alpha = to_srgb(image, profile)
            time_ms = float(image.info.get("timestamp", elapsed_ms))
            yield _Frame(
                index=index,
                time_s=time_ms / 1000,
                rgb=upright(rgb, orientation),
                alpha=None if alpha is None else upright(alpha, orientation),
                swapped=orientation >= 5 or image.size != stored,
            )
        elapsed_ms += duration


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a damaged EXIF block does not make the picture unusable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _backgrounds(frame: _Frame) -> list[tuple[Background, Pixels]]:
    if frame.alpha is None:
        return [("opaque", frame.rgb)]
    return [
        ("black", composite(frame.rgb, frame.alpha, 0)),
        ("white", composite(frame.rgb, frame.alpha, 255)),
    ]


def _add_views(
    frame: _Frame,
    over: list[tuple[Background, Pixels]],
    limit: int,
    views: list[View],
    pixels: dict[InputKey, list[Pixels]],
) -> None:
    height, width = frame.rgb.shape[:2]
    for background, rgb in over:
        for rect in rectangles(width, height, limit // len(over)):
            left, top, right, bottom = rect
            box = (left / width, top / height, right / width, bottom / height)
            views.append(View(frame.index, frame.time_s, box, background))
            for key, made in pixels.items():
                made.append(resize(rgb, rect, key))
