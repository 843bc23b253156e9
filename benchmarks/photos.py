"""Photographs for load: crops of the pictures that scikit-image and scikit-learn ship.

640 x 480 JPEG at quality 88, each crop different, so that no cache can answer twice.
"""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

from PIL import Image

SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
SKLEARN = ("china.jpg", "flower.jpg")
SIZE = (640, 480)


def photographs(count: int, *, seed: int = 1) -> list[bytes]:
    """`count` distinct JPEG files."""
    import skimage.data
    import sklearn.datasets

    folders = (
        (Path(skimage.data.__file__).parent, SKIMAGE),
        (Path(sklearn.datasets.__file__).parent / "images", SKLEARN),
    )
    pictures = [Image.open(f / n).convert("RGB") for f, names in folders for n in names]
    random = Random(seed)  # noqa: S311 - repeatable crops, no secret
    return [_crop(pictures[i % len(pictures)], random) for i in range(count)]


def _crop(picture: Image.Image, random: Random) -> bytes:
    share = random.uniform(0.7, 1.0)
    width = min(picture.width, picture.height * SIZE[0] / SIZE[1]) * share
    height = width * SIZE[1] / SIZE[0]
    left = random.uniform(0, picture.width - width)
    top = random.uniform(0, picture.height - height)
    resized = picture.resize(
        SIZE, Image.Resampling.LANCZOS, (left, top, left + width, top + height)
    )
    buffer = io.BytesIO()
    resized.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
