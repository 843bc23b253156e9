"""The infer worker: all models of one device, image jobs from the queue.

The runtime is complete before the first message is taken: a missing or corrupt weight file
ends the process with exit code 2 and one line that says how to mend it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from moderation.analyse import Analyser
from moderation.blobs import open_blobs
from moderation.decoders import DecoderPool
from moderation.errors import ServiceError
from moderation.models.runner import Scorer, load_scorer
from moderation.settings import Settings
from moderation.store import jobs
from moderation.store.engine import Database
from moderation.tasks.app import make_app
from moderation.tasks.enqueue import Producer
from moderation.tasks.image import ImageRuntime, run_image
from moderation.tasks.messages import IMAGE, INFER
from moderation.wake import Waker
from workers.consumer import Consumer
from workers.heartbeat import Heartbeat, new_row
from workers.process import (
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
        heartbeat = Heartbeat(db, new_row(owner, ROLE), lease_s=settings.lease_seconds)
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
        )
        consumer = Consumer(
            make_app(settings),
            producer,
            name=owner,
            queue=INFER,
            concurrency=settings.worker_concurrency,
            handlers={IMAGE: lambda job_id: run_image(job_id, runtime)},
            on_ready=lambda: heartbeat.report(
                "ready",
                device=scorer.device,
                precision=scorer.precision,
                models=scorer.describe(),
            ),
            on_stopping=lambda: heartbeat.report("stopping"),
            on_abandon=lambda: abandon(db, owner, heartbeat),
        )
        watch(scorer, settings.infer_timeout, db, owner)
        on_stop_signals(consumer.stop)
        if stop.is_set():
            return EXIT_OK
        consumer.run()
        return EXIT_OK if consumer.stopping else EXIT_FAILED


def release(db: Database, owner: str) -> None:
    """Give all leases of this worker back."""
    try:
        released = jobs.release_owner(db, owner)
    except ServiceError as error:
        log.warning("leases run out by themselves: %s", error)
        return
    if released:
        log.warning("%d unfinished jobs given back", released)


def abandon(db: Database, owner: str, heartbeat: Heartbeat) -> None:
    """What is still to be said before the process ends with work unfinished."""
    heartbeat.stop()
    release(db, owner)


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
