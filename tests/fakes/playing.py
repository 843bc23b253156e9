"""Small streams, and ffmpeg reading one to its end as the reader of live streams does."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from moderation.live.proxy import Pass
from moderation.live.proxy_thread import ProxyThread
from moderation.live.source import SourcePlan, Transport, plan
from moderation.reach import Resolver
from moderation.settings import load_settings
from moderation.video.ffmpeg import program
from tests.integration.media import write

PICTURE = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=3")
CODEC = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p")
FRAMES = 30


@dataclass(frozen=True)
class Heard:
    """What an attempt came to: frames, ffmpeg's words before and after redaction."""

    frames: int
    raw: str
    said: str
    gate: Pass | None
    plan: SourcePlan


def play(
    url: str,
    allow: str = "127.0.0.1",
    *,
    proxy: ProxyThread | None = None,
    transport: Transport = "tcp",
    frames: int | None = None,
    timeout_s: float = 20,
    resolve: Resolver = lambda host, port: ["127.0.0.1"],
) -> Heard:
    """Read a whole stream, or its first `frames`. proxy: one of the same rules is made where there
    is none. timeout_s: of ffmpeg's own, for a server that says nothing."""
    settings = load_settings(fetch_allow=allow)
    source = plan(url, settings, timeout_s=timeout_s, transport=transport, resolve=resolve)
    if source.proxied and proxy is None:
        with ProxyThread(settings.fetch_allow, resolve=resolve) as made:
            return play(url, allow, proxy=made, frames=frames, timeout_s=timeout_s, resolve=resolve)
    gate = proxy.admit(source) if proxy is not None and source.proxied else None
    words = source.input_arguments(gate.url if gate else None)
    some = () if frames is None else ("-frames:v", str(frames))
    output = ("-map", "0:v:0", *some, "-f", "framecrc", "-")
    done = subprocess.run(
        [program(), "-nostdin", "-hide_banner", "-v", "verbose", *words, *output],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={},
        timeout=60,
        check=False,
    )
    if proxy is not None and gate is not None:
        proxy.revoke(gate)
    count = sum(not line.startswith(b"#") for line in done.stdout.splitlines())
    raw = done.stderr.decode()
    return Heard(count, raw, source.redacted(raw), gate, source)


def stream_files(folder: Path) -> dict[str, bytes]:
    """Pages of a web server: the same three seconds as HLS in the clear (`/plain.m3u8`), in
    fragments of MP4 (`/parts.m3u8`) and encrypted (`/locked.m3u8`), as FLV and as MPEG-TS."""
    write(folder / "a.ts", *PICTURE, *CODEC)
    copied = ("-i", str(folder / "a.ts"), "-c", "copy")
    write(folder / "a.flv", *copied)
    hls = ("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod")
    write(folder / "plain.m3u8", *copied, *hls)
    fragments = ("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4")
    write(folder / "parts.m3u8", *copied, *hls, *fragments)
    (folder / "key").write_bytes(b"0123456789abcdef")
    (folder / "keys").write_text(f"key\n{folder / 'key'}\n")
    write(folder / "locked.m3u8", *copied, *hls, "-hls_key_info_file", str(folder / "keys"))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
