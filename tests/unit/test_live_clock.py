"""Capture times from arrivals and time stamps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.clock import JUMP_S, STEP_S, CaptureClock, was_set

NOW = 1_800_000_000.0


@pytest.mark.parametrize(("off_s", "told"), [(0.0, False), (1.9, False), (2.1, True), (-60, True)])
def test_a_clock_that_was_set_is_told(off_s: float, told: bool) -> None:
    assert was_set(NOW, NOW + off_s) is told


def test_even_frames_with_uneven_delays_get_even_times() -> None:
    clock = CaptureClock()
    delays = [0.2, 0.9, 0.2, 0.6, 3.0, 2.0, 1.0, 0.2]
    found = [clock.captured(float(at), NOW + at + late) for at, late in enumerate(delays)]
    assert found == pytest.approx([NOW + 0.2 + at for at in range(len(delays))], abs=1e-3, rel=0)


def test_a_burst_is_spread_once_the_first_one_has_come() -> None:
    """A playlist gives six seconds at once, every six seconds."""
    clock = CaptureClock()
    found = [clock.captured(float(at), NOW + 6.0 * (at // 6 + 1)) for at in range(24)]
    assert found[6:] == pytest.approx([NOW + at + 1 for at in range(6, 24)], abs=1e-3, rel=0)


@pytest.mark.parametrize("jump", [-3600.0, -1.0, 3600.0])
def test_time_stamps_that_jump_begin_a_new_count(jump: float) -> None:
    clock = CaptureClock()
    stamps = [*range(20), *(20 + jump + at for at in range(20))]
    found = [clock.captured(stamp, NOW + at) for at, stamp in enumerate(stamps)]
    assert found == pytest.approx([NOW + at for at in range(40)], abs=1e-3, rel=0)


def test_a_pause_of_the_source_is_no_jump() -> None:
    clock = CaptureClock()
    assert clock.captured(0.0, NOW) == NOW
    assert clock.captured(100.0, NOW + 100.5) == pytest.approx(NOW + 100.0, abs=1e-3, rel=0)


def test_a_clock_that_runs_slow_is_followed() -> None:
    """50 millionths are four seconds a day."""
    clock = CaptureClock()
    for at in range(86_400):
        found = clock.captured(at * (1 - 50e-6), NOW + at)
    assert found == pytest.approx(NOW + 86_399, abs=0.02, rel=0)


def test_a_new_reader_never_goes_behind_the_last_one() -> None:
    clock = CaptureClock(after_s=NOW + 5)
    assert clock.captured(0.0, NOW) == pytest.approx(NOW + 5 + STEP_S, abs=1e-5, rel=0)


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(0, 30)),
        min_size=1,
        max_size=60,
    )
)
def test_times_ascend_and_are_not_later_than_the_arrival(
    frames: list[tuple[float, float]],
) -> None:
    clock = CaptureClock()
    arrival, last = NOW, 0.0
    for number, (stamp, passed) in enumerate(frames, 1):
        arrival += passed
        found = clock.captured(stamp, arrival)
        assert found > last
        assert found <= arrival + number * STEP_S + 1e-6
        last = found


@given(st.lists(st.floats(0, JUMP_S / 2 - 0.01), min_size=2, max_size=60), st.floats(-1e6, 1e6))
def test_it_never_is_further_off_than_the_fastest_frame_s_way(
    delays: list[float], first: float
) -> None:
    clock = CaptureClock()
    arrival = NOW
    for at, late in enumerate(delays):
        arrival = max(arrival, NOW + at + late)  # frames do not overtake each other
        found = clock.captured(first + at, arrival)
        assert NOW + at - 1e-3 <= found <= arrival + (at + 1) * STEP_S
