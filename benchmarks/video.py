"""`moderation scan` on long films: speed beside the limits of the machine, borders, memory.

    python -m benchmarks.video [--json] [--hours 3] [--passage FILE]

A film of ten minutes (720p, 30 frames/s, about 1.2 Mb/s) is scanned, at one frame a second by the
default plan. Beside it: ffmpeg alone with the command that is printed, the models alone on as many
frames, a straight decode, and the naive way (OpenCV reads every frame, one a second is scored).
Then the same film with a passage of three seconds in it, at four places; then a long film, for its
memory. The passage is a file that you name, or the first picture of fire in the data set
(MODERATION_DATASET_DIR) that the models take for one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.film import PASSAGE_S, joined, minute
from benchmarks.machine import machine
from benchmarks.tree import Cost, measure
from moderation.analyse import Analyser
from moderation.decoders import DecoderPool
from moderation.models.runner import load_scorer
from moderation.policy import load_policies
from moderation.settings import load_settings
from moderation.types import DecodedImage, MediaInfo, View
from moderation.video.ffmpeg import program

MINUTES = 10
PLACES = {
    "at the very start": (0, 0.0, 0.0),
    "between key frames of a 10 s GOP": (5, 33.0, 10.0),
    "across a key frame": (6, 28.5, 10.0),
    "at the very end": (9, 57.0, 0.0),
}
"""place -> minute, second in it, distance of key frames (0: as the encoder likes)"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.video", description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--hours", type=float, default=3.0, help="of the long film; 0: none")
    parser.add_argument("--passage", type=Path, help="picture or clip of what a policy flags")
    parser.add_argument("--child", choices=("models", "naive"), help=argparse.SUPPRESS)
    parser.add_argument("--film", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        (models_alone if args.child == "models" else naive)(args.film)
        return 0
    with tempfile.TemporaryDirectory(prefix="moderation-bench-") as scratch:
        result = run(Path(scratch), args.hours, args.passage)
    print(json.dumps(result, indent=2) if args.json else report(result))
    return 0


def run(folder: Path, hours: float, passage: Path | None) -> dict[str, Any]:
    """All figures, JSON-ready."""
    say("film")
    plain = minute(folder / "minute.mp4")
    film = joined(folder / "ten.mp4", [plain] * MINUTES)
    result: dict[str, Any] = {"machine": machine(), "bytes": film.stat().st_size}
    result["precision"] = load_settings().precision
    say("scan")
    cost, verdict = scan(film)
    result["scan"] = figures(cost) | {"verdict": verdict}
    say("ffmpeg alone")
    command = sampling_command(film)
    result["command"] = shlex.join(["ffmpeg", *command[1:]]).replace(f"{folder}/", "")
    result["ffmpeg"] = figures(measure(command, timeout_s=600))
    say("models alone")
    result["models"] = figures(measure(child("models", film), timeout_s=600))
    say("straight decode")
    straight = [program(), "-nostdin", "-v", "error", "-threads", "1", "-i", str(film)]
    result["decode"] = figures(measure([*straight, "-f", "null", "-"], timeout_s=600))
    say("the naive way")
    result["naive"] = figures(measure(child("naive", film), timeout_s=1200))
    result["passages"] = passages(folder, plain, passage)
    if hours:
        say("long film")
        long = joined(folder / "long.mp4", [plain] * round(hours * 60))
        cost, verdict = scan(long)
        result["long"] = figures(cost) | {"hours": hours, "verdict": verdict}
    return result


def say(words: str) -> None:
    print(f"{words} …", file=sys.stderr)


def figures(cost: Cost) -> dict[str, float]:
    told = asdict(cost)
    return {name: round(told[name], 2) for name in ("wall_s", "cpu_s", "pss_mib", "rss_mib")}


def scan(film: Path) -> tuple[Cost, dict[str, Any]]:
    argv = [sys.executable, "-m", "moderation.cli", "scan", "--json", str(film)]
    cost = measure(argv, timeout_s=3600)
    verdict: dict[str, Any] = json.loads(cost.output)
    kept = ("decision", "segments", "coverage", "timings_ms")
    return cost, {name: verdict[name] for name in kept}


def child(name: str, film: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.video", "--child", name, "--film", str(film)]


def sampling_command(film: Path) -> list[str]:
    """One frame a second at the sizes of the models: what reading costs at the least."""
    keys = sorted({(k.width, k.height) for k in load_keys()}, reverse=True)
    scaled = "".join(
        f";[s{i}]scale={w}:{h}:flags=area+accurate_rnd+full_chroma_int,format=rgb24[o{i}]"
        for i, (w, h) in enumerate(keys)
    )
    names = "".join(f"[s{i}]" for i in range(len(keys)))
    picked = "select='isnan(prev_selected_t)+gte(t-prev_selected_t,1)'"
    words = [program(), "-nostdin", "-v", "error", "-threads", "1", "-skip_frame", "noref"]
    words += ["-i", str(film), "-filter_complex", f"[0:v]{picked},split={len(keys)}{names}{scaled}"]
    for i in range(len(keys)):
        words += ["-map", f"[o{i}]", "-fps_mode", "passthrough", "-f", "rawvideo", os.devnull]
    return [*words[:2], "-y", *words[2:]]


def load_keys() -> tuple[Any, ...]:
    scorer = load_scorer(load_settings())
    keys = scorer.keys
    scorer.close()
    return keys


def models_alone(film: Path) -> None:
    """As many frames as a second has, from real pixels, every network on each."""
    scorer = load_scorer(load_settings())
    video = cv2.VideoCapture(str(film))
    frames = [video.read()[1] for _ in range(64)]
    video.release()
    for start in range(0, MINUTES * 60 + 1, len(frames)):
        score(scorer, frames[: min(len(frames), MINUTES * 60 + 1 - start)])
    scorer.close()


def naive(film: Path) -> None:
    """Reads every frame and scores one a second."""
    scorer = load_scorer(load_settings())
    video = cv2.VideoCapture(str(film))
    number = 0
    while True:
        given, frame = video.read()
        if not given:
            break
        if number % 30 == 0:
            score(scorer, [frame])
        number += 1
    video.release()
    scorer.close()


def score(scorer: Any, frames: list[Any]) -> None:
    views = tuple(View(frame=i) for i in range(len(frames)))
    pixels = {
        key: np.stack(
            [
                cv2.resize(frame, (key.width, key.height), interpolation=cv2.INTER_AREA)[..., ::-1]
                for frame in frames
            ]
        )
        for key in scorer.keys
    }
    scorer.score(DecodedImage(MediaInfo("raw", 1280, 720, 1, 1, 1), views, pixels))


def passages(folder: Path, plain: Path, passage: Path | None) -> list[dict[str, Any]]:
    passage = passage or flagged_picture(folder)
    if passage is None:
        return []
    rows = []
    for place, (number, at_s, gop_s) in PLACES.items():
        say(f"a passage {place}")
        marked = minute(folder / "marked.mp4", passage=passage, at_s=at_s, gop_s=gop_s)
        minutes = [marked if i == number else plain for i in range(MINUTES)]
        film = joined(folder / "marked-ten.mp4", minutes)
        cost, verdict = scan(film)
        start_s = number * 60 + at_s
        segments = verdict["segments"]
        errors = [
            max(abs(s["start_s"] - start_s), abs(s["end_s"] - start_s - PASSAGE_S))
            for s in segments
        ]
        rows.append(
            {
                "place": place,
                "true": [start_s, start_s + PASSAGE_S],
                "decision": verdict["decision"],
                "segments": segments,
                "border_error_s": round(min(errors), 3) if errors else None,
                "wall_s": round(cost.wall_s, 2),
            }
        )
    return rows


def flagged_picture(folder: Path) -> Path | None:
    """The first picture of fire, by name, that the default policy does not pass; None without
    data."""
    settings = load_settings()
    if settings.dataset_dir is None:
        return None
    with (settings.dataset_dir / "manifest.csv").open(encoding="utf-8") as lines:
        names = sorted(row["file"] for row in csv.DictReader(lines) if row["group"] == "fire")
    policy = load_policies()["default"]
    scorer = load_scorer(settings)
    try:
        with (
            DecoderPool.from_settings(settings) as pool,
            tarfile.open(settings.dataset_dir / "fire.tar.gz") as archive,
        ):
            analyser = Analyser(scorer, pool, settings)
            for name in names:
                member = archive.extractfile(name)
                data = member.read() if member else b""
                reasons = analyser.analyse(data, policy).outcome.reasons
                if any(reason.label == "violence.fire" for reason in reasons):
                    path = folder / f"passage{Path(name).suffix}"
                    path.write_bytes(data)
                    return path
    finally:
        scorer.close()
    return None


def report(result: dict[str, Any]) -> str:
    seconds = MINUTES * 60
    rows = [
        ("`moderation scan`, one frame a second", result["scan"]),
        ("ffmpeg alone, one frame a second", result["ffmpeg"]),
        ("models alone, all networks", result["models"]),
        ("straight decode, nothing else", result["decode"]),
        ("naive: OpenCV reads all, scores one a second", result["naive"]),
    ]
    limit = result["ffmpeg"]["cpu_s"] + result["models"]["cpu_s"]
    lines = [
        f"{result['machine']}; {result['precision']}; {result['bytes'] / 1e6:.0f} MB",
        "",
        "| what | wall s | x real time | CPU s | to ffmpeg + models | peak MiB (PSS / RSS) |",
        "|---|---|---|---|---|---|",
    ]
    for what, cost in rows:
        cells = (
            what,
            f"{cost['wall_s']:.1f}",
            f"{seconds / cost['wall_s']:.1f}",
            f"{cost['cpu_s']:.1f}",
            f"{cost['cpu_s'] / limit:.2f}",
            f"{cost['pss_mib']:.0f} / {cost['rss_mib']:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"ffmpeg alone is `{result['command']}`", ""]
    if result["passages"]:
        lines += ["| passage of 3 s | decision | segments | border error s |", "|---|---|---|---|"]
        for row in result["passages"]:
            told = "; ".join(
                f"{s['label']} {s['start_s']:.2f}-{s['end_s']:.2f}" for s in row["segments"]
            )
            lines.append(
                f"| {row['place']} ({row['true'][0]:g}-{row['true'][1]:g}) | {row['decision']} "
                f"| {told} | {row['border_error_s']} |"
            )
    if "long" in result:
        cost = result["long"]
        ratio = cost["hours"] * 3600 / cost["wall_s"]
        lines += [
            "",
            f"{cost['hours']:g} hours: {cost['wall_s']:.0f} s, {ratio:.0f} x real time, "
            f"peak {cost['pss_mib']:.0f} MiB PSS, {cost['rss_mib']:.0f} MiB RSS, "
            f"{cost['verdict']['coverage']['frames_sampled']} frames",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
