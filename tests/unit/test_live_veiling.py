"""Newest frames of streams, veiled: how often, how many, and what is left to see."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from moderation.live.newest import MAX_BYTES
from moderation.live.picture import HEIGHT, WIDTH
from moderation.live.veiling import AT_ONCE, EVERY_S, Veiling


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def grey(level: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((HEIGHT, WIDTH), level, np.float32)


def test_the_newest_of_each_stream_now_and_then() -> None:
    clock = Clock()
    veiling = Veiling(clock)
    veiling.seen("a", 999.0, grey(10))
    veiling.seen("b", 998.0, grey(10))
    veiling.seen("a", 999.5, grey(20))
    veiling.seen("a", 999.25, grey(30))  # it came back late
    assert {key: one.captured_ms for key, one in veiling.turn().items()} == {
        "a": 999_500,
        "b": 998_000,
    }
    veiling.seen("a", 1000.0, grey(40))
    clock.now += EVERY_S - 0.1
    assert veiling.turn() == {}
    veiling.seen("a", 1001.0, grey(50))
    clock.now += 0.1
    assert [one.captured_ms for one in veiling.turn().values()] == [1_001_000]
    clock.now += EVERY_S
    assert veiling.turn() == {}  # nothing came since


def test_so_many_at_once_and_the_rest_in_turn() -> None:
    clock = Clock()
    veiling = Veiling(clock)
    names = [f"s{number}" for number in range(2 * AT_ONCE + 1)]
    for name in names:
        veiling.seen(name, 999.0, grey(10))
    turns = [list(veiling.turn()) for _ in range(4)]
    assert [len(one) for one in turns] == [AT_ONCE, AT_ONCE, 1, 0]
    assert sorted(name for turn in turns for name in turn) == sorted(names)


def test_what_is_forgotten_is_not_told() -> None:
    clock = Clock()
    veiling = Veiling(clock)
    veiling.seen("a", 999.0, grey(10))
    veiling.forget("a")
    veiling.forget("a")
    assert veiling.turn() == {}


def test_nothing_is_left_to_recognise() -> None:
    veiling = Veiling(Clock())
    # A chessboard of single cells, of which the left half is bright on the whole.
    cells = np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 100.0
    cells[:, : WIDTH // 2] += 155.0
    veiling.seen("a", 999.0, cells.astype(np.float32))
    picture = veiling.turn()["a"].picture
    assert len(picture) < MAX_BYTES
    with Image.open(io.BytesIO(picture)) as opened:
        assert (opened.format, opened.size) == ("WEBP", (WIDTH, HEIGHT))
        shown = np.asarray(opened.convert("RGB"), np.float32)
    assert float(np.ptp(shown, axis=2).max()) <= 4  # grey
    left, right = shown[:, : WIDTH // 2 - 8, 0], shown[:, WIDTH // 2 + 8 :, 0]
    assert left.mean() - right.mean() > 100
    # Of the chessboard nothing is there any more.
    assert max(float(left.std()), float(right.std())) < 12
