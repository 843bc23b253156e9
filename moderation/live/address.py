"""URLs of live streams, read into their parts, and shown without what is secret in them.

Nothing here asks the network. Names and passwords, and the values of the query (keys and tokens
are there), are kept out of `shown`, of `repr` and of every error.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from moderation import reach
from moderation.reach import forbidden

MAX_URL = 2048
"""Characters of a URL."""

HIDDEN = "***"
SCHEMES = ("rtmp", "rtmps", "rtsp", "rtsps", "http", "https", "srt", "udp")
PORTS = {"rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322, "http": 80, "https": 443}

_PATH = "/%:@!$&'()*+,;=~-._"
_QUERY = _PATH + "?[]"
_SHORT = 4
"""A secret of fewer characters is hidden where it stands alone: it is a part of too many words."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s'\"<>]*)")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization|cookie|set-cookie)\s*:[^\r\n]*")


@dataclass(frozen=True, slots=True, repr=False)
class StreamUrl:
    """A URL of a stream in parts. host: lower case, ASCII. port: 1 to 65535. path and query: as
    they go on the wire, the path with its first slash. user and password: decoded."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    user: str | None = None
    password: str | None = None

    @property
    def shown(self) -> str:
        """What logs, answers and errors may say of it."""
        port = "" if PORTS.get(self.scheme) == self.port else f":{self.port}"
        rest = self.path + (f"?{self.query}" if self.query else "")
        return f"{self.scheme}://{bracketed(self.host)}{port}{_without_values(rest)}"

    @property
    def target(self) -> str:
        """Path and query."""
        return self.path + (f"?{self.query}" if self.query else "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be seen, longest first."""
        found = {self.user or "", self.password or ""}
        if self.user is not None or self.password is not None:
            pair = f"{self.user or ''}:{self.password or ''}"
            found |= {pair, base64.b64encode(pair.encode()).decode()}
        # Values of the query are hidden with their URL; long ones wherever they stand.
        found |= {value for _, value in _pairs(self.query) if len(value) >= _SHORT}
        found |= {quote(text, safe="") for text in found}
        return tuple(sorted(found - {""}, key=lambda text: (-len(text), text)))

    def __repr__(self) -> str:
        return f"StreamUrl({self.shown!r})"


def read(url: str) -> StreamUrl:
    """The parts of a stream's URL. Raises FetchError fetch_forbidden: a scheme that no stream has,
    a URL that cannot be read, is too long, or names no usable host and port."""
    if len(url) > MAX_URL:
        raise forbidden(f"the URL has more than {MAX_URL} characters")
    parts = reach.split(url)
    if parts.scheme not in SCHEMES:
        raise forbidden(f"a stream's URL begins with one of {', '.join(SCHEMES)}")
    if any(letter in url for letter in '"<>^`{|}'):
        raise forbidden("the URL has letters that must be written as %XX")
    netloc = parts.netloc
    if parts.scheme == "udp":
        # Players write udp://@:1234 for "whatever arrives here", udp://@239.1.1.1:1234 for a group.
        netloc = netloc.removeprefix("@")
        netloc = f"0.0.0.0{netloc}" if netloc.startswith(":") else netloc  # noqa: S104
        parts = parts._replace(netloc=netloc)
    host, port = reach.host_and_port(parts)
    port = port or PORTS.get(parts.scheme)
    if port is None:
        raise forbidden(f"a {parts.scheme} URL has to name its port")
    user = password = None
    if "@" in netloc:
        if parts.scheme in ("srt", "udp"):
            raise forbidden(f"a {parts.scheme} URL has no user name or password")
        before, _, after = netloc.rpartition("@")[0].partition(":")
        user, password = unquote(before), unquote(after)
    return StreamUrl(
        parts.scheme,
        host,
        port,
        quote(parts.path or "/", safe=_PATH),
        quote(parts.query, safe=_QUERY),
        user,
        password,
    )


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def redacted(text: str, secrets: tuple[str, ...] = ()) -> str:
    """A program's words without the secrets, and without user names, passwords and values of the
    query in any URL; control characters, which could rule a terminal, become `?`."""
    for secret in secrets:
        if len(secret) >= _SHORT:
            text = text.replace(secret, HIDDEN)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    text = _URL.sub(_shown, text)
    text = _HEADER.sub(rf"\1: {HIDDEN}", text)
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _shown(found: re.Match[str]) -> str:
    netloc, mark, rest = re.split(r"([/?#]|$)", found["rest"], maxsplit=1)
    return f"{found['scheme']}://{netloc.rpartition('@')[2]}{_without_values(mark + rest)}"


def _without_values(target: str) -> str:
    """Path and query without a fragment, the values of the query and parameters of the path."""
    path, mark, query = target.partition("#")[0].partition("?")
    path = "/".join(
        step.partition(";")[0] + (f";{HIDDEN}" if ";" in step else "") for step in path.split("/")
    )
    return f"{path}{mark}{HIDDEN if query else ''}"


def _pairs(query: str) -> list[tuple[str, str]]:
    both = parse_qsl(query, keep_blank_values=True)
    raw = [part.partition("=") for part in query.split("&") if part]
    return both + [(name, value or name) for name, _, value in raw]
