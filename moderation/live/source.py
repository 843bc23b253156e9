"""How ffmpeg is to read a live stream: its arguments, and the address that it may connect to.

ffmpeg resolves names and follows redirects and playlists by itself. So it is never given a name:
HTTP goes through the checking proxy (`moderation.live.proxy`), which also speaks TLS for it, and
for all else the host is resolved here, checked by the rules of `moderation.reach`, and ffmpeg is
given the address. A whitelist of protocols keeps it from anything else: of RTSP, a redirect.

Start ffmpeg with an environment that has no `http_proxy` and `no_proxy`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, quote

from moderation import reach
from moderation.live.address import StreamUrl, bracketed, read, redacted
from moderation.reach import Resolver, forbidden, system_resolver
from moderation.settings import Settings

Kind = Literal["http", "rtmp", "rtsp", "srt", "udp"]
Transport = Literal["tcp", "udp"]

TIMEOUT_S = 10.0
"""Without a byte for so long, ffmpeg ends. The watchdog is quicker."""

ANALYSE_S = 1.5
"""How long ffmpeg looks at a stream before it gives the first frame; its own 5 s are too long for
an alert. A stream that shows its size later is decoded all the same."""

RESOLVE_S = 5.0
FLV = "flv,live_flv"
HTTP_FORMATS = f"hls,{FLV},mpegts,mov,mp4,m4a,3gp,3g2,mj2,aac,mp3,ac3,eac3,webvtt"
"""The formats of streams, and those of the segments of HLS."""

SRT_OPTIONS = ("streamid", "passphrase", "pbkeylen", "latency", "mode")
_RTSP_OPTIONS = frozenset(
    ("udp", "multicast", "udp_multicast", "tcp", "http", "https", "filter_src", "listen")
)
_PRIVILEGED: dict[Kind, tuple[int, ...]] = {
    "http": reach.WEB_PORTS,
    "rtmp": reach.WEB_PORTS,
    "rtsp": (554,),
    "srt": (),
    "udp": (),
}


@dataclass(frozen=True, slots=True, repr=False)
class SourcePlan:
    """How one attempt reads one stream; made anew for every attempt, since names move.

    url: the stream's, in parts. shown: the same for people, without secrets. addresses: those that
    were checked, and `arguments` names one of them unless `proxied`: then ffmpeg gets the URL with
    its name, but no user and password, and the proxy does the rest. protocols: all that ffmpeg may
    open.
    """

    kind: Kind
    url: StreamUrl
    addresses: tuple[str, ...]
    protocols: tuple[str, ...]
    arguments: tuple[str, ...]
    proxied: bool

    @property
    def shown(self) -> str:
        return self.url.shown

    def input_arguments(self, proxy: str | None = None) -> tuple[str, ...]:
        """Arguments of ffmpeg up to and with `-i URL`.

        proxy: the URL of a pass of the checking proxy; needed, and allowed, where `proxied`.
        """
        if self.proxied != (proxy is not None):
            raise ValueError("the checking proxy goes with HTTP sources, and with no others")
        through = () if proxy is None else ("-http_proxy", proxy)
        return ("-protocol_whitelist", ",".join(self.protocols), *through, *self.arguments)

    def redacted(self, text: str) -> str:
        """What ffmpeg said, fit to be passed on."""
        return redacted(text, self.url.secrets)

    def __repr__(self) -> str:
        return f"SourcePlan({self.shown!r})"


def plan(
    url: str,
    settings: Settings,
    *,
    transport: Transport = "tcp",
    attempt: int = 0,
    timeout_s: float = TIMEOUT_S,
    resolve: Resolver = system_resolver,
) -> SourcePlan:
    """Check a stream's URL, resolve its host (up to 5 s), and say how it is read.

    transport: of RTSP. attempt: which of several addresses is taken, in turn. Raises FetchError:
    fetch_forbidden (a URL, scheme, option, port or address that may not be opened), fetch_failed
    (an unknown host), fetch_timeout.
    """
    parts = read(url)
    kind = _kind(parts.scheme)
    options = _options(kind, parts, transport)
    addresses = reach.checked(
        parts.host,
        parts.port,
        settings.fetch_allow,
        deadline=time.monotonic() + RESOLVE_S,
        resolve=resolve,
        ports=_PRIVILEGED[kind],
        # A port of ours is opened to whoever sends: only where the operator says so.
        public=kind != "udp",
    )
    address = addresses[attempt % len(addresses)]
    return SourcePlan(
        kind=kind,
        url=parts,
        addresses=addresses,
        protocols=_protocols(kind, transport),
        arguments=(
            *("-analyzeduration", str(round(ANALYSE_S * 1e6))),
            *_limits(kind, round(timeout_s * 1e6)),
            *options,
            *_where(kind, parts, address),
        ),
        proxied=kind == "http",
    )


def _kind(scheme: str) -> Kind:
    if scheme in ("rtmps", "rtsps"):
        raise forbidden(
            f"{scheme} is not read: ffmpeg cannot be held to a checked address and check the"
            f" certificate for the name; use {scheme.removesuffix('s')} or https"
        )
    kinds: dict[str, Kind] = {"https": "http", "http": "http", "rtmp": "rtmp", "rtsp": "rtsp"}
    kinds |= {"srt": "srt", "udp": "udp"}
    return kinds[scheme]


def _protocols(kind: Kind, transport: Transport) -> tuple[str, ...]:
    """No tls and httpproxy for HTTP: a playlist could name `httpproxy:` and reach any address."""
    if kind == "rtsp":
        return ("tcp",) if transport == "tcp" else ("tcp", "udp", "rtp")
    return {
        "http": ("http", "tcp", "crypto"),
        "rtmp": ("rtmp", "tcp"),
        "srt": ("srt",),
        "udp": ("udp",),
    }[kind]


def _limits(kind: Kind, timeout_us: int) -> tuple[str, ...]:
    """Formats and time-outs."""
    return {
        "http": ("-format_whitelist", HTTP_FORMATS, "-rw_timeout", str(timeout_us)),
        "rtmp": ("-format_whitelist", FLV, "-rw_timeout", str(timeout_us)),
        "rtsp": ("-format_whitelist", "rtsp", "-timeout", str(timeout_us)),
        "srt": (
            *("-format_whitelist", "mpegts", "-timeout", str(timeout_us)),
            *("-connect_timeout", str(timeout_us // 1000)),
        ),
        "udp": (
            *("-format_whitelist", "mpegts", "-timeout", str(timeout_us)),
            *("-overrun_nonfatal", "1"),
        ),
    }[kind]


def _options(kind: Kind, url: StreamUrl, transport: Transport) -> tuple[str, ...]:
    """What the URL asks for, in ffmpeg's words, where that is harmless."""
    if kind == "http":
        # Begin with the newest segment. Other formats do not know the option.
        return ("-live_start_index", "-1") if url.path.lower().endswith(".m3u8") else ()
    if kind == "rtmp":
        tcurl = f"rtmp://{bracketed(url.host)}:{url.port}/{rtmp_app(url.target)}"
        return ("-rtmp_live", "live", "-rtmp_tcurl", tcurl)
    if kind == "rtsp":
        if _RTSP_OPTIONS & set(url.query.replace("?", "&").split("&")):
            raise forbidden("how RTSP is transported is a setting of the stream, not of its URL")
        how = ("-rtsp_transport", transport)
        return (*how, "-rtsp_flags", "filter_src") if transport == "udp" else how
    if kind == "srt":
        return _srt_options(url)
    if url.path != "/" or url.query:
        raise forbidden("a udp URL is udp://ADDRESS:PORT")
    if url.port < 1024:
        raise forbidden(f"port {url.port} belongs to another service")
    return ()


