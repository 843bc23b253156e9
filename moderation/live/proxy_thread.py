"""The checking proxy for programs without an event loop: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

from moderation.errors import ServiceError
from moderation.live.proxy import CheckingProxy, Pass, ProxyLimits
from moderation.live.source import SourcePlan
from moderation.reach import Resolver, system_resolver

CLOSE_S = 10.0
T = TypeVar("T")


class ProxyThread:
    """A running `CheckingProxy`. Use as a context manager: leaving it ends all connections.

    One serves all streams of a process; its methods may be called from any thread. Raises
    ServiceError where it cannot listen.
    """

    def __init__(
        self,
        allow: Sequence[str],
        *,
        limits: ProxyLimits | None = None,
        resolve: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._proxy = CheckingProxy(allow, limits=limits, resolve=resolve, tls=tls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="stream-proxy", daemon=True)
        self._thread.start()
        try:
            self._call(self._proxy.start())
        except OSError as error:
            self._stop()
            raise ServiceError(f"the proxy of live streams cannot listen: {error}") from error

    @property
    def port(self) -> int:
        return self._proxy.port

    def admit(self, plan: SourcePlan) -> Pass:
        """A pass for one attempt at this source."""

        async def admit() -> Pass:
            return self._proxy.admit(plan)

        return self._call(admit())

    def revoke(self, gone: Pass) -> None:
        """End the connections of a pass; its token is worth nothing from now on."""
        self._call(self._proxy.revoke(gone))

    def close(self) -> None:
        """End all connections. May be called twice."""
        if not self._loop.is_closed():
            self._call(self._proxy.close())
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLOSE_S)

    def _stop(self) -> None:
        """Names that are being resolved are left to their own time limit."""
        self._call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()
