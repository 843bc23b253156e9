"""What supervisors of live streams count, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from moderation.live.figures import BUCKETS_S, Figures
from moderation.store.live_records import StreamCount

WORKER = ["worker"]
STREAM = ["stream"]


class LiveMetrics(Collector):
    """Tells the figures that it was given last, each with its supervisor as a label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._figures: Mapping[str, Figures] = {}
        self._streams: Sequence[StreamCount] = ()
        registry.register(self)

    def observe(self, figures: Mapping[str, Figures], streams: Sequence[StreamCount]) -> None:
        """figures: by supervisor."""
        self._figures, self._streams = figures, streams

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        figures = self._figures
        frames = CounterMetricFamily(
            "moderation_live_frames",
            "Frames of live streams that were scored, and that were dropped",
            labels=[*WORKER, "outcome"],
        )
        alerts = HistogramMetricFamily(
            "moderation_live_alert_seconds",
            "Time from the capture of a frame to the alert that it opened",
            labels=WORKER,
        )
        for worker, one in figures.items():
            frames.add_metric([worker, "scored"], one.scored)
            frames.add_metric([worker, "dropped"], one.dropped)
            alerts.add_metric([worker], _buckets(one.alerts), one.alert_s)
        yield frames
        yield alerts
        yield _gauge(
            "moderation_live_streams",
            "Streams that a supervisor watches",
            ((worker, one.streams) for worker, one in figures.items()),
        )
        yield from _by_stream(self._streams, datetime.now(UTC))
        yield _gauge(
            "moderation_live_queue_age_seconds",
            "Age of the oldest frame that waits to be sent to the models; 0 when none does",
            ((worker, one.age_s) for worker, one in figures.items()),
        )
        yield _gauge(
            "moderation_live_packs_under_way",
            "Packs of frames that were sent to the models and are not back",
            ((worker, one.under_way) for worker, one in figures.items()),
        )
        yield _gauge(
            "moderation_live_scored_share",
            "Share of the frames that could be scored lately; below 1 the machine is short",
            ((worker, one.share) for worker, one in figures.items()),
        )


def _by_stream(
    streams: Sequence[StreamCount], now: datetime
) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
    frames = CounterMetricFamily(
        "moderation_live_stream_frames", "Frames that each stream gave", labels=STREAM
    )
    dropped = CounterMetricFamily(
        "moderation_live_stream_dropped",
        "Frames of each stream that were not looked at, for want of time",
        labels=STREAM,
    )
    reconnects = CounterMetricFamily(
        "moderation_live_stream_reconnects",
        "How often each stream had to be opened anew",
        labels=STREAM,
    )
    for one in streams:
        frames.add_metric([one.id], one.seen)
        dropped.add_metric([one.id], one.dropped)
        reconnects.add_metric([one.id], one.reconnects)
    yield from (frames, dropped, reconnects)
    ages = ((x.id, (now - x.last_frame).total_seconds()) for x in streams if x.last_frame)
    yield _gauge(
        "moderation_live_stream_frame_age_seconds",
        "Time since the newest frame of each stream that was scored was captured",
        ((id_, max(0.0, age_s)) for id_, age_s in ages),
        STREAM,
    )


def _gauge(
    name: str, text: str, values: Iterable[tuple[str, float]], labels: Sequence[str] = WORKER
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values:
        family.add_metric([label], value)
    return family


def _buckets(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """Summed up, as Prometheus wants them."""
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    return [(bound, float(sum_)) for bound, sum_ in zip(bounds, accumulate(counts), strict=True)]
