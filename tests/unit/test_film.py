"""The rounds of looking at a film, from its plan on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.film import EXACT_EVERY, Film, begin
from moderation.video.index import FrameIndex
from moderation.video.probe import VideoInfo
from moderation.video.sampling import SamplingOptions


def a_film(seconds: float, fps: float = 25.0) -> tuple[VideoInfo, FrameIndex]:
    count = round(seconds * fps)
    index = FrameIndex(np.arange(count) / fps, np.arange(count) % 250 == 0, seconds)
    info = VideoInfo(
        "mp4", "h264", "yuv420p", 640, 360, 0, seconds, seconds, 0.0, count, ("aac",), 1000
    )
    return info, index


@given(st.floats(1.0, 4000.0), st.text(max_size=4))
def test_a_part_of_every_film_is_read_exactly(seconds: float, seed: str) -> None:
    _, chunks = begin(*a_film(seconds), SamplingOptions(seed=seed))
    exact = [chunk.number for chunk in chunks if chunk.exact]
    assert exact
    assert exact[0] < EXACT_EVERY
    assert all(b - a == EXACT_EVERY for a, b in pairwise(exact))


def test_which_part_depends_on_the_seed() -> None:
    film = a_film(1000.0)
    seen = set()
    for seed in range(50):
        _, chunks = begin(*film, SamplingOptions(seed=str(seed)))
        seen.add(next(chunk.number for chunk in chunks if chunk.exact))
    assert seen == set(range(EXACT_EVERY))


def test_a_film_survives_being_json() -> None:
    film, _ = begin(*a_film(100.0), SamplingOptions(max_frames=20))
    assert film.capped
    assert Film.from_json(film.to_json()) == film


def test_scenes_are_asked_for() -> None:
    with pytest.raises(ValueError, match="needs the times of the scenes"):
        begin(*a_film(10.0), SamplingOptions(mode="scene"))
