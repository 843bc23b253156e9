from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from moderation.errors import StoreError
from workers.hands import Hands

LONG_S = 600.0


class Jobs:
    """Work that is counted, and may be held up."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.looks: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self) -> bool:
        try:
            name = self.waiting.get_nowait()
        except queue.Empty:
            self.looks.put(None)
            return False
        if name == "away":
            raise StoreError("the database does not answer")
        self.go_on.wait(10)
        self.done.put(name)
        return True

    def ended(self, count: int) -> set[str]:
        return {self.done.get(timeout=10) for _ in range(count)}


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def make(jobs: Jobs) -> Iterator[Callable[..., Hands]]:
    made: list[Hands] = []

    def start(count: int = 1, *, idle_s: float = LONG_S) -> Hands:
        made.append(Hands("hand", count, jobs, idle_s=idle_s))
        made[-1].start()
        return made[-1]

    yield start
    jobs.go_on.set()
    for hands in made:
        hands.stop()
        assert hands.join(10)


def test_what_is_there_is_done_without_a_message(jobs: Jobs, make: Callable[..., Hands]) -> None:
    for name in "abc":
        jobs.waiting.put(name)
    make()
    assert jobs.ended(3) == set("abc")


def test_a_poke_wakes(jobs: Jobs, make: Callable[..., Hands]) -> None:
    hands = make()
    jobs.looks.get(timeout=10)
    jobs.waiting.put("a")
    hands.poke()
    assert jobs.ended(1) == {"a"}


def test_a_poke_while_busy_is_not_lost() -> None:
    """It comes after the look that finds nothing was begun."""
    began, look_on = threading.Event(), threading.Event()
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    ready = ["a"]

    def work() -> bool:
        found = list(ready)
        began.set()
        look_on.wait(10)
        if "b" in found:
            ready.clear()
            seen.put("b")
        return False

    hands = Hands("hand", 1, work, idle_s=LONG_S)
    hands.start()
    began.wait(10)
    ready.append("b")
    hands.poke()
    look_on.set()
    assert seen.get(timeout=10) == "b"
    hands.stop()
    assert hands.join(10)


def test_a_lost_message_costs_a_pause(jobs: Jobs, make: Callable[..., Hands]) -> None:
    make(idle_s=0.01)
    jobs.looks.get(timeout=10)
    jobs.waiting.put("a")
    assert jobs.ended(1) == {"a"}


def test_a_database_that_is_away_is_asked_again(jobs: Jobs, make: Callable[..., Hands]) -> None:
    for name in ("away", "a"):
        jobs.waiting.put(name)
    make(idle_s=0.01)
    assert jobs.ended(1) == {"a"}


def test_so_many_at_a_time(jobs: Jobs, make: Callable[..., Hands]) -> None:
    jobs.go_on.clear()
    for name in "abcd":
        jobs.waiting.put(name)
    hands = make(2)
    until_empty = threading.Event()
    while jobs.waiting.qsize() > 2:
        until_empty.wait(0.01)
    hands.stop()
    assert not hands.join(0.05), "they finish what they have"
    jobs.go_on.set()
    assert hands.join(10)
    assert jobs.ended(2) == {"a", "b"}
    assert jobs.waiting.qsize() == 2, "nothing more was begun"
