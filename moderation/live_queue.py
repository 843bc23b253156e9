"""Frames of live streams on their way to the models, and their scores on the way back.

They have a queue of their own on the broker's Redis, and nothing of it is made to last: what is
past its deadline helps nobody, and the next frame comes in a second. So no message is kept for
longer than that, none is sent twice, and the database knows nothing of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, TypeVar

import redis
from pydantic import TypeAdapter, ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import BrokerError
from moderation.types import LabelScore

QUEUE: Final = "moderation.live.asks"
PACK: Final = "moderation.live.pack:"
ANSWERS: Final = "moderation.live.answers:"
KEPT_S: Final = 30
"""Messages that nobody fetched are gone after so long: their reader, or their writer, is dead."""
CONNECT_TIMEOUT_S: Final = 2.0
SOCKET_TIMEOUT_S: Final = 10.0

Peaks = Mapping[str, LabelScore]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """A pack of frames that is to be scored. id: of no other. wait_s: the answer is waited for so
    long, by the broker's clock, which all share: those of two machines need not agree. owner: who
    asks. floors: as of `models.cascade`, for all frames."""

    id: str
    owner: str
    wait_s: float
    floors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """peaks: of each frame of the pack, in its order; None: it could not be scored."""

    id: str
    peaks: Sequence[Peaks | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask that somebody took. left_s: the answer is waited for so much longer. pack: None: it is
    gone, as the time is over or somebody else took it."""

    ask: Ask
    left_s: float
    pack: bytes | None


_ASK = TypeAdapter(Ask)
_ANSWER = TypeAdapter(Answer)


class LiveQueue(Protocol):
    """Thread-safe. Every method raises BrokerError when the broker does not answer."""

    def ask(self, ask: Ask, pack: bytes) -> None:
        """Queue a pack."""

    def withdraw(self, ask: Ask) -> None:
        """It is no longer wanted. Nothing happens when it was taken already."""

    def next_ask(self, timeout_s: float) -> Asked | None:
        """The one that waits longest; None after so long (above 0)."""

    def answer(self, owner: str, answer: Answer) -> None:
        """To the one who asked."""

    def next_answer(self, owner: str, timeout_s: float) -> Answer | None:
        """None after so long (above 0)."""

    def waiting(self) -> int:
        """Packs that nobody has taken yet."""


class RedisLiveQueue:
    """`redis_url`: as redis-py spells it (`redis://…`, `unix://…`)."""

    def __init__(self, redis_url: str) -> None:
        self._client: Any = redis.Redis.from_url(
            redis_url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            # A pooled connection may be left over from a server that restarted.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def ask(self, ask: Ask, pack: bytes) -> None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(PACK + ask.id, pack, px=max(1, round(1000 * ask.wait_s)))
            pipe.rpush(QUEUE, _dump(ask))
            pipe.expire(QUEUE, KEPT_S)
            pipe.execute()

    def withdraw(self, ask: Ask) -> None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.lrem(QUEUE, 1, _dump(ask))
            pipe.unlink(PACK + ask.id)
            pipe.execute()

    def next_ask(self, timeout_s: float) -> Asked | None:
        with _broker_errors():
            found = self._client.blpop([QUEUE], timeout=timeout_s)
            if found is None:
                return None
            ask = _load(_ASK, found[1])
            with self._client.pipeline(transaction=True) as pipe:
                pipe.pttl(PACK + ask.id)
                pipe.getdel(PACK + ask.id)
                left_ms, pack = pipe.execute()
            return Asked(ask, max(0, left_ms) / 1000, pack)

    def answer(self, owner: str, answer: Answer) -> None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(ANSWERS + owner, _ANSWER.dump_json(answer))
            pipe.expire(ANSWERS + owner, KEPT_S)
            pipe.execute()

    def next_answer(self, owner: str, timeout_s: float) -> Answer | None:
        with _broker_errors():
            found = self._client.blpop([ANSWERS + owner], timeout=timeout_s)
            return None if found is None else _load(_ANSWER, found[1])

    def waiting(self) -> int:
        with _broker_errors():
            return int(self._client.llen(QUEUE))

    def close(self) -> None:
        self._client.close()


def _dump(ask: Ask) -> bytes:
    """The same bytes for the same ask: `withdraw` finds it by them."""
    return json.dumps(asdict(ask), sort_keys=True).encode()


def _load(codec: TypeAdapter[T], data: bytes) -> T:
    try:
        return codec.validate_json(data)
    except ValidationError as error:
        raise BrokerError("a message about live frames is broken") from error


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerError("the broker does not take or give live frames") from error
