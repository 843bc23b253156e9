"""Frames at asked times: a counter drawn as brightness is read back from what comes out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import write

from moderation.errors import MediaError
from moderation.types import InputKey
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits, probe
from moderation.video.source import MAX_TIMES, ReadOptions, VideoFrame, expression, read_frames

SMALL, LARGE = InputKey(32, 24, "stretch", "bilinear"), InputKey(64, 48, "stretch", "area")
FPS = 25
FRAMES = 200
COUNTER = (
    f"color=black:size=160x120:rate={FPS}:duration={FRAMES / FPS},geq=lum='16+N':cb=128:cr=128"
)
"""Frame N has luma 16 + N: up to 215 of video's 16 to 235."""


@pytest.fixture(scope="module")
def options() -> ReadOptions:
    return ReadOptions(program())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds with a key frame in 250: H.264 with B-frames."""
    words = ("-f", "lavfi", "-i", COUNTER, "-c:v", "libx264", "-qp", "4", "-g", "250")
    return write(tmp_path_factory.mktemp("source") / "film.mp4", *words, "-pix_fmt", "yuv420p")


def number(frame: VideoFrame) -> int:
    """The counter, from full-range brightness back to luma."""
    (pixels, *_) = frame.pixels.values()
    return round(float(pixels.mean()) * 219 / 255)


def children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


def read(
    path: Path,
    times: list[float],
    options: ReadOptions,
    keys: tuple[InputKey, ...] = (SMALL,),
) -> list[VideoFrame]:
    """The frames shown at these times, by the file's own index."""
    probed = probe(path, ProbeLimits())
    own = sorted({probed.index.shown_at(time_s) for time_s in times})
    seek_s = probed.index.seek_to(own[0])
    return list(read_frames(path, own, seek_s, probed.info, keys, options))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    moments=st.lists(
        st.tuples(st.integers(0, FRAMES - 1), st.sampled_from([0.0, 0.01, 0.03, 0.038])),
        min_size=1,
        max_size=40,
    ).map(sorted)
)
def test_the_frame_shown_at_each_time_comes_with_its_own_time(
    film: Path, options: ReadOptions, moments: list[tuple[int, float]]
) -> None:
    times = [index / FPS + later for index, later in moments]
    shown = sorted({index for index, _ in moments})
    frames = read(film, times, options)
    assert [round(frame.time_s * FPS) for frame in frames] == shown
    assert [number(frame) for frame in frames] == pytest.approx(shown, abs=1)


def test_every_size_of_a_frame_is_the_whole_frame(film: Path, options: ReadOptions) -> None:
    (frame,) = read(film, [4.0], options, (SMALL, LARGE))
    assert {key: pixels.shape for key, pixels in frame.pixels.items()} == {
        SMALL: (24, 32, 3),
        LARGE: (48, 64, 3),
    }
    for pixels in frame.pixels.values():
        assert pixels.dtype == np.uint8
        assert np.ptp(pixels) <= 2  # one brightness everywhere: no padding has crept in
        assert float(pixels.mean()) * 219 / 255 == pytest.approx(100, abs=1)


def test_colours_and_sides_are_as_shown(tmp_path: Path, options: ReadOptions) -> None:
    """Red on the left and blue on the right, stored on its side."""
    sides = "color=red:s=80x120:d=1[l];color=blue:s=80x120:d=1[r];[l][r]hstack"
    stored = write(
        tmp_path / "stored.mp4", "-f", "lavfi", "-i", sides, "-c:v", "libx264", "-qp", "4"
    )
    turn = ("-display_rotation", "180", "-i", str(stored), "-c", "copy")
    for path, left, right in (
        (stored, (254, 0, 0), (0, 0, 254)),
        (write(tmp_path / "turned.mp4", *turn), (0, 0, 254), (254, 0, 0)),
    ):
        (frame,) = read(path, [0.5], options)
        assert frame.pixels[SMALL][12, 4].tolist() == pytest.approx(left, abs=6)
        assert frame.pixels[SMALL][12, 28].tolist() == pytest.approx(right, abs=6)


