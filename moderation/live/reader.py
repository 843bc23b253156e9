"""Reads one live stream: one ffmpeg that gives frames at an interval, and copies packets.

Frames come at the sizes that the models read, each with the time of its capture. What the program
may reach, and how, is said by the arguments that it is given (`source`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from moderation.errors import MediaError
from moderation.live.clock import CaptureClock
from moderation.live.ends import EndReason, end_reason
from moderation.live.picture import HEIGHT, WIDTH, small_grey
from moderation.live.ring import Ring
from moderation.types import InputKey
from moderation.video.ffmpeg import MediaProcess

LOOK = InputKey(WIDTH, HEIGHT)
"""A small picture beside those of the models, to tell meaningless ones."""

EARLY = 0.98
"""Part of the interval after which a frame is taken: time stamps are rounded."""

GAP_S = 10.0
"""Longer gaps in the time stamps, and steps back, are shortened in the ring."""

_CLOCK = re.compile(rb"frame:\d+\s+pts:(-?\d+)\s")


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """program: ffmpeg. interval_s: between two frames, as the source's time stamps tell. skip:
    "noref" leaves out frames that no other needs: cheaper, and up to a frame later. memory_mib:
    address space of the program. max_pixels: width x height of a
    frame; larger ones are not decoded."""

    program: str
    interval_s: float = 1.0
    skip: Literal["none", "noref"] = "none"
    memory_mib: int = 2048
    max_pixels: int = 50_000_000


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """captured_s: when it was captured; arrived_s: when it was here; both UTC. stamp_s: its time in
    this attempt, as the ring's parts have it. pixels: one array (height, width, 3) uint8 RGB a key,
    of the whole frame. grey: `picture.small_grey` of it."""

    captured_s: float
    arrived_s: float
    stamp_s: float
    pixels: Mapping[InputKey, NDArray[np.uint8]]
    grey: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReaderEnd:
    """How reading ended, and after how many frames."""

    reason: EndReason
    frames: int


class LiveReader:
    """One attempt to read a stream. A context manager and an iterator of its frames.

    Enter it and iterate in one thread: the program dies with the thread that started it. `kill`
    may come from any other, and ends the iteration. Leaving kills and reaps the program; the ring
    stays. source: ffmpeg's arguments up to and with `-i URL`. now: UTC, never stepping back.
    after_s: capture times lie above it. Raises ServiceError where the program cannot be started.
    """

    def __init__(
        self,
        source: Sequence[str],
        keys: Sequence[InputKey],
        ring: Ring,
        options: ReaderOptions,
        *,
        now: Callable[[], float],
        after_s: float = 0.0,
    ) -> None:
        self._source = tuple(source)
        self._keys = tuple(dict.fromkeys((*keys, LOOK)))
        self._ring = ring
        self._options = options
        self._now = now
        self._clock = CaptureClock(after_s=after_s)
        self._stack = ExitStack()
        self._frames = 0
        self._process: MediaProcess | None = None
        self._stamps: IO[bytes] | None = None
        self._pipes: tuple[IO[bytes], ...] = ()
        self.end: ReaderEnd | None = None

    @property
    def pid(self) -> int:
        """Of the program; 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the program and so the iteration. May be called twice."""
        if self._process is not None:
            self._process.kill()

    def __enter__(self) -> Self:
        first = self._ring.begin(self._now())
        with ExitStack() as stack, ExitStack() as given:
            readable, writable = [], []
            for _ in range(len(self._keys)):  # the time stamps, and every size but the first
                reading, writing = os.pipe()
                readable.append(stack.enter_context(os.fdopen(reading, "rb")))
                # Ours are closed once the program has its own: its end is the pipes' end.
                given.callback(os.close, writing)
                writable.append(writing)
            self._stamps, *pipes = readable
            self._pipes = tuple(pipes)
            argv = command(
                self._source, self._keys, self._ring, self._options, writable, first_part=first
            )
            self._process = stack.enter_context(
                MediaProcess(
                    argv,
                    timeout_s=None,
                    memory_mib=self._options.memory_mib,
                    pass_fds=writable,
                    file_bytes=self._ring.options.max_bytes,
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[LiveFrame]:
        """Frames until the program ends, which `end` then tells of."""
        process, stamps = self._process, self._stamps
        if process is None or stamps is None:
            raise RuntimeError("a reader is entered before it is read")
        while (pixels := self._picture(process)) is not None:
            arrived_s = self._now()
            stamp_s = _next_stamp(stamps)
            self._frames += 1
            self._ring.prune(arrived_s)
            yield LiveFrame(
                self._clock.captured(stamp_s, arrived_s),
                arrived_s,
                stamp_s,
                pixels,
                small_grey(pixels[LOOK]),
            )
        code = process.finish()
        self.end = ReaderEnd(end_reason(code, process.tail, frames=self._frames), self._frames)

    def _picture(self, process: MediaProcess) -> dict[InputKey, NDArray[np.uint8]] | None:
        """The next frame at every size; None at the end."""
        found = {}
        for number, key in enumerate(self._keys):
            size = key.width * key.height * 3
            data = process.read(size) if number == 0 else self._pipes[number - 1].read(size)
            if len(data) < size:
                return None
            found[key] = np.frombuffer(data, np.uint8).reshape(key.height, key.width, 3)
        return found


def command(
    source: Sequence[str],
    keys: Sequence[InputKey],
    ring: Ring,
    options: ReaderOptions,
    fds: Sequence[int],
    *,
    first_part: int,
) -> list[str]:
    """The argv of ffmpeg. keys[0] goes to standard output, time stamps to fds[0], the other keys
    to the fds after it, packets to the ring."""
    skip = () if options.skip == "none" else ("-skip_frame", options.skip)
    targets = [1, *fds[1:]]
    return [
        options.program,
        *("-nostdin", "-hide_banner", "-nostats", "-v", "error", "-y"),
        *("-filter_threads", "1", "-filter_complex_threads", "1", "-max_error_rate", "1"),
        # Threads of a decoder hold a frame each: cheaper, and later by as many frames.
        *("-threads", "1", "-max_pixels", str(options.max_pixels), *skip, *source),
        *("-filter_complex", graph(keys, options.interval_s, fds[0])),
        *(
            word
            for number, target in enumerate(targets)
            for word in (
                # With more threads the encoder of raw frames holds back as many of them.
                *("-map", f"[v{number}]", "-threads", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"),
                *("-fps_mode", "passthrough", "-flush_packets", "1", f"pipe:{target}"),
            )
        ),
        # Pictures alone: sound is not looked at, so it is not kept either.
        *("-map", "0:v:0", "-c", "copy", "-bsf:v", steady_stamps()),
        # Without its delay the parts' time stamps are those of the frames.
        *("-muxdelay", "0", "-f", "segment"),
        *("-segment_time", f"{ring.options.part_s:g}", "-segment_format", "mpegts"),
        *("-segment_start_number", str(first_part)),
        *("-segment_format_options", "flush_packets=1", ring.pattern),
    ]


def graph(keys: Sequence[InputKey], interval_s: float, stamp_fd: int) -> str:
    """One frame an interval, its time stamp on `stamp_fd`, its picture at every size.

    Time stamps that jump back begin anew: ffmpeg's own `fps` would wait until they have caught up.
    Each size has a pipe of its own: side by side, they would wait for the next frame.
    """
    due = f"isnan(prev_selected_t)+gte(t-prev_selected_t,{interval_s * EARLY:.6f})"
    picked = f"select='not(isnan(t))*({due}+lt(t,prev_selected_t))'"
    # Only frames with some metadata are told.
    told = f"metadata=mode=add:key=k:value=1,metadata=mode=print:file='pipe\\:{stamp_fd}':direct=1"
    names = "".join(f"[s{number}]" for number in range(len(keys)))
    scaled = ";".join(
        f"[s{number}]scale={key.width}:{key.height}"
        f":flags={key.interpolation}+accurate_rnd+full_chroma_int,format=rgb24[v{number}]"
        for number, key in enumerate(keys)
    )
    return f"[0:v:0]{picked},settb=1/1000000,{told},split={len(keys)}{names};{scaled}"


def steady_stamps() -> str:
    """A bitstream filter under which decoding time stamps always ascend, whatever the source's do:
    a file with steps back is cut in the wrong places and does not play."""
    first = "eq(PREV_OUTDTS,NOPTS)+eq(PREV_INDTS,NOPTS)+eq(DTS,NOPTS)"
    dts = f"if({first},DTS,PREV_OUTDTS+clip(DTS-PREV_INDTS,1,{GAP_S:g}/TB))"
    return f"setts=dts='{dts}':pts='PTS-DTS+{dts}'"


def _next_stamp(stamps: IO[bytes]) -> float:
    """Seconds of the next frame, from the lines of ffmpeg's `metadata=print`."""
    for line in stamps:
        found = _CLOCK.match(line)
        if found:
            return int(found[1]) / 1_000_000
    raise MediaError("ffmpeg gave a frame without its time")
