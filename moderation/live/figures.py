"""What a supervisor counts, for `/metrics`."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis
from pydantic import TypeAdapter, ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import BrokerError

BUCKETS_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram of seconds from a frame's capture to its alert."""

PREFIX: Final = "moderation.live.figures:"
KEPT_S: Final = 15
"""Figures of a supervisor that says nothing for so long are gone."""
TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one supervisor, since it started, but for what is said to be of now.

    scored, dropped: frames. alerts: how many were opened within each of BUCKETS_S and above all of
    them (not summed up); alert_s: the sum of their seconds. streams, under_way (packs), age_s (of
    the oldest frame that waits), share (of the frames that were scored lately, 0 to 1): of now.
    """

    scored: int
    dropped: int
    alerts: tuple[int, ...]
    alert_s: float
    streams: int = 0
    under_way: int = 0
    age_s: float = 0.0
    share: float = 1.0


class Counting:
    """Counts up. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scored = self._dropped = 0
        self._alerts = [0] * (len(BUCKETS_S) + 1)
        self._alert_s = 0.0

    def frames(self, *, scored: int = 0, dropped: int = 0) -> None:
        with self._lock:
            self._scored += scored
            self._dropped += dropped

    def alert(self, seconds: float) -> None:
        """One was opened so long after its frame had been captured."""
        with self._lock:
            self._alerts[bisect_left(BUCKETS_S, seconds)] += 1
            self._alert_s += seconds

    def figures(
        self, *, streams: int, under_way: int, age_s: float, share: float, overtaken: int
    ) -> Figures:
        """overtaken: frames that were dropped before they were sent."""
        with self._lock:
            return Figures(
                self._scored,
                self._dropped + overtaken,
                tuple(self._alerts),
                self._alert_s,
                streams,
                under_way,
                age_s,
                share,
            )


_CODEC = TypeAdapter(Figures)


class FigureStore:
    """The figures of all supervisors, on the broker's Redis: they write, gateways read.

    `redis_url`: as redis-py spells it. Thread-safe. Methods raise BrokerError.
    """

    def __init__(self, redis_url: str) -> None:
        self._client: Any = redis.Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def write(self, worker: str, figures: Figures) -> None:
        """In place of what that supervisor said before."""
        try:
            self._client.set(PREFIX + worker, _CODEC.dump_json(figures), ex=KEPT_S)
        except (redis.RedisError, OSError) as error:
            raise BrokerError("the broker does not take figures") from error

    def read(self) -> Mapping[str, Figures]:
        """By supervisor. Those of another version are left out."""
        try:
            names = sorted(self._client.scan_iter(match=f"{PREFIX}*", count=1000))
            values = self._client.mget(names) if names else []
        except (redis.RedisError, OSError) as error:
            raise BrokerError("the broker does not give figures") from error
        found = {}
        for name, value in zip(names, values, strict=True):
            figures = _read(value)
            if figures is not None:
                found[name.decode().removeprefix(PREFIX)] = figures
        return found

    def close(self) -> None:
        self._client.close()


def _read(value: bytes | None) -> Figures | None:
    if value is None:  # it ran out meanwhile
        return None
    try:
        figures = _CODEC.validate_json(value)
    except ValidationError:
        return None
    return figures if len(figures.alerts) == len(BUCKETS_S) + 1 else None