def test_a_variable_frame_rate_keeps_each_frames_own_time(
    tmp_path: Path, film: Path, options: ReadOptions
) -> None:
    kept = "select='lt(n,50)+not(mod(n,20))'"  # 25 frames/s for two seconds, then one in 0.8 s
    words = ("-i", str(film), "-vf", kept, "-fps_mode", "passthrough", "-qp", "4")
    path = write(tmp_path / "vfr.mkv", *words)
    frames = read(path, [0.4, 1.0, 5.5, 6.4], options)  # at 5.5 s the frame of 4.8 s is held
    assert [frame.time_s for frame in frames] == pytest.approx([0.4, 1.0, 4.8, 6.4], abs=0.002)
    assert [number(frame) for frame in frames] == pytest.approx([10, 25, 120, 160], abs=1)


def test_leaving_out_frames_that_no_other_needs_finds_a_near_one(
    film: Path, options: ReadOptions
) -> None:
    quick = ReadOptions(options.program, skip="noref")
    for asked, frame in zip([1.0, 3.0, 5.0], read(film, [1.0, 3.0, 5.0], quick), strict=True):
        assert frame.time_s == pytest.approx(asked, abs=0.2)
        assert number(frame) == pytest.approx(frame.time_s * FPS, abs=1)


def test_a_file_cut_off_gives_what_it_has(tmp_path: Path, film: Path, options: ReadOptions) -> None:
    stream = write(tmp_path / "whole.ts", "-i", str(film), "-c", "copy")
    info = probe(stream, ProbeLimits()).info
    cut = tmp_path / "cut.ts"
    cut.write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    start_s = probe(stream, ProbeLimits()).index.times[0]
    times = [start_s, start_s + 1.0, start_s + 7.5]
    frames = list(read_frames(cut, times, 0.0, info, (SMALL,), options))
    assert [frame.time_s for frame in frames] == pytest.approx(times[:2])


def test_nothing_to_read_is_one_clear_error(
    tmp_path: Path, film: Path, options: ReadOptions
) -> None:
    info = probe(film, ProbeLimits()).info
    nonsense = tmp_path / "n.mp4"
    nonsense.write_bytes(b"nonsense" * 100)
    with pytest.raises(MediaError, match="no frame can be read") as caught:
        list(read_frames(nonsense, [0.0], 0.0, info, (SMALL,), options))
    assert "\n" not in str(caught.value)


def test_more_pixels_than_allowed_are_not_decoded(film: Path, options: ReadOptions) -> None:
    with pytest.raises(MediaError):
        read(film, [0.0], ReadOptions(options.program, max_pixels=160 * 120 - 1))


def test_the_time_limit_is_told(tmp_path: Path, film: Path, options: ReadOptions) -> None:
    """A pipe that nobody writes to: ffmpeg waits for ever."""
    info = probe(film, ProbeLimits()).info
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(MediaError) as caught:
        list(read_frames(pipe, [0.0], 0.0, info, (SMALL,), replace(options, timeout_s=0.3)))
    assert caught.value.code == "decode_timeout"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_ending_early_leaves_no_process(film: Path, options: ReadOptions) -> None:
    info = probe(film, ProbeLimits()).info
    before = children()
    frames = read_frames(film, [0.0, 1.0, 7.0], 0.0, info, (SMALL,), options)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert children() <= before


def test_what_follows_the_last_time_is_not_decoded(tmp_path: Path, options: ReadOptions) -> None:
    """Reading the first second of ten minutes takes no ten minutes of decoding."""
    words = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=20", "-c:v", "libx264")
    path = write(tmp_path / "film.mp4", *words)
    probed = probe(path, ProbeLimits())
    for skip in ("none", "noref"):
        reading = ReadOptions(options.program, skip=skip)  # type: ignore[arg-type]
        for last in (0.96, 1.0, 1.04, 1.08):
            wanted = [0.0, probed.index.shown_at(last)]
            frames = list(read_frames(path, wanted, 0.0, probed.info, (SMALL, LARGE), reading))
            assert len(frames) == 2


def test_times_have_to_ascend_and_to_be_few(film: Path, options: ReadOptions) -> None:
    info = probe(film, ProbeLimits()).info
    for times in ([], [2.0, 1.0], [0.1 * i for i in range(MAX_TIMES + 1)]):
        with pytest.raises(ValueError, match="ascending times"):
            next(read_frames(film, times, 0.0, info, (SMALL,), options))


def test_as_many_times_as_allowed_fit_into_one_command(film: Path, options: ReadOptions) -> None:
    times = [i * 0.06 for i in range(MAX_TIMES)]
    assert len(read(film, times, options)) == MAX_TIMES
    assert expression(times).count("+") >= MAX_TIMES - 1
