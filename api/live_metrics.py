"""What supervisors of live streams count, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from moderation.live.figures import BUCKETS_S, Figures

WORKER = ["worker"]


class LiveMetrics(Collector):
    """Tells the figures that it was given last, each with its supervisor as a label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._figures: Mapping[str, Figures] = {}
        registry.register(self)

    def observe(self, figures: Mapping[str, Figures]) -> None:
        """By supervisor."""
        self._figures = figures

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


def _gauge(name: str, text: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=WORKER)
    for worker, value in values:
        family.add_metric([worker], value)
    return family


def _buckets(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """Summed up, as Prometheus wants them."""
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    return [(bound, float(sum_)) for bound, sum_ in zip(bounds, accumulate(counts), strict=True)]
