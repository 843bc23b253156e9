"""Proxies: what a browser gets instead of an uploaded film, through real ffmpeg."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from media import PICTURE, SOUND, write

from moderation.errors import MediaError
from moderation.video import derive
from moderation.video.derive import MAX_BYTES, bit_rate, proxy, size
from moderation.video.ffmpeg import program
from moderation.video.probe import Probed, ProbeLimits, VideoInfo, probe
from moderation.video.source import ReadOptions
from moderation.video.still import still

READING = ReadOptions(program())


def made(source: Path, folder: Path) -> tuple[bytes, Probed]:
    probed = probe(source, ProbeLimits())
    with proxy(source, probed.info, READING, folder) as file:
        data = file.read_bytes()
    return data, probed


def opened(path: Path, data: bytes) -> Probed:
    path.write_bytes(data)
    return probe(path, ProbeLimits())


def test_any_browser_plays_it(tmp_path: Path) -> None:
    source = write(
        tmp_path / "film.mkv",
        *("-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=3", *SOUND),
        *("-c:v", "ffv1", "-pix_fmt", "yuv444p", "-metadata", "title=secret", "-shortest"),
    )
    data, probed = made(source, tmp_path)
    info = opened(tmp_path / "p.mp4", data).info
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert (info.width, info.height) == (854, 480)
    assert info.audio == ()
    assert info.duration_s == pytest.approx(probed.info.held_s, abs=0.1)
    assert 0 < data.find(b"moov") < data.find(b"mdat"), "the index comes first"
    assert b"secret" not in data


def test_a_turned_film_is_upright_and_says_no_more_of_it(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.mp4", *PICTURE)
    turned = write(
        tmp_path / "turned.mp4", "-display_rotation", "90", "-i", str(flat), "-c", "copy"
    )
    data, probed = made(turned, tmp_path)
    assert probed.info.rotation in (90, 270)
    info = opened(tmp_path / "p.mp4", data).info
    assert (info.width, info.height, info.rotation) == (240, 320, 0)


def test_its_moments_are_those_of_the_film(tmp_path: Path) -> None:
    """Frames at odd times, and a time stamp that does not begin at 0."""
    odd = "testsrc=size=320x240:rate=25:duration=4,setpts='(N*N/60+N)/25/TB'"
    source = write(
        tmp_path / "film.mkv",
        *("-f", "lavfi", "-i", odd, "-fps_mode", "vfr", "-output_ts_offset", "7"),
    )
    data, probed = made(source, tmp_path)
    index = opened(tmp_path / "p.mp4", data).index
    assert len(index) == len(probed.index)
    np.testing.assert_allclose(index.times, probed.index.times, atol=0.002)


def test_a_fast_film_is_slowed_in_frames_and_not_in_time(tmp_path: Path) -> None:
    source = write(
        tmp_path / "film.mp4", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=100:duration=2"
    )
    data, _ = made(source, tmp_path)
    info = opened(tmp_path / "p.mp4", data).info
    assert info.frames == pytest.approx(60, abs=1)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1920, 1080), (854, 480)),
        ((1080, 1920), (270, 480)),
        ((321, 241), (320, 240)),
        ((1, 1), (2, 2)),
        ((16384, 16), (1280, 2)),
    ],
)
def test_sizes_are_even_and_bounded(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    told = VideoInfo("mp4", "h264", "yuv420p", *given, 0, 1.0, 1.0, 0.0, 25, (), 100)
    width, height = size(told)
    assert abs(width - wanted[0]) <= 2
    assert abs(height - wanted[1]) <= 2
    assert width % 2 == height % 2 == 0


def test_a_longer_film_gets_fewer_bits() -> None:
    assert bit_rate(60.0) == derive.BIT_RATE
    for duration_s in (3600.0, 6 * 3600.0):
        assert bit_rate(duration_s) * duration_s / 8 < MAX_BYTES


def test_no_file_is_left_and_nothing_may_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "film.mp4", *PICTURE)
    folder = tmp_path / "work"
    folder.mkdir()
    made(source, folder)
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(derive, "MAX_BYTES", 2000)
    with pytest.raises(MediaError, match="cannot be made anew"):
        made(source, folder)
    assert list(folder.iterdir()) == []


def test_a_program_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(
        tmp_path / "film.mp4",
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=60"),
        *("-preset", "ultrafast"),
    )
    monkeypatch.setattr(derive, "LONGEST_S", 0.5)
    with pytest.raises(MediaError) as raised:
        made(source, tmp_path)
    assert raised.value.code == "decode_timeout"
    left = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(source) not in left.stdout


def test_what_a_player_shows_is_what_the_still_shows(tmp_path: Path) -> None:
    paint = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,1,1.5)'"
    source = write(
        tmp_path / "film.mp4",
        *("-f", "lavfi", "-i", f"color=black:size=320x240:rate=25:duration=3,{paint}"),
    )
    data, probed = made(source, tmp_path)
    (tmp_path / "p.mp4").write_bytes(data)
    with av.open(str(tmp_path / "p.mp4")) as film:
        red = [
            frame.time
            for frame in film.decode(video=0)
            if frame.to_ndarray(format="rgb24")[..., 0].mean() > 128
        ]
    assert red[0] == pytest.approx(1.0, abs=0.002)
    picture = still(source, 1.0, probed.info, READING, max_side=640)
    assert picture[..., 0].mean() > 200
    assert still(source, 0.96, probed.info, READING, max_side=640)[..., 0].mean() < 40
