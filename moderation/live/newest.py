"""The newest frame of each live stream, veiled, for those who look at the wall."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import BrokerError

PREFIX: Final = "moderation.live.newest:"
KEPT_S: Final = 60
"""What is older shows nothing of a stream that is live."""
MAX_BYTES: Final = 16 * 1024
TIMEOUT_S: Final = 2.0
_CAPTURED: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class NewestFrame:
    """captured_ms: UTC, since 1970. picture: WebP, at most MAX_BYTES, without detail."""

    captured_ms: int
    picture: bytes


class NewestStore:
    """One frame a stream, on the broker's Redis: supervisors write, gateways read.

    Of a stream nobody watches any more nothing is left after KEPT_S. `redis_url`: as redis-py
    spells it. Thread-safe. Methods raise BrokerError.
    """

    def __init__(self, redis_url: str) -> None:
        self._client: Any = redis.Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def write(self, frames: Mapping[str, NewestFrame]) -> None:
        """By stream, in place of those before. Larger ones than MAX_BYTES are left out."""
        fitting = {key: one for key, one in frames.items() if len(one.picture) <= MAX_BYTES}
        if not fitting:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for stream, one in fitting.items():
                    value = _CAPTURED.pack(one.captured_ms) + one.picture
                    pipeline.set(PREFIX + stream, value, ex=KEPT_S)
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise BrokerError("the broker does not take frames of streams") from error

    def captured(self, streams: Sequence[str]) -> Mapping[str, int]:
        """When the newest frame of each was captured, in milliseconds; without those that have
        none."""
        if not streams:
            return {}
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for stream in streams:
                    pipeline.getrange(PREFIX + stream, 0, _CAPTURED.size - 1)
                heads = pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise BrokerError("the broker does not give frames of streams") from error
        return {
            stream: _CAPTURED.unpack(head)[0]
            for stream, head in zip(streams, heads, strict=True)
            if len(head) == _CAPTURED.size
        }

    def read(self, stream: str) -> NewestFrame | None:
        """None: there is none any more."""
        try:
            value = self._client.get(PREFIX + stream)
        except (redis.RedisError, OSError) as error:
            raise BrokerError("the broker does not give frames of streams") from error
        if value is None or len(value) <= _CAPTURED.size:
            return None
        return NewestFrame(_CAPTURED.unpack(value[: _CAPTURED.size])[0], value[_CAPTURED.size :])

    def close(self) -> None:
        self._client.close()
