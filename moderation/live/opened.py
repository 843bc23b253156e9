"""A stream's URL as a source that attempts open: checked anew each time, through the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moderation.errors import ConfigError, FetchError
from moderation.live import trust
from moderation.live.follow import Opening, Told
from moderation.live.proxy import Pass
from moderation.live.proxy_thread import ProxyThread
from moderation.live.reader import ReaderEnd
from moderation.live.source import Transport, plan
from moderation.live.told import ended, explained
from moderation.reach import Resolver, system_resolver
from moderation.settings import Settings


class UrlSource:
    """The source of one stream. proxy: one for all streams of a process; HTTP goes through it.
    transport: of RTSP. program: ffmpeg, which is tried out before it may read some sources."""

    def __init__(
        self,
        url: str,
        settings: Settings,
        proxy: ProxyThread,
        *,
        transport: Transport = "tcp",
        program: str | None = None,
        resolve: Resolver = system_resolver,
    ) -> None:
        self._url = url
        self._settings = settings
        self._proxy = proxy
        self._transport: Transport = transport
        self._program = program
        self._resolve = resolve

    @contextmanager
    def open(self, attempt: int) -> Iterator[Opening]:
        """As `follow.Source`. Names move, so each attempt resolves and checks them again."""
        found = plan(
            self._url,
            self._settings,
            transport=self._transport,
            attempt=attempt,
            resolve=self._resolve,
        )
        if self._program is not None:
            try:
                trust.check(found, self._program)
            except ConfigError as error:
                raise FetchError(error.message, code="fetch_forbidden") from error
        if not found.proxied:
            yield Opening(found.input_arguments(), lambda end: _told(end, None))
            return
        gate = self._proxy.admit(found)
        try:
            yield Opening(found.input_arguments(gate.url), lambda end: _told(end, gate))
        finally:
            self._proxy.revoke(gate)


def _told(end: ReaderEnd, gate: Pass | None) -> Told:
    reason = ended(end.reason, gate, frames=end.frames)
    return Told(reason, explained(reason, gate))
