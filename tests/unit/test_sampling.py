"""Which moments of a video are looked at: spread, bounds, borders, chunks."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.video.index import FrameIndex
from moderation.video.sampling import (
    SamplingOptions,
    cut,
    default_interval_s,
    plan,
    refine,
)

durations = st.floats(0.01, 40_000)
rates = st.one_of(st.none(), st.floats(0.2, 240))
marks = st.lists(st.floats(-10, 50_000), max_size=60)
options = st.builds(
    SamplingOptions,
    mode=st.sampled_from(["interval", "keyframe", "scene", "fps"]),
    interval_s=st.one_of(st.none(), st.floats(0.05, 100)),
    rate=st.floats(0.1, 100),
    max_gap_s=st.floats(0.5, 60),
    max_frames=st.integers(2, 500),
    seed=st.text(max_size=8),
)


def frame_at(time_s: float, fps: float) -> int:
    return math.floor(time_s * fps)


@given(durations, rates, options, marks)
def test_moments_lie_inside_from_the_first_frame_to_the_last(
    duration_s: float, fps: float | None, chosen: SamplingOptions, given_marks: list[float]
) -> None:
    made = plan(duration_s, fps, chosen, keyframes=given_marks, scenes=given_marks)
    times = made.times
    frames = max(1, round(duration_s * (fps or 25)))
    assert times[0] == 0
    assert times[-1] < duration_s
    assert all(a < b for a, b in pairwise(times))
    assert len(times) <= min(chosen.max_frames, max(frames, 2))
    # The last moment lies in the last frame.
    assert times[-1] >= duration_s - duration_s / frames
    assert made == plan(duration_s, fps, chosen, keyframes=given_marks, scenes=given_marks)


@given(durations, st.floats(1, 240), options)
def test_a_grid_leaves_no_gap_longer_than_two_steps(
    duration_s: float, fps: float, chosen: SamplingOptions
) -> None:
    chosen = replace(chosen, mode="interval")
    made = plan(duration_s, fps, chosen)
    step = chosen.interval_s or default_interval_s(duration_s)
    if made.capped:
        step = max(step, duration_s / (chosen.max_frames - 1))
    period = duration_s / max(1, round(duration_s * fps))
    assert made.largest_gap_s <= 2 * max(step, period) + period + 1e-6


@given(durations, st.floats(10, 240), options, marks)
def test_marks_leave_no_gap_for_an_uploader_to_choose(
    duration_s: float, fps: float, chosen: SamplingOptions, given_marks: list[float]
) -> None:
    chosen = replace(chosen, mode="keyframe")
    made = plan(duration_s, fps, chosen, keyframes=given_marks)
    period = duration_s / max(1, round(duration_s * fps))
    if not made.capped:
        assert made.largest_gap_s <= chosen.max_gap_s + period + 1e-6
        last = made.times[-1]
        assert {m for m in given_marks if 0 < m < last} <= set(made.times)
    else:
        step = duration_s / (min(chosen.max_frames, max(2, round(duration_s * fps))) - 1)
        assert made.largest_gap_s <= 3.1 * max(step, period) + period


def test_ten_minutes_at_one_frame_a_second() -> None:
    made = plan(600.0, 30.0, SamplingOptions(seed="a"))
    assert 598 <= len(made.times) <= 601
    assert not made.capped
    assert len({frame_at(t, 30) for t in made.times}) == len(made.times)
    # Three seconds anywhere are looked at twice or more.
    for start in (i / 10 for i in range(5970)):
        assert sum(start <= t <= start + 3 for t in made.times) >= 2, start


def test_moments_keep_no_common_phase() -> None:
    """Flashes at the pace of the grid are met somewhere, whatever their phase and the seed."""
    for seed in map(str, range(20)):
        times = plan(600.0, 30.0, SamplingOptions(seed=seed)).times
        for phase in (i / 20 for i in range(20)):
            assert sum((t - phase) % 1 < 0.3 for t in times) > 20, (seed, phase)


def test_the_first_and_the_last_frame_are_asked_for_once() -> None:
    """Or one odd frame at an end would count as two."""
    for seed in map(str, range(200)):
        times = plan(20.0, 5.0, SamplingOptions(interval_s=0.4, seed=seed)).times
        shown = [frame_at(t, 5.0) for t in times]
        assert shown.count(0) == shown.count(99) == 1, seed


def test_the_seed_moves_every_moment_but_the_ends() -> None:
    one, other = (plan(60.0, 30.0, SamplingOptions(seed=seed)).times for seed in ("a", "b"))
    assert set(one) & set(other) == {one[0], one[-1]}


def test_places_are_the_same_on_every_machine() -> None:
    """A stored plan has to be made again after an upgrade."""
    made = plan(5.0, 10.0, SamplingOptions(seed="film")).times
    assert [round(t, 6) for t in made] == [0.0, 0.812023, 1.420412, 2.328787, 3.197853, 4.95]


@pytest.mark.parametrize("fps", [10.0, 29.97, 100.0])
def test_as_many_moments_as_frames_show_every_frame_once(fps: float) -> None:
    made = plan(3.0, fps, SamplingOptions(mode="fps", rate=1000.0))
    frames = round(3.0 * fps)
    period = 3.0 / frames
    assert [math.floor(t / period) for t in made.times] == list(range(frames))
    assert not made.capped


@pytest.mark.parametrize("duration_s", [0.01, 0.04, 0.05])
def test_one_frame_is_one_moment(duration_s: float) -> None:
    assert plan(duration_s, 25.0, SamplingOptions()).times == (0.0,)


def test_the_interval_grows_with_the_film() -> None:
    assert default_interval_s(5) == default_interval_s(1800) == 1
    assert default_interval_s(3600) == 2
    assert default_interval_s(9000) == default_interval_s(90_000) == 5


def test_the_cap_spreads_evenly() -> None:
    made = plan(3600.0, 25.0, SamplingOptions(interval_s=1, max_frames=100))
    assert made.capped
    assert len(made.times) == 100
    steps = [b - a for a, b in pairwise(made.times)]
    assert max(steps) < 2 * 3600 / 99


def test_a_cap_of_two_is_both_ends() -> None:
    assert plan(10.0, 10.0, SamplingOptions(max_frames=2)).times == (0.0, pytest.approx(9.95))


def test_capped_keyframes_stay_keyframes() -> None:
    keyframes = [i * 0.5 for i in range(1200)]
    options = SamplingOptions(mode="keyframe", max_frames=50)
    made = plan(600.0, 30.0, options, keyframes=keyframes)
    assert made.capped
    assert set(made.times[:-1]) <= set(keyframes)


def test_every_scene_shows_itself() -> None:
    cuts = [3.0, 4.0, 20.0, 21.5]
    made = plan(30.0, 25.0, SamplingOptions(mode="scene", max_gap_s=30), scenes=cuts)
    for start, end in pairwise([0.0, *cuts, 30.0]):
        inside = [t for t in made.times if start < t < end]
        assert any(start + (end - start) / 5 <= t <= end - (end - start) / 5 for t in inside)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval_s": 0.0},
        {"rate": -1.0},
        {"max_gap_s": math.nan},
        {"interval_s": math.inf},
        {"max_frames": 1},
    ],
)
def test_options_that_cannot_be_meant(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SamplingOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_that_is_none(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        plan(duration_s, 25.0, SamplingOptions())


@pytest.mark.parametrize("mode", ["keyframe", "scene"])
def test_marks_that_are_missing(mode: str) -> None:
    with pytest.raises(ValueError, match=f"times of the {mode}s"):
        plan(10.0, 25.0, SamplingOptions(mode=mode))  # type: ignore[arg-type]


# --- refine -----------------------------------------------------------------------------


def shows(time_s: float, segments: dict[str, tuple[float, float]]) -> AbstractSet[str]:
    return {label for label, (start, end) in segments.items() if start <= time_s <= end}


@given(
    start=st.floats(0, 100),
    length=st.floats(2.5, 30),
    other=st.floats(0, 100),
    tolerance_s=st.floats(0.05, 1),
    parts=st.integers(2, 9),
    seed=st.text(max_size=4),
)
def test_borders_are_found_to_the_tolerance(
    start: float, length: float, other: float, tolerance_s: float, parts: int, seed: str
) -> None:
    truth = {"a": (start, start + length), "b": (other, other + 3)}
    times = plan(140.0, 25.0, SamplingOptions(interval_s=1, seed=seed)).times
    rounds = 0
    while extra := refine(
        times, [shows(t, truth) for t in times], tolerance_s=tolerance_s, parts=parts
    ):
        assert not set(extra) & set(times)
        times = tuple(sorted({*times, *extra}))
        rounds += 1
    assert rounds <= math.ceil(math.log(2.1 / tolerance_s, parts)) + 1
    for label, (begins, ends) in truth.items():
        found = [t for t in times if label in shows(t, truth)]
        assert begins <= found[0] <= begins + tolerance_s or found[0] == 0
        assert ends - tolerance_s <= found[-1] <= ends


def test_where_nothing_changes_nothing_is_asked_for() -> None:
    assert refine([0, 1, 2], [set(), set(), set()], tolerance_s=0.1) == ()
    assert refine([0, 1, 2], [{"a"}, {"a"}, {"a"}], tolerance_s=0.1) == ()
    assert refine([], [], tolerance_s=0.1) == ()


def test_one_label_that_follows_another_has_a_border() -> None:
    assert refine([0.0, 1.0], [{"a"}, {"b"}], tolerance_s=0.1) == (0.5,)


def test_the_widest_gaps_come_first_where_frames_are_short() -> None:
    flicker: list[AbstractSet[str]] = [{"a"}, set(), {"a"}, set()]
    assert refine([0, 1, 5, 7], flicker, tolerance_s=0.1, max_extra=2) == (3, 6)


def test_refine_refuses_what_would_not_end() -> None:
    with pytest.raises(ValueError, match="tolerance_s"):
        refine([0, 1], [set(), {"a"}], tolerance_s=0)
    with pytest.raises(ValueError, match="parts"):
        refine([0, 1], [set(), {"a"}], tolerance_s=0.1, parts=9, max_extra=7)


# --- chunks -----------------------------------------------------------------------------


def an_index(duration_s: float, fps: float, gop: int) -> FrameIndex:
    count = max(1, round(duration_s * fps))
    times = np.arange(count) / fps
    return FrameIndex(times, np.arange(count) % gop == 0, count / fps)


@given(
    times=st.lists(st.floats(0, 1_000), min_size=1, max_size=300, unique=True).map(sorted),
    max_frames=st.integers(1, 80),
    max_seconds=st.floats(0, 100),
    gop=st.integers(1, 400),
    first=st.integers(0, 9),
)
def test_chunks_cover_every_moment_once(
    times: list[float], max_frames: int, max_seconds: float, gop: int, first: int
) -> None:
    index = an_index(1_001.0, 10.0, gop)
    limits = {"max_frames": max_frames, "max_seconds": max_seconds}
    parts = cut(times, index, exact=True, first=first, **limits)  # type: ignore[arg-type]
    assert [time_s for part in parts for time_s, _ in part.asks] == times
    assert all(own == index.shown_at(time_s) for part in parts for time_s, own in part.asks)
    assert [part.number for part in parts] == list(range(first, first + len(parts)))
    assert all(1 <= len(part.asks) <= max_frames for part in parts)
    assert all(part.end_s - part.start_s <= max_seconds for part in parts)
    for part in parts:
        # Reading begins at the key frame that the first frame needs, and not before.
        assert part.seek_s == 0 or index.key_before(part.seek_s) == index.key_before(
            part.asks[0][1]
        )


def test_ten_minutes_are_ten_chunks_or_eleven() -> None:
    index = an_index(600.0, 30.0, 250)
    parts = cut(plan(600.0, 30.0, SamplingOptions()).times, index, exact=False)
    assert 10 <= len(parts) <= 11
    # Each begins where a key frame is near: nothing is decoded twice.
    assert all(part.seek_s > part.start_s - 2 for part in parts[1:])


def test_a_chunk_holds_something() -> None:
    with pytest.raises(ValueError, match="at least one"):
        cut([1.0], an_index(10.0, 10.0, 10), exact=True, max_frames=0)