def _srt_options(url: StreamUrl) -> tuple[str, ...]:
    if url.path != "/":
        raise forbidden("an srt URL has no path; its stream is named by ?streamid=")
    pairs = parse_qsl(url.query, keep_blank_values=True, separator="&")
    asked = dict(pairs)
    if len(asked) < len(pairs) or asked.keys() - set(SRT_OPTIONS):
        raise forbidden(f"an srt URL may have options of {', '.join(SRT_OPTIONS)}, each once")
    if any(ord(letter) < 0x20 for value in asked.values() for letter in value):
        raise forbidden("an option of the srt URL has control characters")
    if asked.get("mode", "caller") != "caller":
        raise forbidden("srt streams are called, not listened for: mode=caller")
    words: list[str] = []
    if "streamid" in asked:
        if not 1 <= len(asked["streamid"].encode()) <= 512:
            raise forbidden("an srt streamid has 1 to 512 bytes")
        words += ["-srt_streamid", asked["streamid"]]
    if "passphrase" in asked:
        if not 10 <= len(asked["passphrase"].encode()) <= 64:
            raise forbidden("an srt passphrase has 10 to 64 bytes")
        words += ["-passphrase", asked["passphrase"]]
    if "pbkeylen" in asked:
        if asked["pbkeylen"] not in ("16", "24", "32"):
            raise forbidden("an srt pbkeylen is 16, 24 or 32")
        words += ["-pbkeylen", asked["pbkeylen"]]
    if "latency" in asked:
        # In a URL milliseconds, as libsrt has it; ffmpeg's option counts microseconds.
        if not re.fullmatch(r"[0-9]{1,4}", asked["latency"]):
            raise forbidden("an srt latency is 0 to 9999 milliseconds")
        words += ["-latency", str(int(asked["latency"]) * 1000)]
    return tuple(words)


def _where(kind: Kind, url: StreamUrl, address: str) -> tuple[str, ...]:
    """`-i` and what ffmpeg opens."""
    at = f"{bracketed(address)}:{url.port}"
    if kind == "http":
        # Plain, also for https: the proxy knows that this host and port speak TLS.
        return ("-i", f"http://{bracketed(url.host)}:{url.port}{url.target}")
    if kind == "srt":
        return ("-i", f"srt://{at}")
    if kind == "udp":
        bind = () if reach.is_multicast(address) else ("-localaddr", address)
        return (*bind, "-i", f"udp://{at}")
    who = ""
    if url.user is not None:
        who = quote(url.user, safe="")
        who += f":{quote(url.password, safe='')}@" if url.password else "@"
    return ("-i", f"{kind}://{who}{at}{url.target}")


def rtmp_app(target: str) -> str:
    """The application in path and query of an RTMP URL, as ffmpeg cuts it out: one step, or two
    where a third follows."""
    target = target[1:]
    first = target.find("/")
    if first < 0:
        return target
    second, colon = target.find("/", first + 1), target.find(":", first + 1)
    if second < 0 or 0 <= colon < second:
        return target[:first]
    return target[:second]
