"""Playlists of HLS on their way to ffmpeg, which speaks plain HTTP to the checking proxy alone.

An https address in a playlist is written as `http://host:port`, and the proxy remembers that this
host and port speak TLS. Addresses of any other kind make the whole playlist refused. That is for a
clear reason and for https: what slips through reaches nothing, since ffmpeg's whitelist knows no
protocol but http, and http goes through the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin

from moderation import reach
from moderation.live.address import bracketed
from moderation.reach import forbidden

FIRST_LINE = b"#EXTM3U"
"""ffmpeg takes nothing for a playlist that does not begin so."""

Origin = tuple[str, int]
"""Host (lower case, ASCII) and port."""

_SCHEME = re.compile(r"([A-Za-z0-9+.-]+)(?:,[^/?#]*)?:")
"""With options after a comma, as ffmpeg has them: `subfile,,start,0,end,9,,:path`."""

_ATTRIBUTE = re.compile(r'(?<![A-Z0-9-])URI="([^"]*)"')
_LINES = re.compile(r"([\r\n\0])")


def plain(url: str, base: str) -> tuple[str, Origin | None]:
    """A URL as ffmpeg is to have it, and the origin that speaks TLS if it is an https one.

    base: the absolute URL of what names it. A URL relative to its own host stays as it is. Raises
    FetchError fetch_forbidden: no http or https, or a host that cannot be used.
    """
    if url.startswith("//"):
        url = urljoin(base, url)
    found = _SCHEME.match(url)
    if found is None:
        return url, None
    scheme = found[1].lower()
    if scheme not in ("http", "https"):
        raise forbidden(f"the stream refers to an address of the kind {scheme[:20]!r}")
    parts = reach.split(url.replace(" ", "%20"))
    host, port = reach.host_and_port(parts)
    port = port or (443 if scheme == "https" else 80)
    who, mark, _ = parts.netloc.rpartition("@")
    rest = parts._replace(scheme="", netloc="", fragment="").geturl()
    made = f"http://{who}{mark}{bracketed(host)}:{port}{rest}"
    return made, (host, port) if scheme == "https" else None


def is_finished(playlist: bytes) -> bool:
    """Whether a playlist says that nothing more comes."""
    return b"#EXT-X-ENDLIST" in re.split(rb"[\r\n\0]", playlist)


def rewritten(playlist: bytes, base: str, speaks_tls: Callable[[Origin], object]) -> bytes:
    """The playlist as ffmpeg is to have it; `speaks_tls` is told every origin of an https address.

    base: its own absolute URL. Raises FetchError fetch_forbidden as `plain` does.
    """

    def one(url: str) -> str:
        made, origin = plain(url, base)
        if origin is not None:
            speaks_tls(origin)
        return made

    # Byte by byte the same where nothing is changed, whatever the encoding; ends of lines as
    # ffmpeg has them.
    parts = _LINES.split(playlist.decode("latin-1"))
    for index, line in enumerate(parts):
        if line.startswith("#EXT"):
            parts[index] = _ATTRIBUTE.sub(lambda found: f'URI="{one(found[1])}"', line)
        elif line.strip() and not line.startswith("#"):
            parts[index] = one(line.rstrip())
    return "".join(parts).encode("latin-1")
