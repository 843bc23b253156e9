"""URLs of live streams: what is read, what ffmpeg is told, what is refused, what is shown."""

from __future__ import annotations

import contextlib
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moderation.errors import FetchError
from moderation.live.address import HIDDEN, read, redacted
from moderation.live.source import SourcePlan, plan, rtmp_app
from moderation.settings import load_settings

PUBLIC = "1.2.3.4"


def planned(url: str, *allow: str, **options: object) -> SourcePlan:
    settings = load_settings(fetch_allow=",".join(allow))
    options = {"resolve": lambda host, port: [PUBLIC], **options}
    return plan(url, settings, **options)  # type: ignore[arg-type]


def opened(source: SourcePlan) -> str:
    """The URL that ffmpeg gets."""
    words = source.input_arguments("http://x" if source.proxied else None)
    assert words[-2] == "-i"
    return words[-1]


def options_of(source: SourcePlan) -> dict[str, str]:
    words = source.input_arguments("http://x" if source.proxied else None)
    assert len(words) % 2 == 0
    return dict(zip(words[::2], words[1::2], strict=True))


def refused(url: str, *allow: str, **options: object) -> str:
    with pytest.raises(FetchError) as caught:
        planned(url, *allow, **options)
    assert caught.value.code == "fetch_forbidden"
    return caught.value.message


# --- what ffmpeg is told ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told", "protocols"),
    [
        ("rtmp://a.example/live/x", f"rtmp://{PUBLIC}:1935/live/x", "rtmp,tcp"),
        ("rtmp://A.example.:1936/live/x?k=v", f"rtmp://{PUBLIC}:1936/live/x?k=v", "rtmp,tcp"),
        ("rtsp://a.example/cam", f"rtsp://{PUBLIC}:554/cam", "tcp"),
        ("rtsp://u:p%40ss@a.example/cam", f"rtsp://u:p%40ss@{PUBLIC}:554/cam", "tcp"),
        ("rtsp://u@a.example/cam?ch=1", f"rtsp://u@{PUBLIC}:554/cam?ch=1", "tcp"),
        ("srt://a.example:9000", f"srt://{PUBLIC}:9000", "srt"),
        ("http://a.example/x.m3u8", "http://a.example:80/x.m3u8", "http,tcp,crypto"),
        ("https://a.example/x.flv?t=1", "http://a.example:443/x.flv?t=1", "http,tcp,crypto"),
        ("https://u:p@a.example:8443/x.ts", "http://a.example:8443/x.ts", "http,tcp,crypto"),
    ],
)
def test_what_ffmpeg_opens(url: str, told: str, protocols: str) -> None:
    """An address, never a name, except through the proxy."""
    source = planned(url)
    assert opened(source) == told
    assert options_of(source)["-protocol_whitelist"] == protocols


def test_udp_listens_where_the_operator_allows() -> None:
    here = planned("udp://10.0.0.5:5000", "10.0.0.0/8", resolve=lambda h, p: [h])
    assert (opened(here), options_of(here)["-localaddr"]) == ("udp://10.0.0.5:5000", "10.0.0.5")
    for url in ("udp://239.1.1.1:5000", "udp://@239.1.1.1:5000"):
        group = planned(url, "239.0.0.0/8", resolve=lambda h, p: [h])
        assert opened(group) == "udp://239.1.1.1:5000"
        assert "-localaddr" not in options_of(group)
    anywhere = planned("udp://@:5000", "0.0.0.0", resolve=lambda h, p: [h])
    assert opened(anywhere) == "udp://0.0.0.0:5000"
    assert "operator" in refused("udp://1.2.3.4:5000")


def test_version_6_addresses() -> None:
    source = planned("rtsp://[2606:4700::1111]/x", resolve=lambda host, port: [host])
    assert opened(source) == "rtsp://[2606:4700::1111]:554/x"
    assert source.shown == "rtsp://[2606:4700::1111]/x"


def test_the_server_is_told_the_name_of_an_rtmp_host() -> None:
    source = planned("rtmp://a.example/live/x")
    assert options_of(source)["-rtmp_tcurl"] == "rtmp://a.example:1935/live"


@pytest.mark.parametrize(
    ("target", "app"),
    [
        ("/live", "live"),
        ("/live/x", "live"),
        ("/live/inst/x", "live/inst"),
        ("/live/mp4:dir/x", "live"),
        ("/live?k=v/x", "live?k=v"),
        ("/", ""),
    ],
)
def test_the_application_of_rtmp(target: str, app: str) -> None:
    assert rtmp_app(target) == app


