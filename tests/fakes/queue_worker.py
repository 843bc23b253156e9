"""A consumer of the infer queue that does nothing but print the ids it is handed.

    python queue_worker.py HOME BROKER_URL [SECONDS_PER_JOB [deaf]]

Prints `ready`, then one line `job <id>` for each message. A deaf one believes that it consumes,
and takes nothing: what Celery has done after a restart of the broker.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from moderation.settings import load_settings
from moderation.tasks.app import make_app
from moderation.tasks.enqueue import Producer
from moderation.tasks.messages import IMAGE, INFER
from workers import consumer as consuming
from workers.consumer import Consumer
from workers.process import on_stop_signals, set_up_logging

# A message that is under way to it is waited for, however busy the machine.
consuming.IDLE_GRACE_S = 20.0  # type: ignore[misc]


class Deaf(Consumer):
    def _ready(self, consumer: Any) -> None:
        consumer.task_consumer.cancel()
        super()._ready(consumer)


def main() -> None:
    settings = load_settings(home=Path(sys.argv[1]), broker_url=sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    set_up_logging(settings, "fake")

    def run(job_id: str) -> None:
        threading.Event().wait(seconds)
        say(f"job {job_id}")

    kind = Deaf if sys.argv[4:] == ["deaf"] else Consumer
    consumer = kind(
        make_app(settings),
        Producer(settings.broker),
        name="fake",
        queue=INFER,
        concurrency=4,
        handlers={IMAGE: run},
        on_ready=lambda: say("ready"),
        on_stopping=lambda: say("stopping"),
        on_abandon=lambda: say("abandoned"),
    )
    on_stop_signals(consumer.stop)
    consumer.run()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
