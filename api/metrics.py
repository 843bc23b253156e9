"""Prometheus metrics of one gateway process: one registry per app, nothing global."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.live_metrics import LiveMetrics
from moderation.live.figures import Figures
from moderation.store.live_records import StreamCount
from moderation.store.records import JobState
from moderation.types import StreamState

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The instruments. Counting is thread-safe."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "moderation_http_request_seconds",
            "Time from a request's head to the end of its answer, waits included",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._accept = Histogram(
            "moderation_ingest_seconds",
            "Time to check, hash, store and submit one picture, or one video that has come in",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._unpublished = Counter(
            "moderation_unpublished_jobs",
            "Jobs that this gateway could not publish; the sweeper does it later",
            registry=self.registry,
        )
        self.waits = Gauge(
            "moderation_waits_in_flight",
            "Requests that wait for a verdict at this moment",
            registry=self.registry,
        )
        self.readers = Gauge(
            "moderation_event_readers",
            "Requests that read events as they come, at this moment",
            registry=self.registry,
        )
        self._streams = Gauge(
            "moderation_streams", "Live streams, by state", ["state"], registry=self.registry
        )
        self._unwatched = Gauge(
            "moderation_streams_unwatched",
            "Live streams that are to be watched and that no supervisor holds",
            registry=self.registry,
        )
        self._live = LiveMetrics(self.registry)
        self._jobs = Gauge(
            "moderation_jobs", "Jobs in the database, by state", ["state"], registry=self.registry
        )
        self._chunks = Gauge(
            "moderation_chunks",
            "Parts of videos that wait for their turn, are to be read, are to be scored",
            ["stage"],
            registry=self.registry,
        )
        self._oldest = Gauge(
            "moderation_queue_age_seconds",
            "Age of the oldest job that waits; 0 when none does",
            registry=self.registry,
        )
        self._callbacks = Gauge(
            "moderation_callbacks",
            "Callbacks that wait for their delivery, and those that were given up",
            ["state"],
            registry=self.registry,
        )
        self._workers = Gauge(
            "moderation_infer_workers", "Infer workers that are ready", registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).observe(seconds)

    def accepted(self, seconds: float) -> None:
        self._accept.observe(seconds)

    def unpublished(self) -> None:
        self._unpublished.inc()

    def observe_queue(
        self,
        counts: Mapping[JobState, int],
        oldest_s: float,
        callbacks: Mapping[str, int],
        chunks: Mapping[str, int],
        workers: int,
    ) -> None:
        """What a scrape reads from the database."""
        for state in JobState:
            self._jobs.labels(state.value).set(counts.get(state, 0))
        self._oldest.set(oldest_s)
        for name, number in callbacks.items():
            self._callbacks.labels(name).set(number)
        for stage, number in chunks.items():
            self._chunks.labels(stage).set(number)
        self._workers.set(workers)

    def observe_streams(
        self,
        counts: Mapping[StreamState, int],
        unwatched: int,
        figures: Mapping[str, Figures],
        running: Sequence[StreamCount],
    ) -> None:
        """The same of live streams. figures: by supervisor. running: those that are not over."""
        self._live.observe(figures, running)
        self._unwatched.set(unwatched)
        for state in StreamState:
            self._streams.labels(state.value).set(counts.get(state, 0))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