def test_rtsp_over_udp_takes_packets_of_its_server_alone() -> None:
    told = options_of(planned("rtsp://a.example/x", transport="udp"))
    assert (told["-rtsp_transport"], told["-rtsp_flags"]) == ("udp", "filter_src")
    assert options_of(planned("rtsp://a.example/x"))["-rtsp_transport"] == "tcp"


def test_options_of_srt() -> None:
    key = quote("#!::r=live/x,m=request", safe="")
    told = options_of(
        planned(
            f"srt://a.example:9000?mode=caller&streamid={key}&passphrase=0123456789&latency=120"
        )
    )
    assert told["-srt_streamid"] == "#!::r=live/x,m=request"
    assert told["-passphrase"] == "0123456789"
    assert told["-latency"] == "120000"
    assert "-streamid" not in told  # that is an option of ffmpeg's outputs


def test_the_next_attempt_takes_the_next_address() -> None:
    two = ["1.1.1.1", "2.2.2.2"]
    seen = [
        opened(planned("srt://a.example:9000", attempt=attempt, resolve=lambda h, p: two))
        for attempt in range(3)
    ]
    assert seen == ["srt://1.1.1.1:9000", "srt://2.2.2.2:9000", "srt://1.1.1.1:9000"]


def test_all_addresses_have_to_be_allowed() -> None:
    for attempt in (0, 1):
        refused("rtsp://a.example/x", attempt=attempt, resolve=lambda h, p: ["1.1.1.1", "10.0.0.1"])


def test_http_without_the_proxy_cannot_be_had() -> None:
    with pytest.raises(ValueError, match="proxy"):
        planned("http://a.example/x.flv").input_arguments()
    with pytest.raises(ValueError, match="proxy"):
        planned("rtsp://a.example/x").input_arguments("http://x")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/x",
        "file:///etc/passwd",
        "/etc/passwd",
        "concat:a.ts|b.ts",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "crypto+http://a.example/x",
        "httpproxy://a.example:80/x",
        "tcp://a.example:80",
        "tls://a.example:443",
        "pipe:0",
        "fd:0",
        "data:video/mp2t;base64,AA",
        "ftp://a.example/x",
        "rtp://a.example:5000",
        "rtmpt://a.example/x/y",
        "rtmpe://a.example/x/y",
        "rtmps://a.example/x/y",
        "rtsps://a.example/x",
        "satip://a.example/x",
        "ffrtmphttp://a.example/x",
        "unix:/run/x.sock",
        "-i",
        "http://a.example/x\n-f lavfi",
        "http://a.example/x\r\nHost: b",
        "rtmp://a.example/live/x live=1 swfUrl=http://10.0.0.1/",
        "rtmp://a.example/live/x\tlive=1",
        "rtsp://a.example\\@10.0.0.1/x",
        "rtsp://a.example/x?udp",
        "rtsp://a.example/x?multicast",
        "rtsp://a.example/x?a=b&http",
        "rtsp://a.example/x?a?tcp",
        "rtsp://a.example/x|http://b",
        "srt://a.example",
        "srt://a.example:9000/path",
        "srt://a.example:9000?mode=listener",
        "srt://a.example:9000?mode=rendezvous",
        "srt://a.example:9000?localaddr=0.0.0.0",
        "srt://a.example:9000?streamid=a&streamid=b",
        "srt://a.example:9000?streamid=",
        "srt://a.example:9000?streamid=%0a",
        "srt://a.example:9000?passphrase=short",
        "srt://a.example:9000?pbkeylen=17",
        "srt://a.example:9000?latency=-1",
        "srt://a.example:9000?latency=99999",
        "srt://u:p@a.example:9000",
        "udp://1.2.3.4",
        "udp://u@1.2.3.4:5000",
        "udp://1.2.3.4:5000?localport=22",
        "udp://1.2.3.4:5000/x",
        "http://a.example:0/x",
        "http://a.example:99999/x",
        "http://[::1/x",
        "rtmp://a.example:25/x/y",
        "rtsp://a.example:22/x",
        "http://a.example/" + "x" * 3000,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC]

    refused(url, "0.0.0.0/0" if url.startswith("udp") else "", resolve=resolve)
    assert set(asked) <= {"a.example"}


def test_privileged_ports_of_udp_are_not_taken() -> None:
    assert "53" in refused("udp://10.0.0.5:53", "10.0.0.0/8", resolve=lambda h, p: [h])


