"""Films as phones, browsers, editors and capture cards write them: the frame shown at a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from media import write

from moderation.types import InputKey
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import Probed
from moderation.video.sampling import cut
from moderation.video.source import ReadOptions
from tests.fakes import counter
from tests.fakes.probing import probe_here

FRAMES = 75
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-bf", "2", "-pix_fmt", "yuv420p")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-g", "30")
QUIET265 = ("-x265-params", "log-level=none:open-gop=1:bframes=3")
TONE = ("-f", "lavfi", "-i", "sine=duration={}")


@dataclass(frozen=True, slots=True)
class Shown:
    """Frame `number` comes at `time_s`."""

    time_s: float
    number: int


def steady(fps: float = 25.0, *, frames: int = FRAMES, later_s: float = 0.0) -> list[Shown]:
    return [Shown(later_s + number / fps, number) for number in range(frames)]


def check(path: Path, frames: Sequence[Shown], end_s: float, *, tick_s: float = 0.0011) -> Probed:
    """Index, length, and at moments all over the film the number of the frame shown then."""
    probed = probe_here(path)
    assert probed.info.duration_s == pytest.approx(end_s, abs=0.1)
    assert probed.index.times.tolist() == pytest.approx([f.time_s for f in frames], abs=tick_s)
    ends = [*(after.time_s for _, after in pairwise(frames)), end_s]
    some = sorted({0, 1, len(frames) - 2, len(frames) - 1, *range(0, len(frames), 7)})
    chosen = [number for number in some if 0 <= number < len(frames)]
    moments = [
        frames[i].time_s + part * (ends[i] - frames[i].time_s)
        for i in chosen
        for part in (0.2, 0.8)
    ]
    found = counter.shown(path, probed, moments)
    expected = [frames[i].number for i in chosen for _ in range(2)]
    assert [number for _, number in found] == expected
    quick = counter.shown(path, probed, moments, exact=False)
    told = {round(frame.time_s / tick_s): frame.number for frame in frames}
    for moment, (time_s, number) in zip(moments, quick, strict=True):
        assert time_s is not None, f"{moment} s was not seen"
        near = [told[at] for at in told if abs(at * tick_s - time_s) <= 2 * tick_s]
        assert number in near, f"{number} is not the frame of {time_s} s"
    return probed


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counter.write(tmp_path_factory.mktemp("odd") / "master.y4m", FRAMES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("open.mp4", (*X264, "-x264-params", "open-gop=1:bframes=3")),
        ("open.mkv", (*X265, *QUIET265)),
        ("open.mpg", ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "2", "-g", "15")),
        ("interlaced.mp4", (*X264, "-x264-params", "interlaced=1", "-field_order", "tt")),
        ("interlaced.ts", ("-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ildct+ilme")),
        ("ten-bit.mp4", (*X265, *QUIET265, "-pix_fmt", "yuv420p10le")),
        ("ten-bit.mkv", (*X264[:-1], "yuv420p10le")),
        ("422.mov", (*X264[:-1], "yuv422p")),
        ("444.mp4", (*X264[:-1], "yuv444p")),
        ("rgb.mkv", ("-c:v", "libx264rgb", "-preset", "veryfast")),
        ("alpha.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-pix_fmt", "yuva420p")),
        (
            "hdr.mp4",
            (*X265, *QUIET265, "-pix_fmt", "yuv420p10le", "-color_primaries", "bt2020",
             "-color_trc", "smpte2084", "-colorspace", "bt2020nc"),
        ),
        ("fragments.mp4", (*X264, "-movflags", "frag_keyframe+empty_moov+default_base_moof")),
        ("index-first.mp4", (*X264, "-movflags", "faststart")),
        ("live.webm", ("-c:v", "libvpx", "-deadline", "realtime", "-g", "30", "-live", "1")),
        ("clusters.mkv", (*X264, "-live", "1", "-cluster_time_limit", "200")),
    ],
)  # fmt: skip
def test_streams(master: Path, tmp_path: Path, name: str, words: Sequence[str]) -> None:
    check(write(tmp_path / name, "-i", str(master), *words), steady(), FRAMES / 25)


@pytest.mark.parametrize("fps", ["100", "30000/1001", "24000/1001", "12", "1"])
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_frame_rates(tmp_path: Path, fps: str, extension: str) -> None:
    above, _, below = fps.partition("/")
    rate = int(above) / int(below or 1)
    film = counter.write(tmp_path / "film.y4m", 40, fps=fps)
    path = write(tmp_path / f"film.{extension}", "-i", str(film), *X264)
    check(path, steady(rate, frames=40), 40 / rate)


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_ten_seconds_between_key_frames(tmp_path: Path, extension: str) -> None:
    film = counter.write(tmp_path / "film.y4m", 256)
    words = (*X264, "-g", "250", "-sc_threshold", "0")
    path = write(tmp_path / f"film.{extension}", "-i", str(film), *words)
    probed = check(path, steady(frames=256), 256 / 25)
    assert probed.index.keyframes == pytest.approx((0.0, 10.0), abs=0.001)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
def test_frames_that_are_held_for_long(master: Path, tmp_path: Path, extension: str) -> None:
    """25 frames/s for a second, then one in 0.8 s: a shared screen, a phone in the dark."""
    kept = [number for number in range(FRAMES) if number < 25 or number % 20 == 0]
    words = ("-vf", "select='lt(n,25)+not(mod(n,20))'", "-fps_mode", "passthrough")
    codec = ("-c:v", "libvpx", "-deadline", "realtime") if extension == "webm" else X264
    path = write(tmp_path / f"film.{extension}", "-i", str(master), *words, *codec)
    probed = probe_here(path)
    check(path, [Shown(number / 25, number) for number in kept], probed.info.duration_s)
    assert 60 / 25 < probed.info.held_s <= FRAMES / 25 + 0.8


@pytest.mark.parametrize(
    ("degrees", "stored"), [(90, "transpose=1"), (180, "hflip,vflip"), (270, "transpose=2")]
)
def test_turned_by_a_tag(master: Path, tmp_path: Path, degrees: int, stored: str) -> None:
    turned = write(tmp_path / "stored.mp4", "-i", str(master), "-vf", stored, *X264)
    words = ("-display_rotation", str(degrees), "-i", str(turned), "-c", "copy")
    probed = check(write(tmp_path / "film.mp4", *words), steady(), FRAMES / 25)
    assert (probed.info.width, probed.info.height) == (320, 240)


@pytest.mark.parametrize("size", [(321, 241), (17, 33), (3840, 16)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    film = counter.write(tmp_path / "film.y4m", 20, size=size)
    path = write(tmp_path / "film.mkv", "-i", str(film), "-c:v", "ffv1")
    probed = check(path, steady(frames=20), 20 / 25)
    assert (probed.info.width, probed.info.height) == size


def test_pixels_that_are_not_square(master: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", "-i", str(master), "-vf", "setsar=2", *X264)
    probed = check(path, steady(), FRAMES / 25)
    assert (probed.info.width, probed.info.height) == (640, 240)


@pytest.mark.parametrize("cut_s", [1.2, 1.32, 1.7])
def test_an_mp4_cut_without_coding_begins_at_its_edit(
    master: Path, tmp_path: Path, cut_s: float
) -> None:
    """What lies between the key frame and the cut is in the file and not shown."""
    whole = write(tmp_path / "whole.mp4", "-i", str(master), *X264)
    path = write(tmp_path / "film.mp4", "-ss", str(cut_s), "-i", str(whole), "-c", "copy")
    first = math.ceil(cut_s * 25 - 1e-6)
    frames = [Shown((number - first) / 25, number) for number in range(first, FRAMES)]
    check(path, frames, (FRAMES - first) / 25)


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "ts", "flv"])
def test_sound_before_the_picture(master: Path, tmp_path: Path, extension: str) -> None:
    tone = tuple(word.format(4) for word in TONE)
    words = (*tone, "-itsoffset", "0.8", "-i", str(master), *X264, "-c:a", "aac")
    path = write(tmp_path / f"film.{extension}", *words)
    # AAC begins 1024 samples early, and these two have no way to say that they are not played.
    later_s = 0.8 + (1024 / 44100 if extension in ("ts", "flv") else 0.0)
    probed = check(path, steady(later_s=later_s), later_s + FRAMES / 25)
    assert probed.info.audio == ("aac",)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "flv"])
def test_sound_after_the_picture(master: Path, tmp_path: Path, extension: str) -> None:
    tone = tuple(word.format(2) for word in TONE)
    words = ("-i", str(master), "-itsoffset", "0.5", *tone, *X264, "-c:a", "aac")
    check(write(tmp_path / f"film.{extension}", *words), steady(), FRAMES / 25, tick_s=0.03)


@pytest.mark.parametrize(
    "extension",
    [
        "mp4",
        "mkv",
        "webm",
        pytest.param(
            "ts",
            marks=pytest.mark.xfail(
                strict=True,
                reason="1.44 s long: of one packet the container tells no start, and its time "
                "stamp of 1.4 s counts from 0",
            ),
        ),
        "avi",
        "gif",
    ],
)
def test_a_single_frame(tmp_path: Path, extension: str) -> None:
    film = counter.write(tmp_path / "film.y4m", 1)
    path = write(tmp_path / f"film.{extension}", "-i", str(film))
    probed = probe_here(path)
    assert probed.info.frames == 1
    assert 0 < probed.info.duration_s < 1
    assert counter.shown(path, probed, [0.0]) == [(0.0, 0)]


def test_the_smallest_and_the_widest(tmp_path: Path) -> None:
    dot = write(
        tmp_path / "dot.mkv", "-f", "lavfi", "-i", "color=red:size=1x1:duration=1", "-c:v", "png"
    )
    probed = probe_here(dot)
    assert (probed.info.width, probed.info.height, probed.info.frames) == (1, 1, 25)
    (chunk,) = cut([0.1, 0.9], probed.index, exact=True)
    key = InputKey(32, 32)
    pack = look(dot, chunk, probed.info, (key,), ReadOptions(program()), counter.EVERY)
    assert [one.shown_s for one in pack.looks] == pytest.approx([0.08, 0.88])
    assert pack.pixels[key][0, 0, 0].tolist() == pytest.approx([254, 0, 0], abs=3)
    wide = counter.write(tmp_path / "wide.y4m", 10, size=(16384, 64))
    check(write(tmp_path / "wide.mp4", "-i", str(wide), *X264), steady(frames=10), 10 / 25)
