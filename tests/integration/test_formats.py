"""Every codec and container: the right length, and at every moment the frame shown then."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from media import write

from moderation.sniff import HEAD_BYTES, is_video
from moderation.video.probe import Probed
from tests.fakes import counter
from tests.fakes.formats import FORMATS, Format
from tests.fakes.probing import probe_here

FRAMES = 100
NO_TIMES = "the container tells decoding order only: times are late by the frames held back"
FAULTS = {
    "H.264 in AVI": NO_TIMES,
    "MPEG-1 in AVI": NO_TIMES,
    "MPEG-4 in AVI": NO_TIMES,
    "H.264 in MXF": NO_TIMES,
    "MPEG-1 in raw": "the fourth frame is missing in the index, which ends a frame late",
    "MPEG-2 in raw": "the first frame is missing in the index, which ends a frame late",
    "WebP in WebP": "the probe's decoder reads no animated WebP",
    "AV1 in AVIF": "the still picture is read, not the track that moves",
}
"""What is known to be read wrongly, and how."""


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Masters:
    return Masters(tmp_path_factory.mktemp("masters"))


class Masters:
    """Uncompressed films with a frame counter, each drawn once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, size: tuple[int, int], fps: str, frames: int = FRAMES) -> Path:
        name = f"{size[0]}x{size[1]}-{fps.replace('/', '_')}-{frames}.y4m"
        path = self._folder / name
        return path if path.exists() else counter.write(path, frames, size=size, fps=fps)


def moments(fps: float, frames: int = FRAMES) -> list[float]:
    """In the middle of frames, all over the film, and close to either border of one."""
    numbers = [0, 1, 2, *range(7, frames - 2, 11), frames - 2, frames - 1]
    return sorted(
        (number + part) / fps
        for number in numbers
        for part in ((0.5,) if number % 2 else (0.15, 0.85))
    )


def check(path: Path, probed: Probed, fps: float, tick_s: float, frames: int = FRAMES) -> None:
    assert probed.info.duration_s == pytest.approx(frames / fps, abs=0.1)
    assert len(probed.index) == probed.info.frames == frames
    own = [number / fps for number in range(frames)]
    assert probed.index.times.tolist() == pytest.approx(own, abs=tick_s)
    asked = moments(fps, frames)
    true = [int(time_s * fps) for time_s in asked]
    found = counter.shown(path, probed, asked)
    assert [number for _, number in found] == true
    assert [time_s for time_s, _ in found] == pytest.approx([own[n] for n in true], abs=tick_s)


def marked(told: Format) -> object:
    reason = FAULTS.get(told.name)
    marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
    return pytest.param(told, id=told.name, marks=marks)


@pytest.mark.parametrize("told", [marked(told) for told in FORMATS])
def test_formats(masters: Masters, tmp_path: Path, told: Format) -> None:
    master = masters.of(told.size, told.fps)
    path = write(tmp_path / f"film.{told.extension}", "-i", str(master), *told.words)
    with path.open("rb") as file:
        assert is_video(file.read(HEAD_BYTES)) == told.sniffed
    check(path, probe_here(path), float(Fraction(told.fps)), told.tick_s)
