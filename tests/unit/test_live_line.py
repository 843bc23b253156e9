"""Frames on their way to the models and back: few packs at a time, none waited for too long."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import BrokerError
from moderation.live.line import LATE_S, Scored, ScoreLine, lowest
from moderation.live.reader import LiveFrame
from moderation.live.slots import FrameBoard
from moderation.live_queue import Answer, Ask
from moderation.models.backends.fake import KEY, FakeModels
from moderation.models.runner import Scorer
from moderation.settings import load_settings
from moderation.tasks.live import LiveScoring
from moderation.video.dedupe import FrameHash
from moderation.video.pack import FramePack, dump_pack, load_pack
from tests.fakes.live_line import FakeQueue, live_frame

PORN = "porn.explicit"
RED = (255, 0, 0)
POISON = (1, 250, 1)
DEADLINE_S = 5.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A board with streams a, b, c and a line from it."""

    def __init__(self, *, room: int = 4, ahead: int = 2) -> None:
        self.clock, self.queue = Clock(), FakeQueue()
        self.board: FrameBoard[LiveFrame] = FrameBoard(self.clock, deadline_s=DEADLINE_S)
        for name in "abc":
            self.board.add(name, 1.0)
        self.line = ScoreLine(
            self.board,
            self.queue,
            owner="live-1",
            keys=(KEY,),
            now=self.clock,
            room=room,
            ahead=ahead,
            deadline_s=DEADLINE_S,
            floors=self.floors,
        )

    def floors(self, streams: Collection[str]) -> Mapping[str, float]:
        return {PORN: 0.5 + 0.1 * len(streams)}

    def offer(self, *streams: str, colour: tuple[int, int, int] = (9, 9, 9)) -> None:
        for name in streams:
            self.board.offer(name, self.clock.now_s, live_frame(self.clock.now_s, colour))


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    made = Scorer(FakeModels(delay_s=0.0, poison=POISON), load_settings(backend="fake"))
    yield made
    made.close()


def test_frames_of_many_streams_go_as_one_pack_and_come_back_with_scores(scorer: Scorer) -> None:
    bench = Bench()
    bench.offer("a", "b")
    bench.offer("c", colour=RED)
    assert bench.line.send(0.01) == ()
    ((ask, _),) = bench.queue.asks
    assert ask.floors == {PORN: pytest.approx(0.8)}
    assert ask.wait_s == DEADLINE_S
    assert LiveScoring(bench.queue, scorer).once(0.01)
    back = {one.stream: one for one in bench.line.receive(0.01)}
    found = {name: dict(one.peaks or {})[PORN].score for name, one in back.items()}
    assert found == {
        "a": pytest.approx(9 / 255),
        "b": pytest.approx(9 / 255),
        "c": pytest.approx(1.0),
    }
    assert bench.line.under_way() == 0


def test_a_frame_that_cannot_be_scored_takes_no_other_along(scorer: Scorer) -> None:
    bench = Bench()
    bench.offer("a", colour=RED)
    bench.offer("b", colour=POISON)
    bench.line.send(0.01)
    assert LiveScoring(bench.queue, scorer).once(0.01)
    back = {one.stream: one.peaks for one in bench.line.receive(0.01)}
    assert back["b"] is None
    assert back["a"] is not None


def test_no_more_packs_are_under_way_than_allowed() -> None:
    bench = Bench(room=1, ahead=2)
    bench.offer("a", "b", "c")
    for _ in range(3):
        assert bench.line.send(0.01) == ()
    assert len(bench.queue.asks) == bench.line.under_way() == 2
    assert sum(one.taken for one in bench.board.counts().values()) == 2


def test_an_answer_that_does_not_come_is_given_up_and_makes_room() -> None:
    bench = Bench(room=1, ahead=1)
    bench.offer("a", "b")
    bench.line.send(0.01)
    sent = bench.queue.asks[0][0]
    bench.clock.now_s += DEADLINE_S + LATE_S
    assert bench.line.expire() == ()
    bench.clock.now_s += 0.1
    (gone,) = bench.line.expire()
    assert (gone.stream, gone.captured_s, gone.peaks) == ("a", 1000.0, None)
    assert bench.queue.withdrawn == [sent.id]
    bench.queue.answer("live-1", Answer(sent.id, ({},)))
    assert bench.line.receive(0.01) == ()  # it was told to be unscored
    bench.offer("b")
    bench.line.send(0.01)
    assert [ask.id for ask, _ in bench.queue.asks] != [sent.id]
    assert bench.line.under_way() == 1


