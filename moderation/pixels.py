"""Pixel work on one frame: to sRGB, alpha, rotation, resizing. Pure functions on arrays.

Arrays are (height, width, 3) uint8 RGB unless said otherwise.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from moderation.types import InputKey
from moderation.views import Rect

Pixels = NDArray[np.uint8]

_BAND_BYTES = 8 * 1024 * 1024
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Pixels, Pixels | None]:
    """The pixels of a loaded picture in sRGB, and its alpha (height, width), uint8.

    Alpha is None where every pixel is opaque. 16-bit samples become 8-bit by rounding,
    32-bit and float samples are scaled from their own range. A profile that cannot be read
    or does not fit the picture is ignored, as browsers do.
    """
    alpha: Pixels | None = None
    if image.mode.startswith("I") or image.mode == "F":
        samples, alpha = _deep_samples(image)
        image = Image.fromarray(samples)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if alpha is not None and int(alpha.min()) == 255:
        alpha = None
    return _array(_colour_managed(image, profile)), alpha


def _deep_samples(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    samples = np.asarray(image)
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        finite = samples[np.isfinite(samples)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if low >= 0:  # a usual range where the samples fit one: 0..1, 8 or 16 bits
            ceilings = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
            low, high = 0.0, next((c for c in ceilings if high <= c), high)
    scale = 255.0 / max(high - low, 1e-12)
    values = (np.nan_to_num(samples.astype(np.float32)) - low) * scale
    return np.clip(np.rint(values), 0, 255).astype(np.uint8), alpha


def _colour_managed(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        return _lab_transform().apply(image)
    if profile:
        space, transform = _transform(profile)
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
        fits = (mode == "CMYK") == (image.mode == "CMYK")
        grey = image.mode in ("1", "L", "LA", "La")
        if transform is not None and mode is not None and fits and (mode != "L" or grey):
            return transform.apply(image if image.mode == mode else image.convert(mode))
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Colour space of an ICC profile and its way to sRGB; None where nothing is to do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
        if mode is None:
            return space, None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "", None
    if mode == "RGB":
        # Most profiles are sRGB under some name: tell by what they do to a cube of colours.
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
        moved = np.asarray(transform.apply(Image.fromarray(cube))).astype(np.int16)
        if int(np.abs(moved - cube).max()) <= 2:
            return space, None
    return space, transform


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _array(image: Image.Image) -> Pixels:
    """As np.asarray, band by band: asarray holds large pictures three times in memory."""
    width, height = image.size
    rows = max(1, _BAND_BYTES // (3 * width))
    if rows >= height:
        return np.asarray(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation 1..8 (others: as it is) to (height, width[, channels])."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def composite(rgb: Pixels, alpha: Pixels, background: int) -> Pixels:
    """The picture over a grey level 0..255: round(rgb * alpha + background * (1 - alpha))."""
    over = np.empty_like(rgb)
    height, width = alpha.shape
    rows = max(1, _BAND_BYTES // (6 * max(1, width)))
    for top in range(0, height, rows):  # in bands: 16-bit copies of all of it are large
        band = slice(top, top + rows)
        weight = alpha[band, :, None].astype(np.uint16)
        mixed: NDArray[np.uint16] = rgb[band] * weight + background * (255 - weight)
        over[band] = (mixed + 127) // 255
    return over


def resize(pixels: Pixels, rect: Rect, key: InputKey) -> Pixels:
    """Stretch a rectangle of the picture to key.width x key.height.

    "area": each result pixel is the mean over the exact area it covers, with fractional
    weights at the edges (cv2.INTER_AREA), along each side that shrinks; along a side that
    grows, linear between pixel centres, edges repeated (cv2.INTER_LINEAR).
    "bilinear", "bicubic" (a = -0.5): Pillow's convolution, whose support widens by the
    shrinking factor, so that it is antialiased; weights are normalised at the borders.
    The two directions are computed one after the other, rounded and clipped to uint8 each.
    """
    left, top, right, bottom = rect
    region: NDArray[Any] = pixels[top:bottom, left:right]
    if key.interpolation != "area":
        stretched = Image.fromarray(region).resize(
            (key.width, key.height), _PILLOW[key.interpolation]
        )
        return np.asarray(stretched)
    height, width = region.shape[:2]
    # First the sides that shrink: cv2 gives the area mean only when no side grows.
    smaller = (min(width, key.width), min(height, key.height))
    if smaller != (width, height):
        region = cv2.resize(region, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (key.width, key.height):
        region = cv2.resize(region, (key.width, key.height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(region)
