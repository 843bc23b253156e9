"""The infer worker: all models of one device, for image jobs, chunks of videos and live frames.

The runtime is complete before the first message is taken: a missing or corrupt weight file
ends the process with exit code 2 and one line that says how to mend it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from moderation.analyse import Analyser
from moderation.blobs import open_blobs
from moderation.decoders import DecoderPool
from moderation.live_queue import RedisLiveQueue
from moderation.models.runner import Scorer, load_scorer
from moderation.packs import open_packs
from moderation.settings import Settings
from moderation.store.engine import Database
from moderation.tasks.app import make_app
from moderation.tasks.enqueue import Producer
from moderation.tasks.image import ImageRuntime, run_image
from moderation.tasks.live import LiveScoring
from moderation.tasks.lot import Lot
from moderation.tasks.messages import IMAGE, INFER, SCORE
from moderation.tasks.score import ScoreRuntime
from moderation.tasks.scoring import Scoring
from moderation.tasks.working import Working
from moderation.wake import Waker
from workers.consumer import Consumer
from workers.hands import Hands, end_hands
from workers.heartbeat import Heartbeat, abandon, new_row, release
from workers.process import (
    DRAIN_S,
    EXIT_FAILED,
    EXIT_HUNG,
    EXIT_OK,
    exit_now,
    on_stop_signals,
    open_ready,
    run_worker,
    vital,
)

log = logging.getLogger(__name__)

ROLE: Final = "infer"
WATCH_S: Final = 0.5
SCORERS: Final = 2
"""Chunks scored at a time: one keeps the models busy while the other's pack is fetched, and more
would only make pictures wait."""
LIVE_SCORERS: Final = 2
"""Packs of live frames scored at a time, for the same reason."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit code."""
    return run_worker(ROLE, __doc__, serve, argv)


def serve(settings: Settings, owner: str) -> int:
    """Load, consume, drain. Raises ConfigError, and ServiceError while starting."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    with ExitStack() as stack:
        db = open_ready(settings)
        stack.callback(db.close)
        working = Working()
        heartbeat = Heartbeat(db, new_row(owner, ROLE), working, lease_s=settings.lease_seconds)
        heartbeat.start()
        stack.callback(heartbeat.stop)
        stack.callback(release, db, owner)
        scorer = load_scorer(settings)
        stack.callback(scorer.close)
        pool = stack.enter_context(DecoderPool.from_settings(settings))
        pool.warm()  # ready means ready: the first picture does not wait for children to start
        producer = Producer(settings.broker)
        stack.callback(producer.close)
        waker = Waker(settings.redis)
        stack.callback(waker.close)
        runtime = ImageRuntime(
            db=db,
            blobs=open_blobs(settings.blobs, endpoint=settings.s3_endpoint),
            analyser=Analyser(scorer, pool, settings),
            waker=waker,
            producer=producer,
            owner=owner,
            models=scorer.models,
            device=scorer.device,
            lease_s=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            lot=Lot.from_settings(settings),
        )
        scoring = ScoreRuntime(
            db=db,
            packs=open_packs(settings.packs),
            scorer=scorer,
            producer=producer,
            owner=owner,
            lease_s=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            ahead=settings.video_chunks_ahead,
        )
        hands = Hands("scorer", SCORERS, Scoring(scoring, working).once)

        queue = RedisLiveQueue(settings.redis)
        stack.callback(queue.close)
        live = LiveScoring(queue, scorer)
        drained = threading.Event()
        lives = [
            vital(f"live-scorer-{number}", partial(live.run, drained))
            for number in range(LIVE_SCORERS)
        ]

        def image(job_id: str) -> None:
            with working.on(job_id):
                run_image(job_id, runtime)

        def stopping() -> None:
            drained.set()
            hands.stop()
            heartbeat.report("stopping")

        consumer = Consumer(
            make_app(settings),
            producer,
            name=owner,
            queue=INFER,
            concurrency=settings.worker_concurrency,
            handlers={
                IMAGE: image,
                SCORE: lambda _chunk: hands.poke(),
            },
            on_ready=lambda: heartbeat.report(
                "ready",
                device=scorer.device,
                precision=scorer.precision,
                models=scorer.describe(),
            ),
            on_stopping=stopping,
            on_abandon=lambda: abandon(db, owner, heartbeat),
        )
        watch(scorer, settings.infer_timeout, db, owner)
        on_stop_signals(consumer.stop)
        if stop.is_set():
            return EXIT_OK
        hands.start()
        for thread in lives:
            thread.start()
        consumer.run()
        drained.set()
        for thread in lives:
            thread.join(DRAIN_S)
        end_hands(hands, lambda: abandon(db, owner, heartbeat))
        return EXIT_OK if consumer.stopping else EXIT_FAILED


def watch(scorer: Scorer, limit_s: float, db: Database, owner: str) -> None:
    """End the process when a forward pass hangs: threads cannot be stopped otherwise."""

    def look() -> None:
        # An Event that nobody sets: a wait with an end, in a daemon thread.
        pause = threading.Event()
        while not pause.wait(WATCH_S):
            seconds = scorer.oldest_running_s
            if seconds > limit_s:
                log.critical("a forward pass runs for %.1f s: starting again", seconds)
                release(db, owner)
                exit_now(EXIT_HUNG)

    vital("watchdog", look).start()


if __name__ == "__main__":
    sys.exit(main())