def test_what_cannot_be_sent_comes_back_at_once() -> None:
    bench = Bench(ahead=1)
    bench.queue.down = True
    bench.offer("a")
    (back,) = bench.line.send(0.01)
    assert isinstance(back, Scored)
    assert back.peaks is None
    assert bench.line.under_way() == 0
    with pytest.raises(BrokerError):
        bench.line.receive(0.01)


def test_an_answer_of_another_length_is_no_answer() -> None:
    bench = Bench()
    bench.offer("a", "b")
    bench.line.send(0.01)
    bench.queue.answer("live-1", Answer(bench.queue.asks[0][0].id, ({},)))
    assert bench.line.receive(0.01) == ()


def test_packs_that_are_gone_are_not_scored(scorer: Scorer) -> None:
    queue = FakeQueue()
    scoring = LiveScoring(queue, scorer)
    assert not scoring.once(0.01)
    queue.asks = [(Ask("live_2", "live-1", 9, {}), None)]
    assert not scoring.once(0.01)
    assert queue.answers.empty()


def test_a_pack_for_other_models_is_refused(scorer: Scorer) -> None:
    queue = FakeQueue()
    asks = Ask("live_1", "live-1", 9, {})
    queue.asks = [(asks, dump_pack(FramePack((), (), {}))), (asks, b"broken")]
    scoring = LiveScoring(queue, scorer)
    assert not scoring.once(0.01)
    assert not scoring.once(0.01)
    assert queue.answers.empty()


def test_a_scorer_goes_on_when_the_broker_is_back(scorer: Scorer) -> None:
    queue, stop = FakeQueue(), threading.Event()
    queue.down = True
    scoring = LiveScoring(queue, scorer)
    thread = threading.Thread(target=scoring.run, args=(stop,))
    thread.start()
    try:
        queue.asks = [(Ask("live_1", "live-1", 9, {}), pack(2))]
        queue.down = False
        owner, answer = queue.answers.get(timeout=20)
        assert (owner, answer.id, len(answer.peaks)) == ("live-1", "live_1", 2)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def pack(frames: int) -> bytes:
    hashes = tuple(FrameHash(float(at), "0" * 64, 0) for at in range(frames))
    pixels = np.zeros((frames, KEY.height, KEY.width, 3), np.uint8)
    data = dump_pack(FramePack((), hashes, {KEY: pixels}))
    assert len(load_pack(data).hashes) == frames
    return data


FLOORS = st.dictionaries(st.sampled_from("pqrs"), st.floats(0, 1), max_size=4)


@given(st.lists(FLOORS, min_size=1, max_size=4))
def test_the_lowest_floors_lose_nothing_that_matters_to_one(floors: list[dict[str, float]]) -> None:
    found = lowest(floors)
    for one in floors:
        for label, floor in found.items():
            assert floor <= one[label]
    for label in {name for one in floors for name in one} - set(found):
        assert any(label not in one for one in floors)


def test_no_policy_has_no_floors() -> None:
    assert lowest([]) == {}


def test_a_still_picture_is_sent_once_in_a_few_seconds(scorer: Scorer) -> None:
    bench = Bench()
    picture = np.random.default_rng(1).integers(0, 256, (KEY.height, KEY.width, 3), np.uint8)
    packs, told = 0, []
    for _ in range(9):
        bench.clock.now_s += 1
        frame = replace(live_frame(bench.clock.now_s), pixels={KEY: picture})
        bench.board.offer("a", bench.clock.now_s, frame)
        told += bench.line.send(0.01)
        if LiveScoring(bench.queue, scorer).once(0.01):
            packs += 1
            told += bench.line.receive(0.01)
        assert bench.line.under_way() == 0
    assert packs == 3
    assert [one.captured_s for one in told] == [1001.0 + at for at in range(9)]
    assert all(one.peaks == told[0].peaks and one.peaks for one in told)
    assert {one.picture for one in told} == {told[0].picture}
