"""Near-duplicate frames share scores, within bounds."""

from __future__ import annotations

import random
from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from moderation.pdq import pdq_hash
from moderation.video.dedupe import Choice, DedupeOptions, Deduper, FrameHash, distance

OPTIONS = DedupeOptions(max_distance=8, force_s=4.0, min_quality=50)


def pdq(*bits: int) -> str:
    return f"{sum(1 << bit for bit in bits):064x}"


def frames(*hashes: str, step: float = 1.0, quality: int = 90) -> list[FrameHash]:
    return [FrameHash(i * step, value, quality) for i, value in enumerate(hashes)]


def dedupe(film: Iterable[FrameHash], options: DedupeOptions) -> tuple[Choice, ...]:
    deduper = Deduper(options)
    return tuple(deduper.add(frame) for frame in film)


@st.composite
def films(draw: st.DrawFn) -> list[FrameHash]:
    """Hashes that drift by some bits a frame."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    bits, time_s, made = rng.getrandbits(256), 0.0, []
    for _ in range(draw(st.integers(0, 60))):
        for _ in range(rng.choice((0, 1, 3, 9))):
            bits ^= 1 << rng.randrange(256)
        time_s += rng.uniform(0.01, 3)
        made.append(FrameHash(time_s, f"{bits:064x}", rng.choice((20, 50, 100))))
    return made


@given(films(), st.integers(-1, 256), st.floats(0.1, 10), st.integers(0, 100))
def test_what_is_skipped_shares_the_scores_of_a_kept_frame_like_it(
    film: list[FrameHash], max_distance: int, force_s: float, min_quality: int
) -> None:
    options = DedupeOptions(max_distance, force_s, min_quality)
    choices = dedupe(film, options)
    assert [c.time_s for c in choices] == [f.time_s for f in film]
    kept = [c.time_s for c in choices if c.kept]
    at = {f.time_s: f for f in film}
    for choice in choices:
        if not choice.kept:
            source, frame = at[choice.source_s], at[choice.time_s]
            assert choice.source_s == max(t for t in kept if t < choice.time_s)
            assert distance(source.pdq, frame.pdq) <= max_distance
            assert choice.time_s - choice.source_s < force_s
            assert min(source.quality, frame.quality) >= min_quality


@given(films(), st.integers(0, 8), st.integers(0, 60))
def test_only_what_must_be_is_kept(film: list[FrameHash], max_distance: int, low: int) -> None:
    options = DedupeOptions(max_distance, 4.0, low)
    last: FrameHash | None = None
    for frame, choice in zip(film, dedupe(film, options), strict=True):
        if choice.kept:
            assert (
                last is None
                or frame.time_s - last.time_s >= 4.0
                or min(frame.quality, last.quality) < low
                or distance(frame.pdq, last.pdq) > max_distance
            )
            last = frame


@given(films())
def test_a_negative_distance_skips_nothing(film: list[FrameHash]) -> None:
    assert all(c.kept for c in dedupe(film, DedupeOptions(max_distance=-1)))


def test_a_still_picture_is_looked_at_every_k_seconds() -> None:
    choices = dedupe(frames(*[pdq(1, 2)] * 9), OPTIONS)
    assert [c.time_s for c in choices if c.kept] == [0, 4, 8]
    assert choices[5] == Choice(5.0, 4.0)


def test_a_slow_change_adds_up() -> None:
    drift = [pdq(*range(3 * i)) for i in range(4)]
    choices = dedupe(frames(*drift), OPTIONS)
    assert [c.source_s for c in choices] == [0, 0, 0, 3]


def test_the_distance_is_inclusive() -> None:
    near, far = pdq(*range(8)), pdq(*range(9))
    assert [c.kept for c in dedupe(frames(pdq(), near), OPTIONS)] == [True, False]
    assert [c.kept for c in dedupe(frames(pdq(), far), OPTIONS)] == [True, True]


def test_a_plain_picture_is_never_skipped() -> None:
    assert all(c.kept for c in dedupe(frames(*[pdq()] * 3, quality=49), OPTIONS))


def test_times_must_ascend() -> None:
    deduper = Deduper(OPTIONS)
    deduper.add(FrameHash(1.0, pdq(), 90))
    with pytest.raises(ValueError, match="after"):
        deduper.add(FrameHash(1.0, pdq(), 90))


@pytest.mark.parametrize("broken", ["", "0" * 63, "0" * 65, "x" * 64])
def test_a_broken_hash_is_told(broken: str) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal|invalid literal"):
        Deduper(OPTIONS).add(FrameHash(0.0, broken, 90))


def test_distance_counts_bits() -> None:
    assert distance(pdq(), pdq(0, 17, 255)) == 3
    assert distance("f" * 64, "0" * 64) == 256


@pytest.fixture(scope="module")
def photographs() -> list[NDArray[np.uint8]]:
    named = (data.astronaut, data.coffee, data.rocket, data.chelsea)
    return [cv2.resize(one(), (640, 360), interpolation=cv2.INTER_AREA) for one in named]


def test_a_still_camera_costs_one_look(photographs: list[NDArray[np.uint8]]) -> None:
    """Grain and compression differ from frame to frame; the picture does not."""
    grain = np.random.default_rng(0)
    for photograph in photographs:
        noisy = np.clip(photograph + grain.normal(0, 4, photograph.shape), 0, 255)
        _, packed = cv2.imencode(".jpg", noisy.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])
        shown = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
        film = [FrameHash(i, *pdq_hash(p)) for i, p in enumerate((photograph, shown))]
        assert [c.kept for c in dedupe(film, DedupeOptions())] == [True, False]


def test_a_thing_that_enters_is_looked_at(photographs: list[NDArray[np.uint8]]) -> None:
    """A tenth of the picture, anywhere in it."""
    places = random.Random(0)
    for photograph in photographs:
        for other in photographs:
            thing = cv2.resize(other, (202, 114), interpolation=cv2.INTER_AREA)
            if other is photograph:
                continue
            left, top = places.randrange(640 - 202), places.randrange(360 - 114)
            entered = photograph.copy()
            entered[top : top + 114, left : left + 202] = thing
            film = [FrameHash(i, *pdq_hash(p)) for i, p in enumerate((photograph, entered))]
            assert all(c.kept for c in dedupe(film, DedupeOptions()))
