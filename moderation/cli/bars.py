"""The bars of `scan` on a terminal: one for all sources, one for each video that is being read."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from moderation.cli.out import printable

NAME = 28


class Bars:
    """Thread-safe. Nothing of it is printed when nothing moves."""

    def __init__(self, shown: Progress, total: int, clock: Callable[[], float]) -> None:
        self._shown = shown
        self._clock = clock
        self._lock = threading.Lock()
        self._videos: dict[object, _Running] = {}
        self._all = shown.add_task("scanned", total=total, told=f"0/{total}")
        self._total, self._done = total, 0

    def advance(self) -> None:
        """One more source has its verdict."""
        with self._lock:
            self._done += 1
            self._shown.update(self._all, advance=1, told=f"{self._done}/{self._total}")

    def video(self, key: object, name: str, done: int, wanted: int, film_s: float) -> None:
        """How far a video is: frames looked at, frames known to be needed, its length."""
        now = self._clock()
        with self._lock:
            running = self._videos.get(key)
            if running is None:
                task = self._shown.add_task(short(name), total=wanted, told="")
                running = self._videos[key] = _Running(task, now)
            told = pace(done, wanted, film_s, now - running.since)
            self._shown.update(running.task, completed=done, total=wanted, told=told)

    def gone(self, key: object) -> None:
        """The video has its verdict, or has none to expect."""
        with self._lock:
            running = self._videos.pop(key, None)
            if running is not None:
                self._shown.remove_task(running.task)


@dataclass(frozen=True, slots=True)
class _Running:
    task: TaskID
    since: float


def pace(done: int, wanted: int, film_s: float, elapsed_s: float) -> str:
    """`412/600 frames, 38x real time, 0:07 left`; the first words alone while it is too early."""
    words = f"{done}/{wanted} frames"
    if done == 0 or elapsed_s < 0.5:
        return words
    rate = film_s * done / wanted / elapsed_s
    left = round(elapsed_s * (wanted - done) / done)
    return f"{words}, {rate:.3g}x real time, {left // 60}:{left % 60:02} left"


def short(name: str) -> str:
    """The end of a name, which tells more than its beginning, in NAME characters."""
    line = printable(name)
    return line if len(line) <= NAME else "…" + line[1 - NAME :]


@contextmanager
def bars(total: int) -> Iterator[Bars]:
    """Bars on stderr while the block runs; gone afterwards. What is printed meanwhile stands
    above them."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=False,
    ) as shown:
        yield Bars(shown, total, time.monotonic)
