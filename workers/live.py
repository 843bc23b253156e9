"""The live worker: it watches streams, sends their frames to the models, and raises alerts.

It loads no models. One ffmpeg a stream, which dies with this process.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from moderation.blobs import open_blobs
from moderation.errors import BrokerError, ServiceError
from moderation.live.clock import steady_utc, was_set
from moderation.live.evidence import EvidenceKeeper
from moderation.live.figures import FigureStore
from moderation.live.follow import Follower, OnFrame
from moderation.live.line import ScoreLine
from moderation.live.newest import NewestStore
from moderation.live.opened import UrlSource
from moderation.live.owner import ROLE, Owner
from moderation.live.proxy_thread import ProxyThread
from moderation.live.reader import LiveFrame, ReaderOptions
from moderation.live.slots import FrameBoard
from moderation.live.supervise import Parts, Supervision
from moderation.live.veiling import Veiling
from moderation.live_queue import RedisLiveQueue
from moderation.models.keys import input_keys
from moderation.settings import Settings
from moderation.store import stream_leases
from moderation.store.engine import Database
from moderation.store.live_records import OwnedStream
from moderation.tasks.enqueue import Producer
from moderation.tasks.files import own_folder
from moderation.tasks.messages import DELIVER, JobMessage
from moderation.tasks.working import Working
from moderation.types import InputKey
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits
from moderation.wake import Waker
from workers.heartbeat import Heartbeat, new_row
from workers.process import (
    EXIT_CLOCK,
    EXIT_OK,
    on_stop_signals,
    open_ready,
    raise_file_limit,
    run_worker,
    vital,
)

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
TURN_S: Final = 1.0
REPORT_S: Final = 2.0
WAIT_S: Final = 0.5
"""How often threads that wait for frames look whether they are to stop."""
DEADLINE_S: Final = 5.0
"""Frames that were captured longer ago, and answers that take longer, help nobody: there is a newer
frame."""
EVIDENCE_S: Final = 10.0
"""For evidence that is being made at the end: what is stored by then is kept."""
SENT: Final = 16
"""Frames of a pack, at most."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit code."""
    return run_worker(ROLE, __doc__, serve, argv)


