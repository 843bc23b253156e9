"""Frames of live streams -> the scores of each: what `watch` and the infer worker share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ServiceError
from moderation.live_queue import Peaks
from moderation.models.runner import Scorer
from moderation.policy import summarise
from moderation.types import DecodedImage, InputKey, MediaInfo, MediaScores, View


def score_frames(
    scorer: Scorer,
    pixels: Mapping[InputKey, NDArray[np.uint8]],
    rows: Sequence[int],
    floors: Mapping[str, float],
    *,
    deadline: float | None = None,
) -> tuple[Peaks, ...]:
    """The scores of these frames, in order, each by itself. They wait for no film.

    pixels: (frames, height, width, 3) of every key. floors: as of `models.cascade`. deadline:
    `time.monotonic()`. Raises ServiceError (pack_invalid) where a size is missing that the models
    read, and as `Scorer.score`.
    """
    if not set(scorer.keys) <= set(pixels):
        raise ServiceError("live frames were read for other models", code="pack_invalid")
    views = tuple(View(frame=at) for at in range(len(rows)))
    key = scorer.keys[0]
    about = MediaInfo(
        format="live",
        width=key.width,
        height=key.height,
        frames_total=len(views),
        frames_decoded=len(views),
        size_bytes=0,
    )
    chosen = {one: pixels[one][list(rows)] for one in scorer.keys}
    decoded = DecodedImage(about, views, chosen)
    scored = scorer.score(decoded, deadline=deadline, floors=floors)
    return tuple(
        summarise(MediaScores((view,), (one,)))
        for view, one in zip(views, scored.scores, strict=True)
    )
