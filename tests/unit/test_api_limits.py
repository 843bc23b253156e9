"""Body cap, rate limit, cached values: the pure or nearly pure parts of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from api.cached import Cached
from api.limits import BodyGuard, RateLimiter, Readers
from moderation.errors import LimitError, OverloadedError


def run_capped(cap: int, chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> bytes:
    """What an app behind the cap reads of a body."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ] + [{"type": "http.request", "body": b"", "more_body": False}]
    got = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        while True:
            message = await receive()
            got += message["body"]
            if not message["more_body"]:
                return

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    capped = BodyGuard(app, cap_of=lambda path: cap, stall_s=30)
    asyncio.run(capped({"type": "http", "path": "/", "headers": headers}, receive, send))
    return got


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(min_value=0, max_value=60))
def test_a_chunked_body_is_cut_exactly_above_the_cap(chunks: list[bytes], cap: int) -> None:
    body = b"".join(chunks)
    if len(body) > cap:
        with pytest.raises(LimitError):
            run_capped(cap, chunks, [])
    else:
        assert run_capped(cap, chunks, []) == body


def test_a_declared_length_above_the_cap_is_refused_before_reading() -> None:
    with pytest.raises(LimitError, match="larger than 10 bytes"):
        run_capped(10, [], [(b"content-length", b"11")])


def test_a_lying_length_is_still_counted() -> None:
    with pytest.raises(LimitError):
        run_capped(10, [b"x" * 11], [(b"content-length", b"3")])


def test_other_scopes_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def drop(message: Message) -> None:
        del message

    guarded = BodyGuard(app, cap_of=lambda path: 0, stall_s=30)
    asyncio.run(guarded({"type": "lifespan"}, nothing, drop))
    assert seen == ["lifespan"]


def test_silence_ends_a_body_and_nothing_after_it() -> None:
    started = {"type": "http.request", "body": b"x", "more_body": True}
    ended = {"type": "http.request", "body": b"", "more_body": False}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/whole":
            await receive()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0.3)  # whether the client leaves
            return
        with pytest.raises(LimitError, match=r"came for 0\.05 s") as caught:
            await receive()
        assert caught.value.code == "upload_stalled"

    async def drop(message: Message) -> None:
        del message

    async def run(path: str, *messages: Message) -> None:
        sent: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            sent.put_nowait(message)
        guarded = BodyGuard(app, cap_of=lambda path: 9, stall_s=0.05)
        await guarded({"type": "http", "path": path, "headers": []}, sent.get, drop)

    asyncio.run(run("/", started))
    asyncio.run(run("/whole", started, ended))


def test_no_tenant_has_all_places_of_readers() -> None:
    readers = Readers(3, 2)
    with readers.hold("a"), readers.hold("a"):
        with pytest.raises(OverloadedError), readers.hold("a"):
            pass
        with readers.hold("b"), pytest.raises(OverloadedError), readers.hold("c"):
            pass
        with readers.hold("c"):
            pass
    with readers.hold("a"):
        pass


def test_a_bucket_empties_and_refills_evenly() -> None:
    limiter = RateLimiter(60)
    assert all(limiter.take("a", 0.0).allowed for _ in range(60))
    refused = limiter.take("a", 0.0)
    assert (refused.allowed, refused.remaining, refused.reset_s) == (False, 0, 1)
    assert refused.headers()["Retry-After"] == "1"
    assert limiter.take("b", 0.0).allowed, "keys do not share a bucket"
    assert limiter.take("a", 1.0).allowed
    assert not limiter.take("a", 1.0).allowed


def test_a_batch_larger_than_the_limit_needs_a_full_bucket() -> None:
    limiter = RateLimiter(10)
    for now in (0.0, 60.0):
        assert limiter.take("a", now).allowed, "the request itself"
        assert limiter.take("a", now, cost=49).allowed, "its other parts"
        assert not limiter.take("a", now + 1.0, cost=49).allowed


@given(
    st.integers(min_value=1, max_value=600),
    st.lists(st.floats(min_value=0.0, max_value=5.0), min_size=1, max_size=200),
)
def test_never_more_than_the_limit_and_its_refill(limit: int, gaps: list[float]) -> None:
    limiter, now, taken = RateLimiter(limit), 0.0, 0
    for gap in gaps:
        now += gap
        allowance = limiter.take("k", now)
        taken += allowance.allowed
        assert 0 <= allowance.remaining <= limit
    assert taken <= limit + now * limit / 60.0 + 1e-6


def test_a_refusal_says_when_the_next_request_is_welcome() -> None:
    limiter = RateLimiter(7)
    while (allowance := limiter.take("k", 0.0)).allowed:
        pass
    assert limiter.take("k", float(allowance.reset_s)).allowed


def cached_with(clock: Callable[[], float]) -> tuple[Cached[int], list[int]]:
    reads: list[int] = []

    def read() -> int:
        reads.append(len(reads))
        return len(reads)

    return Cached(read, 1.0, clock), reads


def test_a_cached_value_is_read_again_only_when_it_is_old() -> None:
    now = 0.0
    cached, reads = cached_with(lambda: now)
    assert [cached.get(), cached.get()] == [1, 1]
    now = 1.0
    assert cached.get() == 2
    assert len(reads) == 2


def test_an_error_is_not_kept() -> None:
    answers: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 5]
    cached = Cached(lambda: answers.pop(0)(), 60.0)
    with pytest.raises(ZeroDivisionError):
        cached.get()
    assert cached.get() == 5
