"""Bars of `scan`: what they say, and that they leave."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from moderation.cli.bars import NAME, Bars, pace, short


@pytest.mark.parametrize(
    ("done", "wanted", "film_s", "elapsed_s", "words"),
    [
        (0, 100, 600.0, 5.0, "0/100 frames"),
        (10, 100, 600.0, 0.1, "10/100 frames"),
        (50, 100, 600.0, 10.0, "50/100 frames, 30x real time, 0:10 left"),
        (100, 100, 600.0, 10.0, "100/100 frames, 60x real time, 0:00 left"),
        (1, 100, 7200.0, 60.0, "1/100 frames, 1.2x real time, 99:00 left"),
    ],
)
def test_pace(done: int, wanted: int, film_s: float, elapsed_s: float, words: str) -> None:
    assert pace(done, wanted, film_s, elapsed_s) == words


def test_a_long_name_keeps_its_end_and_no_control_characters() -> None:
    assert short("f.mp4") == "f.mp4"
    told = short("\x1b[2J" + "x" * 100 + "end.mp4")
    assert len(told) == NAME
    assert told.endswith("end.mp4")
    assert "\x1b" not in short("\x1b[2J.mp4")


def test_a_video_has_its_bar_until_it_is_gone() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    now = iter([0.0, 10.0])
    progress = Progress(console=console)
    bars = Bars(progress, 3, lambda: next(now))
    key = object()
    bars.video(key, "film.mp4", 0, 100, 600.0)
    bars.video(key, "film.mp4", 50, 120, 600.0)
    told = {task.description: (task.completed, task.total) for task in progress.tasks}
    assert told == {"scanned": (0, 3), "film.mp4": (50, 120)}
    assert progress.tasks[1].fields["told"] == "50/120 frames, 25x real time, 0:14 left"
    bars.gone(key)
    bars.gone(key)  # of a picture, there never was one
    bars.advance()
    (left,) = progress.tasks
    assert (left.description, left.completed, left.fields["told"]) == ("scanned", 1, "1/3")