def serve(settings: Settings, name: str) -> int:
    """Watch streams until stopped. Raises ConfigError, ServiceError while starting."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    raise_file_limit()
    with ExitStack() as stack:
        db = open_ready(settings)
        stack.callback(db.close)
        heartbeat = Heartbeat(db, new_row(name, ROLE), Working(), lease_s=settings.lease_seconds)
        producer = Producer(settings.broker)
        stack.callback(producer.close)
        waker = Waker(settings.redis)
        stack.callback(waker.close)
        queue = RedisLiveQueue(settings.redis)
        stack.callback(queue.close)
        folder = stack.enter_context(own_folder(settings.home / "streams"))
        proxy = stack.enter_context(ProxyThread(settings.fetch_allow))
        ffmpeg, keys, now = program(settings.ffmpeg), input_keys(settings), steady_utc()
        tell = partial(announce, waker, producer)
        board: FrameBoard[LiveFrame] = FrameBoard(now, deadline_s=DEADLINE_S)
        keeper = EvidenceKeeper(
            db,
            open_blobs(settings.blobs, endpoint=settings.s3_endpoint),
            folder,
            ffmpeg,
            now=now,
            limits=ProbeLimits(max_pixels=settings.max_pixels),
            on_kept=waker.wake,
        )
        veiling = Veiling(now)
        supervision = Supervision(
            Parts(
                db=db,
                owner=Owner(db, name, lease_s=settings.lease_seconds),
                board=board,
                keeper=keeper,
                veiling=veiling,
                follow=following(settings, proxy, ffmpeg, keys, folder, now),
                tell=tell,
                now=now,
            )
        )
        line = ScoreLine(
            board,
            queue,
            owner=name,
            keys=keys,
            now=now,
            room=min(SENT, settings.max_batch),
            ahead=settings.live_packs_ahead,
            deadline_s=DEADLINE_S,
            floors=supervision.floors,
        )
        ended = threading.Event()
        threads = [
            vital("frame-sender", partial(send, line, supervision, ended)),
            vital("score-taker", partial(take, line, supervision, ended)),
            vital("evidence", keeper.run),
        ]
        heartbeat.start()
        stack.callback(heartbeat.stop)
        stack.callback(release, db, name)
        heartbeat.report("ready", capacity=settings.live_capacity)
        for thread in threads:
            thread.start()
        figures = FigureStore(settings.redis)
        stack.callback(figures.close)
        newest = NewestStore(settings.redis)
        stack.callback(newest.close)
        code = watch(
            supervision,
            stop,
            (
                lambda: figures.write(name, supervision.figures(line)),
                lambda: newest.write(veiling.turn()),
            ),
            now,
        )
        # What this one gives back is for others: it takes nothing from now on.
        heartbeat.report("stopping", capacity=0)
        supervision.close()
        ended.set()
        board.wake()
        keeper.stop()
        for thread in threads:
            thread.join(EVIDENCE_S if thread.name == "evidence" else 4 * WAIT_S)
        return code


def watch(
    supervision: Supervision,
    stop: threading.Event,
    told: Sequence[Callable[[], None]],
    now: Callable[[], float],
) -> int:
    """The main loop; the exit code. A database or broker that is away is waited for: readers go on
    meanwhile. told: each writes down what gateways are to know; raises ServiceError. now: the clock
    of capture times."""
    turns = {supervision.turn: TURN_S} | dict.fromkeys((supervision.report, *told), REPORT_S)
    due = dict.fromkeys(turns, now())
    while not stop.wait(TICK_S):
        if was_set(now()):
            log.error("the system's clock was set, or the machine slept: all streams begin anew")
            return EXIT_CLOCK
        for work, every_s in turns.items():
            if now() < due[work]:
                continue
            due[work] = now() + every_s
            try:
                work()
            except ServiceError as error:
                log.warning("streams: %s", error)
        supervision.tick()
    return EXIT_OK


def send(line: ScoreLine, supervision: Supervision, ended: threading.Event) -> None:
    """Sends frames until the end."""
    while not ended.is_set():
        back = line.send(WAIT_S)
        supervision.results(back)
        if any(one.peaks is None for one in back):
            ended.wait(WAIT_S)  # the broker is away


def take(line: ScoreLine, supervision: Supervision, ended: threading.Event) -> None:
    """Takes scores until the end."""
    while not ended.is_set():
        try:
            supervision.results(line.receive(WAIT_S))
        except BrokerError as error:
            log.warning("no scores: %s", error)
            ended.wait(WAIT_S)
        supervision.results(line.expire())


def following(
    settings: Settings,
    proxy: ProxyThread,
    ffmpeg: str,
    keys: Sequence[InputKey],
    folder: Path,
    now: Callable[[], float],
) -> Callable[[OwnedStream, float, OnFrame], Follower]:
    """How streams are followed by this process."""

    def follow(owned: OwnedStream, after_s: float, on_frame: OnFrame) -> Follower:
        return Follower(
            UrlSource(owned.url, settings, proxy, program=ffmpeg),
            keys,
            ReaderOptions(
                ffmpeg, interval_s=owned.interval_ms / 1000, max_pixels=settings.max_pixels
            ),
            on_frame,
            now=now,
            chance=random.random,
            folder=folder,
            after_s=after_s,
        )

    return follow


def announce(waker: Waker, producer: Producer, stream_id: str) -> None:
    """Something was written about a stream: readers are woken, its callbacks are due."""
    waker.wake(stream_id)
    try:
        producer.enqueue(JobMessage(DELIVER, stream_id))
    except BrokerError as error:
        log.info("stream %s: callbacks left to the sweeper: %s", stream_id, error)


def release(db: Database, owner: str) -> None:
    """Give all streams of this supervisor back."""
    try:
        stream_leases.release_owner(db, owner)
    except ServiceError as error:
        log.warning("leases run out by themselves: %s", error)


if __name__ == "__main__":
    sys.exit(main())
