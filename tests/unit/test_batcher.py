"""The batcher answers every item exactly once, whatever happens to its batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.errors import ExpiredError, InferenceError, OverloadedError, ServiceError
from moderation.models.batcher import Batcher


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


class Gate:
    """A run function that waits until it is opened, and keeps what it was given."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.set()
        assert self.opened.wait(10)
        return doubled(items)


def batcher(run: object, **options: float) -> Batcher[int, int]:
    chosen = {"max_batch": 4, "max_delay_s": 0.0, "max_queue": 100} | options
    return Batcher(run, **chosen)  # type: ignore[arg-type]


@given(
    callers=st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=6),
    bad=st.sets(st.integers(0, 99), max_size=20),
    max_batch=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_every_item_is_answered_and_only_the_bad_ones_fail(
    callers: list[list[int]], bad: set[int], max_batch: int
) -> None:
    def run(items: Sequence[int]) -> list[int]:
        assert 1 <= len(items) <= max_batch
        if bad & set(items):
            raise ValueError("a bad item")
        return doubled(items)

    runner = batcher(run, max_batch=max_batch, max_delay_s=0.001)
    futures = [(item, future) for items in callers for item, future in _pairs(runner, items)]
    _, waiting = wait([future for _, future in futures], timeout=10)
    assert not waiting
    for item, future in futures:
        if item in bad:
            assert isinstance(future.exception(), InferenceError)
        else:
            assert future.result() == 2 * item
    runner.close()
    assert runner.stats().items == len(futures)
    assert runner.stats().failed == sum(item in bad for item, _ in futures)


def _pairs(runner: Batcher[int, int], items: list[int]) -> list[tuple[int, object]]:
    return list(zip(items, runner.submit(items), strict=True))


def test_items_of_many_callers_share_a_batch() -> None:
    gate = Gate()
    runner = batcher(gate)
    first = runner.submit([0])
    assert gate.entered.wait(10)
    rest = [runner.submit([i])[0] for i in (1, 2, 3, 4, 5)]
    gate.opened.set()
    assert [f.result(10) for f in (*first, *rest)] == [0, 2, 4, 6, 8, 10]
    assert gate.batches == [[0], [1, 2, 3, 4], [5]]
    runner.close()


def test_the_window_waits_for_company_and_a_full_batch_ends_it() -> None:
    gate = Gate()
    gate.opened.set()
    runner = batcher(gate, max_batch=2, max_delay_s=30.0)
    started = time.monotonic()
    futures = [runner.submit([1])[0], runner.submit([2])[0]]
    assert [future.result(10) for future in futures] == [2, 4]
    assert time.monotonic() - started < 10
    assert gate.batches == [[1, 2]]
    runner.close()


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    gate = Gate()
    runner = batcher(gate, max_queue=2)
    running = runner.submit([1])
    assert gate.entered.wait(10)
    queued = runner.submit([2, 3])
    with pytest.raises(OverloadedError):
        runner.submit([4])
    gate.opened.set()
    assert [future.result(10) for future in (*running, *queued)] == [2, 4, 6]
    assert runner.stats().refused == 1
    runner.close()


def test_one_caller_with_more_views_than_the_queue_holds_is_served() -> None:
    runner = batcher(doubled, max_queue=2)
    assert [f.result(10) for f in runner.submit([1, 2, 3, 4, 5])] == [2, 4, 6, 8, 10]
    runner.close()


def test_an_expired_item_is_answered_and_not_run() -> None:
    gate = Gate()
    runner = batcher(gate)
    running = runner.submit([1])
    assert gate.entered.wait(10)
    late = runner.submit([2], deadline=time.monotonic())[0]
    good = runner.submit([3])[0]
    gate.opened.set()
    assert isinstance(late.exception(10), ExpiredError)
    assert good.result(10) == 6
    assert running[0].result(10) == 2
    assert [2] not in gate.batches
    assert all(2 not in batch for batch in gate.batches)
    runner.close()
    assert runner.stats().expired == 1


def test_too_few_results_are_an_error_not_a_shift() -> None:
    runner = batcher(lambda items: [])
    assert isinstance(runner.submit([1])[0].exception(10), InferenceError)
    runner.close()


def test_running_seconds_grow_during_a_pass_and_are_zero_when_idle() -> None:
    gate = Gate()
    runner = batcher(gate)
    assert runner.running_s == 0.0
    future = runner.submit([1])[0]
    assert gate.entered.wait(10)
    first = runner.running_s
    assert 0 < first <= runner.running_s
    gate.opened.set()
    future.result(10)
    runner.close()
    assert runner.running_s == 0.0


