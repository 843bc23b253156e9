"""Where windows of a film are read, and whose a label is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.aggregate import Frame
from moderation.clips import Motion, Seen, judged, look_on, without
from moderation.film import Film
from moderation.policy import Policy, Rule
from moderation.types import InputKey, LabelScore, Window
from moderation.video.dedupe import FrameHash
from moderation.video.index import FrameIndex
from moderation.video.sampling import MAX_FRAMES, cut_windows
from tests.fakes.reels import Reel

FIGHT, GORE = "violence.fight", "violence.gore"
WINDOW = Window(InputKey(8, 8), frames=16, rate=12.0, every_s=3.0)
WINDOWS = {WINDOW: {FIGHT: "clip@1"}}
POLICY = Policy(id="p", version=1, rules=(Rule(label=FIGHT, review_at=0.5),))


def pdq(what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def looked(
    pictures: Sequence[object],
    *,
    step: float = 1.0,
    quality: int = 100,
    every: int = 4,
    labels: Sequence[str] = (FIGHT, GORE),
) -> Seen:
    """A moment a step; equal pictures look alike, and None was not seen. every: so many moments
    after the last one, an alike one is scored all the same."""
    seen = Seen()
    frames, hashes = [], []
    kept: tuple[object, int] | None = None
    for i, picture in enumerate(pictures):
        time_s = i * step
        if picture is None:
            frames.append(Frame(time_s, None))
            continue
        shared = kept is not None and kept[0] == picture and i - kept[1] < every
        if not shared:
            kept = (picture, i)
            hashes.append(FrameHash(time_s, pdq(picture), quality))
        peaks = {label: LabelScore(label, 0.9, "heads@1") for label in labels}
        frames.append(Frame(time_s, peaks, time_s, shared))
    seen.add(0, None, frames, hashes)
    return seen


def index(length_s: float, fps: float = 24.0) -> FrameIndex:
    numbers = np.arange(round(length_s * fps))
    return FrameIndex(numbers / fps, numbers % 48 == 0, length_s)


def film(length_s: float = 60.0) -> Film:
    return Film(Reel(length_s).info, 2.0, capped=False)


def starts(seen: Seen, window: Window = WINDOW) -> list[float]:
    return list(Motion.of(seen).begin(window))


# --- where ------------------------------------------------------------------------------


def test_moving_pictures_have_a_window_every_so_often() -> None:
    begun = starts(looked(range(31)))
    assert begun[0] == 0
    assert {b - a for a, b in pairwise(begun)} == {3.0}
    assert starts(looked(range(30)))[-1] == 29, "the end of the film belongs to one"


@pytest.mark.parametrize("quality", [100, 50])
def test_what_stands_still_has_none_however_often_it_is_scored(quality: int) -> None:
    assert starts(looked(["slide"] * 30, quality=quality)) == []
    assert starts(looked(["slide"] * 30, every=1, quality=quality)) == []
    assert starts(looked([i // 5 for i in range(30)], quality=quality)) == [], "cuts alone"


def test_plain_pictures_may_be_night_and_count_as_moving() -> None:
    assert len(starts(looked(["black"] * 30, every=1, quality=10))) == 11


def test_a_part_that_moves_has_windows_from_the_moment_before_it() -> None:
    begun = starts(looked([*["a"] * 10, *range(5), *["b"] * 10]))
    assert begun == [9, 12]


def test_what_was_not_seen_begins_no_window() -> None:
    begun = starts(looked([None, 1, None, None, None, 5, None, "a", "a", "a"]))
    assert begun == [1, 5]


def test_windows_are_as_few_as_moments() -> None:
    assert starts(looked(range(6), step=10.0)) == [0, 10, 20, 30, 40, 50]


def test_late_frames_that_stand_for_two_moments_do_not_look_like_a_slide() -> None:
    seen = looked(range(9))
    again = [Frame(f.time_s + 0.25, f.peaks, f.shown_s, shared=True) for f in seen.first if f.peaks]
    seen.add(0, None, again, ())
    assert starts(seen) == [0, 3, 6, 8]


@given(
    cells=st.lists(st.sampled_from(["a", "b", "moves", None]), min_size=1, max_size=60),
    every_s=st.floats(0.5, 9),
    step=st.floats(0.3, 6),
)
def test_every_moving_moment_has_a_window_near_it(
    cells: list[str | None], every_s: float, step: float
) -> None:
    pictures = [f"{i}" if cell == "moves" else cell for i, cell in enumerate(cells)]
    seen = looked(pictures, step=step)
    window = Window(WINDOW.key, 16, 12.0, every_s)
    motion = Motion.of(seen)
    begun = motion.begin(window)
    assert set(begun) <= {f.time_s for f in seen.first if f.peaks is not None}
    for time_s, moving in zip(motion.times, motion.moving, strict=True):
        assert motion.moves(time_s) is moving
        if moving:
            assert min(abs(time_s - start_s) for start_s in begun) <= max(every_s, step) + 1e-9


# --- chunks -----------------------------------------------------------------------------


@given(
    begun=st.lists(st.floats(0, 120), max_size=40),
    frames=st.integers(2, 64),
    rate=st.floats(1, 30),
    length_s=st.floats(0.1, 100),
)
def test_every_window_is_whole_and_in_one_chunk(
    begun: list[float], frames: int, rate: float, length_s: float
) -> None:
    window = Window(WINDOW.key, frames, rate, 3.0)
    frame_index = index(max(0.1, length_s))
    chunks = cut_windows(begun, window, frame_index, first=7)
    latest_s = max(0.0, frame_index.end_s - window.span_s)
    wanted = sorted({min(start_s, latest_s) for start_s in begun})
    found = []
    for number, chunk in enumerate(chunks, 7):
        assert (chunk.number, chunk.window, chunk.exact) == (number, window, True)
        assert 0 < len(chunk.asks) <= MAX_FRAMES
        assert len(chunk.asks) % frames == 0
        assert len(window.middles(chunk.asks)) == len(chunk.asks) // frames
        assert chunk.seek_s == frame_index.seek_to(min(own_s for _, own_s in chunk.asks))
        for at in range(0, len(chunk.asks), frames):
            part = chunk.asks[at : at + frames]
            found.append(part[0][0])
            assert [time_s for time_s, _ in part] == [part[0][0] + i / rate for i in range(frames)]
            assert [own_s for _, own_s in part] == [frame_index.shown_at(t) for t, _ in part]
    assert found == wanted


def test_windows_that_lie_far_apart_are_read_apart() -> None:
    chunks = cut_windows([0, 3, 6, 9, 12, 30, 33], WINDOW, index(60), first=0)
    assert [len(chunk.asks) // WINDOW.frames for chunk in chunks] == [4, 1, 2]
    seldom = replace(WINDOW, every_s=25.0)
    chunks = cut_windows([0, 25, 50, 75], seldom, index(90), first=0)
    assert [chunk.end_s - chunk.start_s < 60 for chunk in chunks] == [True, True]


# --- rounds -----------------------------------------------------------------------------


def clip_frames(seen: Seen, *scored: tuple[float, float | None]) -> None:
    frames = [
        Frame(t, None if score is None else {FIGHT: LabelScore(FIGHT, score, "clip@1")})
        for t, score in scored
    ]
    seen.add(1, WINDOW, frames, ())


def test_windows_come_after_the_first_round_and_closer_ones_after_that() -> None:
    seen, numbers = looked(range(61)), index(61)
    parts = look_on(seen, POLICY, film(), numbers, WINDOWS, rounds=1, first=2)
    assert [part.number for part in parts] == list(range(2, 2 + len(parts)))
    assert {part.window for part in parts} == {WINDOW}, "single frames have no say in its label"
    middles = [t for part in parts for t, _ in WINDOW.middles(part.asks)]
    clip_frames(seen, *((t, 0.9 if 20 < t < 32 else 0.1) for t in middles))
    for rounds in range(2, 6):
        known = sorted(frame.time_s for frame in seen.clips[WINDOW])
        parts = look_on(seen, POLICY, film(), numbers, WINDOWS, rounds=rounds, first=9)
        more = [t for part in parts for t, _ in WINDOW.middles(part.asks)]
        assert all(min(abs(t - edge) for edge in (20, 32)) < 3.1 for t in more)
        assert not set(more) & set(known)
        clip_frames(seen, *((t, 0.9 if 20 < t < 32 else 0.1) for t in more))
    assert parts == ()
    hits = [f.time_s for f in seen.clips[WINDOW] if f.peaks and f.peaks[FIGHT].score > 0.5]
    assert min(hits) == pytest.approx(20, abs=WINDOW.span_s / 2)
    assert max(hits) == pytest.approx(32, abs=WINDOW.span_s / 2)


def test_without_clip_models_there_are_the_same_rounds_and_frames() -> None:
    seen = looked(range(61))
    assert look_on(seen, POLICY, film(), index(61), {}, rounds=1, first=2) == ()
    assert judged(seen, {}, film()) == tuple(seen.first)


# --- whose ------------------------------------------------------------------------------


def test_each_label_has_one_source_at_each_moment() -> None:
    seen = looked([*["slide"] * 5, *range(5), *["end"] * 5])
    clip_frames(seen, (5.2, 0.3), (8.2, None))
    seen.add(2, None, [Frame(7.5, seen.first[0].peaks), Frame(2.5, seen.first[0].peaks)], ())
    told = {frame.time_s: frame.peaks for frame in judged(seen, WINDOWS, film())}
    for time_s, peaks in told.items():
        if time_s == 5.2:
            assert peaks is not None
            assert (set(peaks), peaks[FIGHT].model) == ({FIGHT}, "clip@1")
        elif time_s == 8.2:
            assert peaks is None
        elif 5 <= time_s < 10:
            assert peaks is not None
            assert set(peaks) == {GORE}, time_s
        else:
            assert peaks is not None
            assert (set(peaks), peaks[FIGHT].model) == ({FIGHT, GORE}, "heads@1")


def test_a_still_picture_does_not_show_what_takes_a_movement() -> None:
    seen = looked(["slide"] * 9, labels=[GORE])
    assert {frame.peaks[FIGHT] for frame in judged(seen, WINDOWS, film()) if frame.peaks} == {
        LabelScore(FIGHT, 0.0, "clip@1")
    }


def test_windows_that_could_not_be_read_were_not_seen() -> None:
    told = judged(looked(range(9)), WINDOWS, film())
    unseen = [frame.time_s - WINDOW.span_s / 2 for frame in told if frame.peaks is None]
    assert unseen == pytest.approx([0, 3, 6, 8])


def test_in_a_film_of_a_frame_a_second_nothing_moves() -> None:
    slow = Film(replace(Reel(60.0).info, frames=60), 2.0, capped=False)
    seen = looked(range(60))
    assert look_on(seen, POLICY, slow, index(60, 1.0), WINDOWS, rounds=1, first=0) == ()
    assert all(f.peaks and f.peaks[FIGHT].score == 0.9 for f in judged(seen, WINDOWS, slow))


def test_before_windows_are_read_their_labels_stop_nothing() -> None:
    seen = looked([0, None, 1])
    assert [f.peaks and set(f.peaks) for f in without(seen.first, WINDOWS)] == [
        {GORE},
        None,
        {GORE},
    ]
    assert without(seen.first, {}) == tuple(seen.first)
