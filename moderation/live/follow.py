"""Follows one live stream: attempts to read it, one after the other, as its watchdog says."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moderation.errors import FetchError, ModerationError
from moderation.live.ends import EndReason
from moderation.live.pace import Pace
from moderation.live.picture import Meaningless, PictureWatch
from moderation.live.reader import LiveFrame, LiveReader, ReaderEnd, ReaderOptions
from moderation.live.ring import Clip, Ring, RingOptions
from moderation.live.watchdog import (
    Changed,
    Event,
    FrameCame,
    Kill,
    Limits,
    Output,
    ProcessEnded,
    Start,
    Tick,
    Watch,
    advance,
    begin,
    stop,
)
from moderation.types import InputKey

log = logging.getLogger(__name__)

JOIN_S = 10.0
"""For a killed program's thread to end; it does within moments."""


@dataclass(frozen=True, slots=True)
class Told:
    """Why an attempt ended. why: a sentence for people; empty: that of the reason."""

    reason: EndReason
    why: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """How one attempt reads the source. arguments: ffmpeg's, up to and with `-i URL`; they hold
    its credentials. ended: what the end that the reader saw really was."""

    arguments: tuple[str, ...]
    ended: Callable[[ReaderEnd], Told]

    def __repr__(self) -> str:
        return "Opening()"


class Source(Protocol):
    """Where a stream comes from."""

    def open(self, attempt: int) -> AbstractContextManager[Opening]:
        """Check the address and open what the attempt needs. It may take as long as a name takes
        to be resolved. Raises FetchError."""


OnFrame = Callable[[LiveFrame, Meaningless | None], None]


class Follower:
    """One stream, followed until `close`. Any thread may call any method.

    It does nothing by itself but read: `tick`, a few times a second, starts and ends attempts.
    on_frame: gets each frame, in a thread of the attempt, and keeps it waiting: it should put the
    frame somewhere and return. now: seconds UTC, never stepping back; the same clock everywhere.
    chance: 0 to 1. after_s: capture time of the last frame of whoever followed it before.
    """

    def __init__(
        self,
        source: Source,
        keys: Sequence[InputKey],
        options: ReaderOptions,
        on_frame: OnFrame,
        *,
        now: Callable[[], float],
        chance: Callable[[], float],
        limits: Limits | None = None,
        ring: RingOptions | None = None,
        folder: Path | None = None,
        after_s: float = 0.0,
    ) -> None:
        self._source, self._keys, self._options = source, tuple(keys), options
        self._on_frame, self._now, self._chance = on_frame, now, chance
        self._limits = limits or Limits()
        self._parts = tempfile.TemporaryDirectory(prefix="stream", dir=folder)
        self._ring = Ring(Path(self._parts.name), ring or RingOptions())
        self._picture = PictureWatch()
        self._pace = Pace(options.interval_s)
        self._closing = threading.Event()
        self._last_s = after_s
        self._lock = threading.Lock()
        self._readers: dict[int, LiveReader] = {}
        self._threads: list[threading.Thread] = []
        self._watch, said = begin(now())
        self._changes = [one for one in said if isinstance(one, Changed)]

    @property
    def watch(self) -> Watch:
        return self._watch

    def tick(self) -> tuple[Changed, ...]:
        """Do what is due; the changes of state since the last call, to be told."""
        with self._lock:
            self._happened(Tick(self._now()))
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            changes, self._changes = tuple(self._changes), []
        # Where no frame comes, nobody else would.
        self._ring.prune(self._now())
        return changes

    def freeze(self, captured_s: float, target: Path) -> Clip:
        """As `Ring.freeze`."""
        return self._ring.freeze(captured_s, target)

    def close(self) -> tuple[Changed, ...]:
        """End it, its program and its files; the last changes. May be called twice."""
        self._closing.set()
        with self._lock:
            self._watch, said = stop(self._watch, self._now())
            self._do(said)
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(JOIN_S)
        self._parts.cleanup()
        with self._lock:
            changes, self._changes = tuple(self._changes), []
        return changes

    def _happened(self, event: Event) -> None:
        """With the lock held."""
        self._watch, said = advance(self._watch, event, self._limits, self._chance())
        self._do(said)

    def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Changed):
                self._changes.append(output)
            elif isinstance(output, Kill):
                if output.attempt in self._readers:
                    self._readers[output.attempt].kill()
            else:
                self._start(output)

    def _start(self, start: Start) -> None:
        thread = threading.Thread(
            target=self._attempt, args=(start.attempt,), name="stream-reader", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _attempt(self, attempt: int) -> None:
        try:
            told = self._read(attempt)
        except FetchError as error:
            forbidden = error.code in ("fetch_forbidden", "fetch_disabled")
            reason = EndReason.FORBIDDEN if forbidden else EndReason.UNREACHABLE
            told = Told(reason, error.message)
        except ModerationError as error:
            log.warning("a stream's reader failed: %s", error)
            told = Told(EndReason.BROKEN)
        except Exception:
            # No file or no thread was left, say: it says nothing of the source, and is tried again.
            log.exception("a stream's reader failed")
            told = Told(EndReason.BROKEN)
        with self._lock:
            self._happened(ProcessEnded(attempt, self._now(), told.reason, told.why))

    def _read(self, attempt: int) -> Told:
        """Reads until the program ends; why it did."""
        with self._source.open(attempt) as opening:
            reader = LiveReader(
                opening.arguments,
                self._keys,
                self._ring,
                self._options,
                now=self._now,
                after_s=self._last_s,
            )
            with reader:
                with self._lock:
                    if not self._is_current(attempt):
                        return Told(EndReason.BROKEN)  # given up meanwhile: nobody asks
                    self._readers[attempt] = reader
                try:
                    for frame in reader:
                        self._frame(attempt, frame)
                finally:
                    with self._lock:
                        del self._readers[attempt]
            return opening.ended(reader.end) if reader.end is not None else Told(EndReason.BROKEN)

    def _frame(self, attempt: int, frame: LiveFrame) -> None:
        with self._lock:
            if not self._is_current(attempt):
                return
            meaningless = self._picture.add(frame.grey)
            self._last_s = frame.captured_s
            self._happened(FrameCame(attempt, self._now(), meaningless))
        # Meanwhile nothing is read: the program waits as well.
        self._closing.wait(self._pace.wait_s(self._now()))
        with self._lock:
            if not self._is_current(attempt):
                return
        self._on_frame(frame, meaningless)

    def _is_current(self, attempt: int) -> bool:
        return self._watch.running and self._watch.attempt == attempt
