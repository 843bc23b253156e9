"""Limits on bytes and on requests, held before any of the work is done."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.errors import LimitError, OverloadedError

ROUNDING = 1e-6
"""Tokens that floating point may lose."""


class BodyGuard:
    """ASGI middleware: no route reads more of a body than `cap_of(path)` bytes, or waits longer
    than `stall_s` seconds for the next of them.

    Counts while the body streams in, so that a chunked body without a length, or one that
    lies about it, is cut as well. Both are raised out of `receive` as LimitError (413, 408),
    which the problem handlers answer; a route that reads no body is not disturbed.
    """

    def __init__(self, app: ASGIApp, *, cap_of: Callable[[str], int], stall_s: float) -> None:
        self._app = app
        self._cap_of = cap_of
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cap = self._cap_of(scope["path"])
        seen = 0
        too_long = declared_length(scope) > cap
        complete = False

        async def guarded() -> Message:
            nonlocal seen, complete
            if too_long:  # told by the header: refuse before the first byte is read
                raise too_large(cap)
            if complete:  # what comes next is that the client leaves, whenever it does
                return await receive()
            try:
                async with asyncio.timeout(self._stall_s):
                    message = await receive()
            except TimeoutError as error:
                raise _stalled(self._stall_s) from error
            complete = not message.get("more_body", False)
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > cap:
                    raise too_large(cap)
            return message

        await self._app(scope, guarded, send)


def declared_length(scope: Scope) -> int:
    """The Content-Length of a request; 0 when there is none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def too_large(cap: int) -> LimitError:
    """The error for a body of more than `cap` bytes."""
    return LimitError(f"The body is larger than {cap} bytes.", code="too_large")


def _stalled(seconds: float) -> LimitError:
    return LimitError(f"Nothing of the body came for {seconds:g} s.", code="upload_stalled")


class UploadRoom:
    """Room for the bodies that one process takes in at the same time: `size` bytes together.

    Used in its event loop alone.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Keep room for a body of at most `count` bytes (one that is larger than all of it
        takes all of it). Raises OverloadedError."""
        needed = min(count, self._size)
        if needed > self._free:
            raise OverloadedError("Too many uploads at once; try again later.")
        self._free -= needed
        try:
            yield
        finally:
            self._free += needed


class Readers:
    """Places for those who read events, of one process: no tenant may have more than
    `of_one_tenant` of them. Used in its event loop alone."""

    def __init__(self, at_most: int, of_one_tenant: int) -> None:
        self._free = at_most
        self._of_one_tenant = of_one_tenant
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Take a place. Raises OverloadedError."""
        if self._free <= 0 or self._taken[tenant] >= self._of_one_tenant:
            raise OverloadedError("Too many read events at once; try again later.")
        self._free -= 1
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._free += 1
            self._taken[tenant] -= 1
            self._taken += Counter()  # forgets those who have none


class RateLimitedError(LimitError):
    """Too many requests of one key. The headers tell when the next one is welcome."""

    code = "rate_limited"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left. `reset_s`: seconds until one more request is allowed (refused) or
    until the full allowance is back (allowed)."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        head = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return head if self.allowed else head | {"Retry-After": str(self.reset_s)}


class RateLimiter:
    """A token bucket per key: `per_minute` requests at once, refilled evenly.

    Per gateway process; used in its event loop alone. 0 means no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def enabled(self) -> bool:
        return self._limit > 0

    def take(self, key: str, now: float, cost: int = 1) -> Allowance:
        """Take `cost` tokens of the key's bucket. `now`: monotonic seconds.

        A cost above what is left takes nothing and is refused. One that no bucket could ever
        hold beside the request that brought it counts as all but one of the tokens, so that a
        large batch is delayed and never shut out.
        """
        rate = self._limit / 60.0
        tokens, then = self._buckets.get(key, (float(self._limit), now))
        tokens = min(float(self._limit), tokens + (now - then) * rate)
        needed = min(cost, max(1, self._limit - 1))
        allowed = tokens + ROUNDING >= needed
        if allowed:
            tokens = max(0.0, tokens - needed)
        self._buckets[key] = (tokens, now)
        missing = self._limit - tokens if allowed else needed - tokens
        wait = math.ceil(missing / rate - ROUNDING)
        return Allowance(allowed, self._limit, int(tokens + ROUNDING), wait)
