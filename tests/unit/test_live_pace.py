"""Bursts of frames, and how many of them are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.clock import CaptureClock
from moderation.live.pace import RATE, Pace
from moderation.live.slots import FrameBoard

NOW = 1_800_000_000.0


@given(st.floats(0.1, 60), st.lists(st.floats(0, 120), max_size=20))
def test_frames_keep_their_distance_and_none_waits_without_need(
    interval_s: float, pauses: list[float]
) -> None:
    pace, now = Pace(interval_s), NOW
    went: list[float] = []
    for pause_s in pauses:
        now += pause_s
        wait_s = pace.wait_s(now)
        assert 0 <= wait_s <= interval_s / RATE + 1e-6
        now += wait_s
        if went:
            assert now - went[-1] >= interval_s / RATE - 1e-6
            if wait_s > 0:
                assert now - went[-1] == pytest.approx(interval_s / RATE, abs=1e-6)
        went.append(now)


def scored_share(segment_s: int, answer_s: float, *, seconds: int = 240) -> float:
    """Of the frames of a playlist, one a second, those that a model sees that takes so long for
    each; once the first minute is over. The program hands a frame over every 0.06 s at most, and
    only when the one before has gone on."""
    time_s = NOW
    board: FrameBoard[int] = FrameBoard(lambda: time_s, deadline_s=5.0)
    board.add("s", 1.0)
    clock, pace = CaptureClock(), Pace(1.0)
    offers: list[tuple[float, float, int]] = []
    free_s = NOW
    for number in range(seconds):
        here_s = NOW + (number // segment_s + 1) * segment_s
        arrived_s = max(here_s, free_s + 0.06)
        captured_s = clock.captured(float(number), arrived_s)
        free_s = arrived_s + pace.wait_s(arrived_s)
        offers.append((free_s, captured_s, number))
    seen: set[int] = set()
    model_s = NOW
    while offers or model_s < free_s + 10:
        if offers and offers[0][0] <= model_s:
            time_s, captured_s, number = offers.pop(0)
            board.offer("s", captured_s, number)
            continue
        time_s = model_s
        taken = board.take(1, timeout_s=0)
        seen |= {one.frame for one in taken}
        model_s += answer_s if taken else 0.01
    late = range(60, seconds - segment_s)
    return sum(number in seen for number in late) / len(late)


@pytest.mark.parametrize("segment_s", [1, 2, 4, 6, 10])
@pytest.mark.parametrize("answer_s", [0.1, 0.4])
def test_no_part_of_a_segment_goes_unseen(segment_s: int, answer_s: float) -> None:
    assert scored_share(segment_s, answer_s) == 1.0
