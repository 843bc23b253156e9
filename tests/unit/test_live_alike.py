"""Which frames of live streams share the scores of an earlier one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moderation.live.alike import FORGOTTEN_S, Alike
from moderation.live_queue import Peaks
from moderation.types import LabelScore
from moderation.video.dedupe import DedupeOptions, FrameHash, distance

OPTIONS = DedupeOptions()
STILL, NEAR, OTHER = f"{0:064x}", f"{0b111:064x}", f"{2**20 - 1:064x}"


def peaks(score: float) -> Peaks:
    return {"a.b": LabelScore("a.b", score, "m@1")}


def frame(at_s: float, pdq: str = STILL, quality: int = 100) -> FrameHash:
    return FrameHash(at_s, pdq, quality)


def test_a_still_is_looked_at_anew_every_few_seconds() -> None:
    alike = Alike(OPTIONS)
    own = []
    for second in range(12):
        if alike.shared("s", frame(100.0 + second)) is None:
            own.append(second)
            alike.scored("s", 100.0 + second, peaks(second / 100))
    assert own == [0, 4, 8]
    assert alike.shared("s", frame(111.5, NEAR)) == peaks(0.08)


def test_what_is_not_back_is_not_shared() -> None:
    alike = Alike(OPTIONS)
    assert alike.shared("s", frame(1)) is None
    assert alike.shared("s", frame(2)) is None  # the first is under way
    alike.scored("s", 1, peaks(0.5))
    assert alike.shared("s", frame(3)) == peaks(0.5)
    # The frame at 2 was sent all the same: it is no source of others.
    alike.scored("s", 2, peaks(0.6))
    assert alike.shared("s", frame(4)) == peaks(0.5)


def test_other_pictures_other_streams_and_plain_ones_are_scored() -> None:
    alike = Alike(OPTIONS)
    alike.shared("s", frame(1))
    alike.scored("s", 1, peaks(0.5))
    assert alike.shared("t", frame(2)) is None
    assert alike.shared("s", frame(2, OTHER)) is None
    alike.scored("s", 2, peaks(0.6))
    assert alike.shared("s", frame(2.5, OTHER, quality=OPTIONS.min_quality - 1)) is None


def test_a_stream_that_jumps_back_or_was_away_begins_anew() -> None:
    alike = Alike(OPTIONS)
    for at_s in (1000.0, 990.0, 990.0, 990.0 + FORGOTTEN_S + 1):
        assert alike.shared("s", frame(at_s)) is None
        alike.scored("s", at_s, peaks(0.5))
    alike.scored("unknown", 1.0, peaks(0.5))
    assert alike.shared("unknown", frame(2.0)) is None


@given(
    st.lists(
        st.tuples(st.floats(0.05, 3), st.sampled_from([STILL, NEAR, OTHER]), st.integers(0, 100)),
        max_size=40,
    ),
    st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_scores_are_shared_by_frames_that_look_alike_and_are_near(
    steps: list[tuple[float, str, int]], back: list[bool]
) -> None:
    alike, at_s = Alike(OPTIONS), 0.0
    owners: dict[str, FrameHash] = {}
    for number, ((step, pdq, quality), scored) in enumerate(zip(steps, back, strict=False)):
        at_s += step
        mine = frame(at_s, pdq, quality)
        found = alike.shared("s", mine)
        if found is not None:
            (of,) = found
            owner = owners[of]
            assert distance(owner.pdq, pdq) <= OPTIONS.max_distance
            assert at_s - owner.time_s < OPTIONS.force_s
            assert min(owner.quality, quality) >= OPTIONS.min_quality
        elif scored:
            name = f"frame {number}"
            owners[name] = mine
            alike.scored("s", at_s, {name: LabelScore(name, 0.5, "m@1")})
