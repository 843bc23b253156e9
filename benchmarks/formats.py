"""Which codecs and containers are read, and how exactly: every one that is written here.

    python -m benchmarks.formats > table.md

Films with a frame counter drawn in are written by the bundled ffmpeg and read by the service's
own reader. For two frames in ten the number shown at that moment is read back from the picture;
"exact" says that each was the frame which is shown then, and that its time was right to the
container's own tick. Prints a table in Markdown.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from moderation.errors import MediaError
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits, probe
from tests.fakes import counter
from tests.fakes.formats import FORMATS, Format

FRAMES = 100


@dataclass(frozen=True, slots=True)
class Result:
    """fault: None where every frame was the right one at the right time."""

    told: Format
    fault: str | None


def main() -> int:
    results = []
    with tempfile.TemporaryDirectory(prefix="moderation-formats-") as folder:
        for told in FORMATS:
            results.append(Result(told, _fault(told, Path(folder))))
            print(f"{told.name}: {results[-1].fault or 'exact'}", file=sys.stderr)
    exact = sum(result.fault is None for result in results)
    print(f"{exact} of {len(results)} are exact.\n")
    print("| codec | exact in | not exact |")
    print("|---|---|---|")
    for codec, several in groupby(results, key=lambda result: result.told.codec):
        rows = list(several)
        good = ", ".join(row.told.container for row in rows if row.fault is None)
        bad = "; ".join(f"{row.told.container}: {row.fault}" for row in rows if row.fault)
        print(f"| {codec} | {good} | {bad} |")
    return 0


def _fault(told: Format, folder: Path) -> str | None:
    fps = float(Fraction(told.fps))
    path = folder / f"film.{told.extension}"
    master = counter.write(folder / "master.y4m", FRAMES, size=told.size, fps=told.fps)
    words = ["-nostdin", "-v", "error", "-y", "-i", str(master), *told.words, str(path)]
    subprocess.run(
        [program(), *words], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        probed = probe(path, ProbeLimits())
    except MediaError as error:
        return f"refused ({error.code}: {error})"
    if probed.info.frames != FRAMES:
        return f"{probed.info.frames} of {FRAMES} frames found"
    asked = [number for number in range(FRAMES) if number % 10 in (0, 7)]
    found = counter.shown(path, probed, [(number + 0.5) / fps for number in asked])
    if any(number is None for _, number in found):
        return "frames that are not seen"
    late = [s - n / fps for s, n in found if s is not None and n is not None]
    worst = max(late, key=abs)
    if abs(worst) > told.tick_s:
        return f"times are up to {abs(worst):.2f} s {'late' if worst > 0 else 'early'}"
    if [number for _, number in found] != asked:
        return "another frame than the one that is shown"
    off = max(abs(time_s - i / fps) for i, time_s in enumerate(probed.index.times))
    if off > told.tick_s or abs(probed.info.duration_s - FRAMES / fps) > 0.1:
        return f"frames are right, times in the index up to {off:.2f} s off"
    return None


if __name__ == "__main__":
    sys.exit(main())
