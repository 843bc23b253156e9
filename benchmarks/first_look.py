"""What the first look at frames of video saves, and what it costs in recall.

    MODERATION_DATASET_DIR=… python -m benchmarks.first_look [--pictures 1500] [--json]

Pictures of all groups of the data set are scored with the floors of the default policy, as frames
of video are, and again without any. Told are the share of pictures for which each network was
asked, CPU time, how far scores moved, and the pictures that reach a floor in the exact precision
and were told to lie below.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from moderation.aggregate import floors
from moderation.models.runner import load_scorer
from moderation.policy import load_policies
from moderation.settings import load_settings
from moderation.types import DecodedImage, InputKey, MediaInfo, View

GROUPS = ("safe", "weapon", "fire", "violence", "smoking")
AT_ONCE = 16


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.first_look", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=int, default=1500)
    args = parser.parse_args()
    settings = load_settings()
    if settings.dataset_dir is None:
        parser.error("MODERATION_DATASET_DIR names no data set")
    result = run(settings.dataset_dir, args.pictures)
    print(json.dumps(result, indent=2) if args.json else report(result))
    return 1 if any(row["missed"] for row in result["labels"].values()) else 0


def run(dataset: Path, count: int) -> dict[str, Any]:
    settings = load_settings()
    scorer = load_scorer(settings)
    named = floors(load_policies()["default"])
    data = pictures(dataset, count)
    exact: list[dict[str, float]] = []
    quick: list[dict[str, float]] = []
    second = 0
    cpu = [0.0, 0.0]
    for start in range(0, len(data), AT_ONCE):
        frames = decoded(data[start : start + AT_ONCE], scorer.keys)
        began = time.process_time()
        exact += [dict(one.scores) for one in scorer.score(frames).scores]
        middle = time.process_time()
        scored = scorer.score(frames, floors=named).scores
        cpu = [cpu[0] + middle - began, cpu[1] + time.process_time() - middle]
        quick += [dict(one.scores) for one in scored]
        second += sum("+" in one.models["porn.explicit"] for one in scored)
    facts = scorer.describe()
    scorer.close()
    labels = {}
    for label, floor in named.items():
        if label not in exact[0]:
            continue  # an optional rule whose model is off
        true = np.array([one[label] for one in exact])
        told = np.array([one[label] for one in quick])
        reached = true >= floor
        labels[label] = {
            "floor": round(floor, 3),
            "reached": int(reached.sum()),
            "missed": int((reached & (told < floor)).sum()),
            "above_half": int((true >= 0.5).sum()),
            "most_lost_above_half": round(float(np.max((true - told)[true >= 0.5], initial=0)), 3),
        }
    looks = sorted({f"{f['id']} {f['first_look']}" for f in facts if "first_look" in f})
    return {
        "machine": machine(),
        "pictures": len(data),
        "first_look": looks,
        "asked_for_a_second_opinion": round(second / len(data), 3),
        "cpu_ms": [round(1000 * value / len(data), 1) for value in cpu],
        "labels": labels,
    }


def pictures(dataset: Path, count: int) -> list[bytes]:
    """Evenly over the groups, a third of them ordinary ones; drawn with a fixed seed."""
    with (dataset / "manifest.csv").open(encoding="utf-8") as lines:
        rows = [(row["group"], row["file"]) for row in csv.DictReader(lines)]
    found: list[bytes] = []
    for group in GROUPS:
        names = sorted(name for given, name in rows if given == group)
        share = count // 3 if group == "safe" else count // 6
        chosen = set(random.Random(7).sample(names, min(share, len(names))))  # noqa: S311
        with tarfile.open(dataset / f"{group}.tar.gz") as archive:
            for member in archive:
                if member.name in chosen and (file := archive.extractfile(member)) is not None:
                    found.append(file.read())
    return found


def decoded(data: list[bytes], keys: tuple[InputKey, ...]) -> DecodedImage:
    images = [Image.open(io.BytesIO(one)).convert("RGB") for one in data]
    pixels = {
        key: np.stack(
            [np.asarray(i.resize((key.width, key.height), Image.Resampling.BOX)) for i in images]
        )
        for key in keys
    }
    views = tuple(View(frame=i) for i in range(len(images)))
    return DecodedImage(MediaInfo("webp", 1, 1, 1, 1, 1), views, pixels)


def report(result: dict[str, Any]) -> str:
    exact, quick = result["cpu_ms"]
    lines = [
        f"{result['machine']}; {result['pictures']} pictures",
        f"first look: {', '.join(result['first_look']) or 'none on this processor'}",
        f"CPU ms a picture: {exact} without floors, {quick} with those of the default policy",
        f"second opinions asked for: {result['asked_for_a_second_opinion']:.1%}",
        "",
        "| label | floor | pictures that reach it | of these told below | "
        "most lost by a score of 0.5 or more |",
        "|---|---|---|---|---|",
    ]
    for label, row in result["labels"].items():
        lines.append(
            f"| `{label}` | {row['floor']} | {row['reached']} | {row['missed']} | "
            f"{row['most_lost_above_half']} (of {row['above_half']}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