@pytest.mark.parametrize(
    "url",
    ["rtmp://a.example/a/b", "rtsp://a.example/x", "srt://a.example:9000", "http://a.example"],
)
@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fe80::1%e"]
)
def test_addresses_that_are_not_public_are_refused_unless_allowed(url: str, address: str) -> None:
    assert "public" in refused(url, resolve=lambda h, p: [address])
    if "%" not in address:
        planned(url, f"{address}", resolve=lambda h, p: [address])
    planned_by_name = {"resolve": lambda h, p: ["10.0.0.1"]}
    planned(url, "a.example", **planned_by_name)


SCHEMES = st.sampled_from(["rtmp", "rtsp", "srt", "udp", "http", "https", "rtmps", "file", "x"])
TEXT = st.text(max_size=40)


@given(SCHEMES, TEXT)
def test_any_text_is_refused_or_pinned(scheme: str, text: str) -> None:
    """What gets through names the checked address, and nothing that ffmpeg reads as an option."""
    for url in (text, f"{scheme}://{text}", f"{scheme}://a.example:5000{text}"):
        source = None
        with contextlib.suppress(FetchError):
            source = planned(url, "0.0.0.0/0")
        if source is None:
            continue
        told = opened(source)
        assert told.isascii()
        assert not set(told) & set(" \t\r\n\\|<>\"'`^{}" if source.kind != "http" else " \t\r\n\\")
        if source.proxied:
            assert told.startswith("http://")
        else:
            where = read(told)
            assert (where.scheme, where.host) == (source.kind, PUBLIC)
        assert all("\0" not in word for word in source.arguments)


# --- what is shown ----------------------------------------------------------------------------

WORDS = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "-_.~"), min_size=8, max_size=16
)
ODD = st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=8, max_size=12)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://u:p@a.example/cam", "rtsp://a.example/cam"),
        ("rtsp://a.example:8554/cam?user=u&password=p", "rtsp://a.example:8554/cam?***"),
        ("https://A.example:443/x.m3u8#p", "https://a.example/x.m3u8"),
        ("http://a.example/x;jsessionid=1/y.flv", "http://a.example/x;***/y.flv"),
        ("srt://a.example:9000?streamid=secret", "srt://a.example:9000/?***"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    source = planned(url)
    assert source.shown == shown
    assert repr(source) == f"SourcePlan({shown!r})"
    assert repr(source.url) == f"StreamUrl({shown!r})"


@given(ODD, ODD, WORDS, st.sampled_from(["rtmp", "rtsp", "http", "https"]))
def test_secrets_are_nowhere(user: str, password: str, token: str, scheme: str) -> None:
    assume(len({user, password, token}) == 3)
    assume(not any(part in "rtsp://a.example:5000/live/x?token=***" for part in (user, password)))
    whole = f"{quote(user, safe='')}:{quote(password, safe='')}"
    source = planned(f"{scheme}://{whole}@a.example:5000/live/x?token={token}")
    told = opened(source)
    noise = f"[in#0 @ 0x5] {told}: Unauthorized {user}:{password} {whole} {token} for '{told}'\n"
    for seen in (
        source.shown,
        repr(source),
        repr(source.url),
        source.redacted(noise),
        str([source]),
    ):
        for secret in (user, password, token, quote(user, safe=""), quote(password, safe="")):
            assert secret not in seen
    assert "Unauthorized" in source.redacted(noise)
    if scheme.startswith("http"):
        assert password not in " ".join(source.arguments)


@given(st.text(max_size=200))
def test_words_of_a_program_cannot_rule_a_terminal(text: str) -> None:
    assert all(letter == "\n" or letter.isprintable() for letter in redacted(text))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Error opening input file rtsp://u:p@h/x.", "Error opening input file rtsp://h/x."),
        ("'http://h:80/a?k=v': 404", f"'http://h:80/a?{HIDDEN}': 404"),
        ("http://u:p@h and http://v:q@i/", "http://h and http://i/"),
        ("Authorization: Basic abc\nnext", f"Authorization: {HIDDEN}\nnext"),
        ("a\x1b[31mb\u202ec", "a?[31mb?c"),
    ],
)
def test_redaction(said: str, told: str) -> None:
    assert redacted(said) == told


def test_short_secrets_are_hidden_where_they_stand_alone() -> None:
    assert redacted("a password p: app", ("p",)) == f"a password {HIDDEN}: app"


@given(TEXT)
def test_reading_fails_in_one_way(text: str) -> None:
    with contextlib.suppress(FetchError):
        read(text)
        read("rtsp://" + text)
