"""Newest frames of many streams: who is scored next, what is dropped, when it is a shortage."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.slots import FrameBoard, SlotCounts
from moderation.live.thinning import (
    HIT_S,
    NEW_S,
    RISKY_WEIGHT,
    Shortage,
    ShortageChange,
    ShortageRules,
    Standing,
    Waiting,
    count,
    pick,
    weight,
)

NOW = 1_800_000_000.0
OLD = NOW - 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def simulate(standings: dict[str, Standing], capacity: int, seconds: int) -> dict[str, int]:
    """Every stream offers a frame an interval, and `capacity` are taken a second, in packs of up
    to four; how many of each were scored."""
    clock = Clock()
    clock.now = OLD
    board: FrameBoard[None] = FrameBoard(clock, deadline_s=5.0)
    for stream, standing in standings.items():
        board.add(stream, standing.interval_s, priority=standing.priority)
    for tenth in range(seconds * 10):
        clock.now = NOW + tenth / 10
        for stream, standing in standings.items():
            if tenth % round(standing.interval_s * 10) == 0:
                board.offer(stream, clock.now, None)
            if standing.hit_s is not None:
                board.hit(stream, clock.now)
        if tenth % 10 == 5:
            for _ in range(capacity // 4):
                board.take(4, timeout_s=0)
            board.take(capacity % 4, timeout_s=0)
    return {stream: counts.taken for stream, counts in board.counts().items()}


def test_with_room_for_all_every_frame_is_scored() -> None:
    plain = {f"s{n}": Standing(1.0, OLD) for n in range(8)}
    assert simulate(plain, 8, 60) == dict.fromkeys(plain, 60)


def test_in_a_shortage_all_are_thinned_alike() -> None:
    plain = {f"s{n}": Standing(1.0, OLD) for n in range(10)}
    taken = simulate(plain, 5, 100)
    assert all(49 <= of_one <= 51 for of_one in taken.values())


def test_thinning_keeps_the_ratio_of_the_intervals() -> None:
    mixed = {f"fast{n}": Standing(1.0, OLD) for n in range(4)}
    mixed |= {f"slow{n}": Standing(4.0, OLD) for n in range(8)}
    taken = simulate(mixed, 3, 400)  # 6 a second are wanted
    assert all(190 <= taken[f"fast{n}"] <= 210 for n in range(4))
    assert all(45 <= taken[f"slow{n}"] <= 55 for n in range(8))


@pytest.mark.parametrize("risky", [Standing(1.0, OLD, hit_s=NOW), Standing(1.0, OLD, priority=1)])
def test_risky_streams_keep_a_finer_interval(risky: Standing) -> None:
    streams = {f"s{n}": Standing(1.0, OLD) for n in range(9)} | {"risky": risky}
    taken = simulate(streams, 3, 200)
    plain = [taken[f"s{n}"] for n in range(9)]
    assert max(plain) - min(plain) <= 2
    assert taken["risky"] == pytest.approx(RISKY_WEIGHT * sum(plain) / 9, rel=0.15)


def test_risk_ends() -> None:
    assert weight(Standing(1.0, NOW), NOW + NEW_S - 1) == RISKY_WEIGHT
    assert weight(Standing(1.0, NOW), NOW + NEW_S) == 1.0
    assert weight(Standing(1.0, OLD, hit_s=NOW), NOW + HIT_S - 1) == RISKY_WEIGHT
    assert weight(Standing(1.0, OLD, hit_s=NOW), NOW + HIT_S) == 1.0
    assert weight(Standing(1.0, OLD, priority=9), NOW) == 2 * RISKY_WEIGHT


seconds = st.floats(0, 100)
standings = st.builds(
    Standing,
    interval_s=st.floats(0.1, 10),
    since_s=st.floats(NOW - 100, NOW),
    hit_s=st.one_of(st.none(), st.floats(NOW - 100, NOW)),
    priority=st.integers(0, 9),
    served=st.one_of(st.none(), st.floats(0, 100)),
)
queues = st.lists(st.tuples(seconds, standings), max_size=30).map(
    lambda all_: [Waiting(f"s{n}", NOW - age, one) for n, (age, one) in enumerate(all_)]
)


@given(queues, st.integers(0, 10), st.floats(0, 100), st.data())
def test_a_pick_parts_what_waits(
    queue: list[Waiting], room: int, reached: float, data: st.DataObject
) -> None:
    found = pick(queue, NOW, reached=reached, room=room, deadline_s=20.0)
    names = [one.stream for one in queue]
    taken = [stream for stream, _ in found.taken]
    assert sorted((*taken, *found.late, *found.left)) == sorted(names)
    assert len(found.taken) <= room
    assert not found.left or len(found.taken) == room  # no room is wasted
    age = {one.stream: NOW - one.captured_s for one in queue}
    assert all(age[name] >= 20.0 for name in found.late)
    assert all(age[name] <= 20.0 for name in (*taken, *found.left))
    turns = [turn for _, turn in found.taken]
    assert turns == sorted(turns)
    shuffled = data.draw(st.permutations(queue))
    again = pick(shuffled, NOW, reached=reached, room=room, deadline_s=20.0)
    assert (again.taken, again.left) == (found.taken, found.left)


@given(
    st.lists(st.tuples(st.floats(0.5, 5), st.integers(0, 9)), min_size=2, max_size=12),
    st.integers(1, 3),
)
def test_no_stream_waits_for_ever(streams: list[tuple[float, int]], room: int) -> None:
    clock = Clock()
    board: FrameBoard[None] = FrameBoard(clock, deadline_s=5.0)
    for n, (interval_s, priority) in enumerate(streams):
        board.add(f"s{n}", interval_s, priority=priority)
    # A claim may grow 60 times as fast as another: by weight six, by interval ten.
    for _ in range(60 * len(streams) + 1):
        clock.now += 1.0
        for n in range(len(streams)):
            board.offer(f"s{n}", clock.now, None)
        board.take(room, timeout_s=0)
    assert all(counts.taken > 0 for counts in board.counts().values())


def test_the_newest_frame_replaces_the_one_that_waits() -> None:
    clock = Clock()
    board: FrameBoard[str] = FrameBoard(clock, deadline_s=5.0)
    board.add("s", 1.0)
    assert not board.offer("s", NOW, "first")
    assert board.offer("s", NOW + 1, "second")
    clock.now = NOW + 2
    assert board.age_s() == 1.0
    assert [one.frame for one in board.take(4)] == ["second"]
    assert board.age_s() == 0.0
    assert board.take(4, timeout_s=0) == ()
    assert board.counts() == {"s": SlotCounts(offered=2, taken=1, overtaken=1)}


def test_a_frame_past_its_deadline_is_dropped_and_counted() -> None:
    clock = Clock()
    board: FrameBoard[str] = FrameBoard(clock, deadline_s=5.0)
    board.add("s", 1.0)
    board.offer("s", NOW, "old")
    clock.now = NOW + 5.1
    assert board.take(4) == ()
    assert board.counts()["s"] == SlotCounts(offered=1, late=1)


def test_a_stream_that_was_let_go_takes_and_gives_nothing() -> None:
    board: FrameBoard[str] = FrameBoard(Clock(), deadline_s=5.0)
    board.add("s", 1.0)
    board.offer("s", NOW, "one")
    assert board.remove("s") == SlotCounts(offered=1)
    assert not board.offer("s", NOW + 1, "two")
    assert board.take(4, timeout_s=0) == ()
    with pytest.raises(KeyError):
        board.remove("s")


def test_another_interval_keeps_what_is_known() -> None:
    clock = Clock()
    board: FrameBoard[str] = FrameBoard(clock, deadline_s=5.0)
    board.add("a", 1.0)
    board.add("b", 1.0)
    for stream in ("a", "b"):
        board.offer(stream, NOW, stream)
    assert len(board.take(4)) == 2
    board.add("b", 4.0)
    clock.now = NOW + 2
    for stream in ("b", "a"):
        board.offer(stream, NOW + 2, stream)
    assert [one.stream for one in board.take(1)] == ["a"]


def test_taking_waits_for_a_frame_and_ends_when_told() -> None:
    board: FrameBoard[str] = FrameBoard(Clock(), deadline_s=5.0)
    board.add("s", 1.0)
    found: list[tuple[str, ...]] = []
    begun = threading.Barrier(2)

    def taker() -> None:
        for _ in range(2):
            begun.wait(10)
            found.append(tuple(one.frame for one in board.take(4, timeout_s=10)))

    thread = threading.Thread(target=taker)
    thread.start()
    begun.wait(10)
    board.offer("s", NOW, "one")
    begun.wait(10)
    while thread.is_alive():  # it may not wait yet when it is woken first
        board.wake()
        thread.join(0.01)
    assert found == [("one",), ()]


def test_many_threads_lose_and_double_nothing() -> None:
    clock = Clock()
    board: FrameBoard[tuple[str, int]] = FrameBoard(clock, deadline_s=1e9)
    names = [f"s{n}" for n in range(8)]
    for name in names:
        board.add(name, 1.0)
    taken: list[tuple[str, int]] = []
    over = threading.Event()

    def offers(name: str) -> None:
        for n in range(500):
            board.offer(name, NOW + n, (name, n))

    def takes() -> None:
        while not over.is_set():
            taken.extend(one.frame for one in board.take(3, timeout_s=0.01))

    taker = threading.Thread(target=takes)
    offerers = [threading.Thread(target=offers, args=(name,)) for name in names]
    for thread in (taker, *offerers):
        thread.start()
    for thread in offerers:
        thread.join(30)
    over.set()
    taker.join(30)
    taken.extend(one.frame for one in board.take(100, timeout_s=0))
    for name, counts in board.counts().items():
        own = [n for stream, n in taken if stream == name]
        assert own == sorted(set(own))  # each once, never an older one after a newer one
        assert own[-1] == 499
        assert counts == SlotCounts(offered=500, taken=len(own), overtaken=500 - len(own))


def test_a_shortage_is_told_when_it_begins_and_when_it_is_over() -> None:
    clock = Clock()
    board: FrameBoard[None] = FrameBoard(clock, deadline_s=5.0)
    for n in range(4):
        board.add(f"s{n}", 1.0)

    def seconds(span: int, room: int) -> list[ShortageChange]:
        told: list[ShortageChange] = []
        for _ in range(span):
            clock.now += 1.0
            for n in range(4):
                board.offer(f"s{n}", clock.now, None)
            board.take(room, timeout_s=0)
            told += board.shortage()[1]
        return told

    assert seconds(30, 4) == []
    begun = seconds(60, 2)
    assert [change.short for change in begun] == [True]
    assert board.shortage()[0] == pytest.approx(0.5, abs=0.05)
    assert [change.short for change in seconds(30, 4)] == [False]
    assert board.shortage() == (1.0, ())


def test_models_that_do_not_answer_at_all_are_a_shortage() -> None:
    clock = Clock()
    board: FrameBoard[None] = FrameBoard(clock, deadline_s=5.0)
    board.add("s", 1.0)
    for _ in range(30):
        clock.now += 1.0
        board.offer("s", clock.now, None)
    assert board.shortage() == (0.0, (ShortageChange(True, 0.0),))


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 9), st.integers(0, 9)), max_size=50))
def test_changes_alternate_and_shares_are_shares(steps: list[tuple[float, int, int]]) -> None:
    rules = ShortageRules()
    shortage, now, short = Shortage(NOW), NOW, False
    for passed, scored, dropped in steps:
        now += passed
        shortage, told = count(shortage, now, rules, scored=scored, dropped=dropped)
        assert 0.0 <= shortage.share <= 1.0
        if told is not None:
            assert told.short is not short
            assert told.share < rules.begins if told.short else told.share >= rules.ends
            short = told.short
        assert shortage.short is short
