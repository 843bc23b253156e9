"""Alerts of a live stream: one a segment, whatever the reader goes through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.alerts import StreamAlerts
from moderation.policy import Policy, Rule
from moderation.store.live_records import AlertChange
from moderation.types import Decision, LabelScore

NOW = 1_800_000_000.0
PORN = "porn.explicit"
GUN = "violence.weapon"
BOX = (0.1, 0.2, 0.3, 0.4, 0.9)
POLICY = Policy(
    id="test",
    version=1,
    rules=(
        Rule(label=PORN, review_at=0.5, block_at=0.9, min_frames=2, window=3),
        Rule(label=GUN, review_at=0.5, block_at=0.9, block_needs="evidence", evidence_frames=None),
    ),
)


def score(value: float, label: str = PORN, *, box: bool = False) -> dict[str, LabelScore]:
    boxes = (BOX,) if box else ()
    return {label: LabelScore(label, value, "model@1", "pistol" if box else None, boxes=boxes)}


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


def play(
    alerts: StreamAlerts, scores: Sequence[float | None], start: float = 0.0
) -> list[AlertChange]:
    """One frame a second; None: it was dropped."""
    told: list[AlertChange] = []
    for second, value in enumerate(scores):
        peaks = None if value is None else score(value)
        told += alerts.add(NOW + start + second, peaks)
    return told


def kinds(told: Sequence[AlertChange]) -> list[str]:
    return [change.kind for change in told]


def test_a_passage_opens_and_closes_one_alert_with_its_times() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0)
    told = play(alerts, [0.0, 0.7, 0.8, 0.7, 0.0, 0.6, 0.0] + [0.0] * 10)
    assert kinds(told) == ["opened", "closed"]
    opened, closed = told
    assert (opened.label, opened.decision, opened.score) == (PORN, Decision.REVIEW, 0.8)
    assert (opened.start, opened.captured, opened.end) == (at(1), at(2), None)
    assert opened.threshold == 0.5
    assert (closed.start, closed.captured, closed.end) == (at(1), at(2), at(5))
    assert closed.score == 0.8


def test_it_escalates_once() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0)
    told = play(alerts, [0.7, 0.7, 0.95, 0.95, 0.95, 0.7, 0.95] + [0.0] * 10)
    assert kinds(told) == ["opened", "escalated", "closed"]
    assert [change.decision for change in told] == [Decision.REVIEW, Decision.BLOCK, Decision.BLOCK]
    assert told[1].threshold == 0.9
    assert told[1].captured == at(1)  # of the frame that opened it


def test_a_lone_frame_is_no_alert() -> None:
    assert play(StreamAlerts(POLICY, hold_s=5.0), [0.0, 0.7, 0.0, 0.0, 0.7, 0.0, 0.0]) == []


def test_passages_within_the_hold_time_are_one_alert() -> None:
    passage = [0.7, 0.7, 0.0, 0.0]
    told = play(StreamAlerts(POLICY, hold_s=5.0), passage * 5 + [0.0] * 10)
    assert kinds(told) == ["opened", "closed"]
    assert told[1].end == at(17)
    apart = play(StreamAlerts(POLICY, hold_s=2.0), (passage + [0.0] * 3) * 5)
    assert kinds(apart) == ["opened", "closed"] * 5


def test_a_box_is_evidence_and_told() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0)
    assert kinds(alerts.add(NOW, score(0.95, GUN))) == ["opened"]
    told = alerts.add(NOW + 1, score(0.95, GUN, box=True))
    assert kinds(told) == ["escalated"]
    assert (told[0].boxes, told[0].sublabel) == ((BOX,), "pistol")


def test_a_frame_that_was_overtaken_changes_nothing() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0)
    play(alerts, [0.7])
    assert alerts.add(NOW, score(0.7)) == ()
    assert alerts.add(NOW - 1, score(0.7)) == ()
    assert kinds(alerts.add(NOW + 1, score(0.7))) == ["opened"]


def test_a_stream_that_falls_silent_has_its_alert_closed_by_the_clock() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0, bridge_s=30.0)
    play(alerts, [0.7, 0.7, 0.7])
    assert alerts.tick(NOW + 32) == ()
    told = alerts.tick(NOW + 32.1)
    assert kinds(told) == ["closed"]
    assert told[0].end == at(2)
    assert alerts.tick(NOW + 100) == ()


def test_a_reader_that_comes_back_in_time_goes_on_with_the_same_alert() -> None:
    alerts = StreamAlerts(POLICY, hold_s=5.0, bridge_s=30.0)
    assert kinds(play(alerts, [0.7, 0.7])) == ["opened"]
    assert play(alerts, [0.7, 0.7, 0.7], start=25.0) == []
    assert kinds(alerts.finish()) == ["closed"]
    assert alerts.finish() == ()


def test_who_takes_over_raises_no_second_alert() -> None:
    first = StreamAlerts(POLICY, hold_s=5.0)
    assert kinds(play(first, [0.7, 0.95, 0.95])) == ["opened", "escalated"]
    memory = json.loads(json.dumps(first.memory()))
    second = StreamAlerts(POLICY, hold_s=5.0, memory=memory)
    told = play(second, [0.95, 0.95] + [0.0] * 10, start=10.0)
    assert kinds(told) == ["closed"]
    assert (told[0].start, told[0].end) == (at(0), at(11))


def test_who_takes_over_much_later_closes_it() -> None:
    first = StreamAlerts(POLICY, hold_s=5.0)
    play(first, [0.7, 0.7])
    second = StreamAlerts(POLICY, hold_s=5.0, memory=first.memory())
    told = play(second, [0.7, 0.7, 0.7], start=3600.0)
    assert kinds(told) == ["closed", "opened"]
    assert told[1].start == at(3600)


def test_an_alert_whose_label_the_policy_no_longer_names_is_closed() -> None:
    first = StreamAlerts(POLICY, hold_s=5.0)
    play(first, [0.7, 0.7])
    other = Policy(id="test", version=2, rules=POLICY.rules[1:])
    second = StreamAlerts(other, hold_s=5.0, memory=first.memory())
    told = play(second, [0.7] * 6, start=2.0)
    assert kinds(told) == ["closed"]


def test_a_memory_that_cannot_be_read_is_an_error() -> None:
    memory = StreamAlerts(POLICY, hold_s=5.0).memory()
    with pytest.raises(ValueError, match="cannot be restored"):
        StreamAlerts(POLICY, hold_s=5.0, memory={**memory, "version": 2})


grades = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.4, 0.6, 0.9, 1.0]))
moments = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 4.0, 11.0, 45.0]), grades, grades, st.booleans()),
    max_size=60,
)


@given(moments, st.sampled_from([0.0, 3.0, 10.0, 60.0]))
def test_alerts_of_a_label_never_overlap_and_all_are_closed(
    frames: list[tuple[float, float | None, float | None, bool]], hold_s: float
) -> None:
    alerts = StreamAlerts(POLICY, hold_s=hold_s)
    told: list[AlertChange] = []
    now = NOW
    for passed, porn, gun, box in frames:
        now += passed
        told += alerts.tick(now)
        peaks = (score(porn) if porn is not None else {}) | (
            score(gun, GUN, box=box) if gun is not None else {}
        )
        told += alerts.add(now, peaks)
    told += alerts.finish()
    for label in (PORN, GUN):
        own = [change for change in told if change.label == label]
        ended: datetime | None = None
        current: AlertChange | None = None
        for change in own:
            if change.kind == "opened":
                assert current is None
                assert ended is None or change.start > ended
                current = change
                continue
            assert current is not None
            assert (change.start, change.captured) == (current.start, current.captured)
            assert change.score >= current.score
            if change.kind == "escalated":
                assert change.decision.severity > current.decision.severity
                current = change
            else:
                assert change.decision is current.decision
                assert change.end is not None
                assert change.start <= change.captured <= change.end
                ended, current = change.end, None
        assert current is None


@given(moments, st.sets(st.integers(0, 59)))
def test_handing_over_at_any_moment_changes_nothing(
    frames: list[tuple[float, float | None, float | None, bool]], handed: set[int]
) -> None:
    alone = StreamAlerts(POLICY, hold_s=5.0)
    relay = StreamAlerts(POLICY, hold_s=5.0)
    now = NOW
    for number, (passed, porn, gun, box) in enumerate(frames):
        now += passed
        if number in handed:
            memory = json.loads(json.dumps(relay.memory()))
            relay = StreamAlerts(POLICY, hold_s=5.0, memory=memory)
        peaks = (score(porn) if porn is not None else {}) | (
            score(gun, GUN, box=box) if gun is not None else {}
        )
        assert alone.add(now, peaks) == relay.add(now, peaks)
    assert alone.finish() == relay.finish()
