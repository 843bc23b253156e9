"""The media worker: callbacks and the sweeper. It loads no models."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from moderation.settings import Settings
from moderation.tasks.app import make_app
from moderation.tasks.deliver import Deliverer
from moderation.tasks.enqueue import Producer
from moderation.tasks.messages import DELIVER, LIGHT
from moderation.tasks.sweep import Sweeper
from moderation.wake import Waker
from workers.consumer import Consumer
from workers.heartbeat import Heartbeat, new_row
from workers.process import (
    EXIT_FAILED,
    EXIT_OK,
    on_stop_signals,
    open_ready,
    run_worker,
    vital,
)

log = logging.getLogger(__name__)

ROLE: Final = "media"
CONCURRENCY: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit code."""
    return run_worker(ROLE, __doc__, serve, argv)


def serve(settings: Settings, name: str) -> int:
    """Sweep, deliver and consume until stopped. Raises ConfigError, ServiceError."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    with ExitStack() as stack:
        db = open_ready(settings)
        stack.callback(db.close)
        heartbeat = Heartbeat(db, new_row(name, ROLE))
        heartbeat.start()
        stack.callback(heartbeat.stop)
        producer = Producer(settings.broker)
        stack.callback(producer.close)
        deliverer = Deliverer(db, settings)
        stack.callback(deliverer.close)
        waker = Waker(settings.redis)
        stack.callback(waker.close)
        sweeper = Sweeper(db, producer, waker, settings, on_swept=deliverer.poke)
        loops = [
            vital(label, partial(loop, stop))
            for label, loop in (("sweeper", sweeper.run), ("deliverer", deliverer.run))
        ]
        for thread in loops:
            thread.start()
        consumer = Consumer(
            make_app(settings),
            producer,
            name=name,
            queue=LIGHT,
            concurrency=CONCURRENCY,
            handlers={DELIVER: lambda _job_id: deliverer.poke()},
            on_ready=lambda: heartbeat.report("ready"),
            on_stopping=lambda: heartbeat.report("stopping"),
            on_abandon=heartbeat.stop,
        )
        on_stop_signals(consumer.stop)
        if stop.is_set():
            return EXIT_OK
        consumer.run()
        stop.set()
        deliverer.poke()
        for thread in loops:
            thread.join(settings.sweep_seconds)
        return EXIT_OK if consumer.stopping else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