def test_close_answers_what_still_waits() -> None:
    gate = Gate()
    runner = batcher(gate)
    running = runner.submit([1])[0]
    assert gate.entered.wait(10)
    waiting = runner.submit([2])[0]
    closer = threading.Thread(target=runner.close)
    closer.start()
    gate.opened.set()
    closer.join(10)
    assert not closer.is_alive()
    assert running.result(10) == 2
    assert isinstance(waiting.exception(10), ServiceError)
    with pytest.raises(ServiceError):
        runner.submit([3])


def test_an_item_that_was_given_up_is_not_run() -> None:
    gate = Gate()
    runner = batcher(gate)
    running = runner.submit([1])[0]
    assert gate.entered.wait(10)
    dropped, kept = runner.submit([2, 3])
    assert dropped.cancel()
    gate.opened.set()
    assert (running.result(10), kept.result(10)) == (2, 6)
    runner.close()
    assert gate.batches == [[1], [3]]


def test_items_that_gathered_during_a_run_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("moderation.models.batcher.time", SimpleNamespace(monotonic=lambda: now[0]))
    gate = Gate()
    runner = batcher(gate, max_batch=2, max_delay_s=600.0)
    first = runner.submit([1, 2])
    assert gate.entered.wait(10)
    late = runner.submit([3])[0]
    now[0] += 600.0  # its window ends while the first ones still run
    gate.opened.set()
    assert [future.result(10) for future in (*first, late)] == [2, 4, 6]
    assert gate.batches == [[1, 2], [3]]
    runner.close()


def test_a_run_that_hangs_does_not_hold_up_close() -> None:
    gate = Gate()
    runner = batcher(gate)
    running = runner.submit([1])[0]
    assert gate.entered.wait(10)
    waiting = runner.submit([2])[0]
    assert runner.close(timeout_s=0.05) is False
    for future in (running, waiting):
        error = future.exception(10)
        assert isinstance(error, ServiceError)
        assert error.code == "closed"
    gate.opened.set()
    assert runner.close() is True
    assert gate.batches == [[1]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_items_are_answered_even_when_the_thread_is_ended() -> None:
    def run(items: Sequence[int]) -> list[int]:
        raise SystemExit

    runner = batcher(run)
    assert isinstance(runner.submit([1])[0].exception(10), ServiceError)
    runner.close()
    with pytest.raises(ServiceError):
        runner.submit([2])


def test_stats_tell_batch_sizes_and_waiting() -> None:
    gate = Gate()
    runner = batcher(gate)
    first = runner.submit([0])
    assert gate.entered.wait(10)
    rest = runner.submit([1, 2, 3, 4, 5])
    assert runner.stats().queued == 5
    gate.opened.set()
    assert [future.result(10) for future in (*first, *rest)] == [0, 2, 4, 6, 8, 10]
    runner.close()
    stats = runner.stats()
    assert stats.sizes == {1: 2, 4: 1}
    assert (stats.batches, stats.items, stats.queued) == (3, 6, 0)
    assert stats.waited_seconds > 0
    assert stats.run_seconds > 0


def test_patient_items_make_way_and_are_not_forgotten() -> None:
    gate = Gate()
    runner = batcher(gate)
    first = runner.submit([0])
    assert gate.entered.wait(10)
    slow = runner.submit(range(10, 18), patient=True)
    quick = runner.submit(range(1, 7))
    gate.opened.set()
    for future in (*first, *slow, *quick):
        future.result(10)
    assert gate.batches == [[0], [1, 2, 3, 10], [4, 5, 6, 11], [12, 13, 14, 15], [16, 17]]
    runner.close()


def test_with_a_batch_of_one_others_go_first() -> None:
    gate = Gate()
    runner = batcher(gate, max_batch=1)
    runner.submit([0])
    assert gate.entered.wait(10)
    slow, quick = runner.submit([10], patient=True), runner.submit([1])
    gate.opened.set()
    assert [future.result(10) for future in (*quick, *slow)] == [2, 20]
    assert gate.batches == [[0], [1], [10]]
    runner.close()


def test_patient_items_count_for_the_queue_and_are_answered_at_the_end() -> None:
    gate = Gate()
    runner = batcher(gate, max_queue=4)
    runner.submit([0])
    assert gate.entered.wait(10)
    waiting = runner.submit([1, 2, 3], patient=True)
    assert runner.stats().queued == 3
    with pytest.raises(OverloadedError):
        runner.submit([4, 5])
    closing = threading.Thread(target=runner.close)
    closing.start()
    gate.opened.set()
    closing.join(10)
    assert all(future.exception(10) is not None for future in waiting)
