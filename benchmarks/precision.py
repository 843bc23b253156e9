"""What f32, bf16 and INT8 cost and change, in one run.

    python -m benchmarks.precision [--json FILE]                  # speed
    MODERATION_DATASET_DIR=… python -m benchmarks.precision       # and verdicts, AUC

Speed: photographs that scikit-image and scikit-learn ship, scored by every picture network as a
worker does it: batches of 16 (images/s), and one at a time (median ms of a frame). "first stage"
is a frame of a film under the floors of the default policy: with f32 a first look in bf16, and
the second opinion where it could matter (docs/decisions/0016). The precisions take turns, so that
other work on the machine disturbs all alike. Verdicts: the tenth of the data set that trains
nothing, by the whole path, default policy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.first_look import decoded
from benchmarks.machine import machine
from benchmarks.photos import photographs
from benchmarks.verdicts import agreement, drift, here
from moderation.aggregate import floors
from moderation.models.runner import load_scorer
from moderation.models.training import datasets, metrics
from moderation.policy import load_policies
from moderation.settings import Settings, load_settings
from moderation.types import Verdict

PRECISIONS = ("f32", "bf16", "int8")
OFF = ("fights",)
"""Reads no single picture."""
BATCH, ROUNDS, FRAMES = 16, 8, 48


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.precision", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    told = parser.parse_args()
    answer: dict[str, Any] = {"machine": machine(), "speed": speed()}
    print(answer["machine"])
    for name, row in answer["speed"].items():
        print(f"  {name}: " + ", ".join(f"{key} {value:g}" for key, value in row.items()))
    settings = _settings("f32")
    if settings.dataset_dir is not None:
        answer["verdicts"] = verdicts(settings)
        for name, row in answer["verdicts"].items():
            print(f"  {name} against f32: {json.dumps(row)}")
    if told.json:
        told.json.write_text(json.dumps(answer, indent=1), "utf-8")
    return 0


def speed() -> dict[str, dict[str, float]]:
    """For each precision: images/s in batches and as a part of f32's; median ms of a frame, plain
    and under floors, and the share of frames for which no second opinion was asked."""
    named = floors(load_policies()["default"])
    scorers = {name: load_scorer(_settings(name)) for name in PRECISIONS}
    bodies = photographs(FRAMES)
    spent: dict[str, dict[str, list[float]]] = {
        name: {"batch": [], "frame": [], "staged": []} for name in PRECISIONS
    }
    asked = dict.fromkeys(PRECISIONS, 0)
    first = scorers["f32"]
    batches = [decoded(bodies[i : i + BATCH], first.keys) for i in range(0, FRAMES, BATCH)]
    frames = [decoded([body], first.keys) for body in bodies]
    for scorer in scorers.values():  # graphs are compiled at the first of each size
        scorer.score(batches[0])
        scorer.score(frames[0])
        scorer.score(frames[0], floors=named)
    for round_ in range(ROUNDS):
        for name, scorer in scorers.items():
            since = time.perf_counter()
            scorer.score(batches[round_ % len(batches)])
            spent[name]["batch"].append(time.perf_counter() - since)
    for frame in frames:
        for name, scorer in scorers.items():
            since = time.perf_counter()
            scorer.score(frame)
            middle = time.perf_counter()
            (seen,) = scorer.score(frame, floors=named).scores
            spent[name]["frame"].append(middle - since)
            spent[name]["staged"].append(time.perf_counter() - middle)
            asked[name] += "+" in seen.models["porn.explicit"]
    for scorer in scorers.values():
        scorer.close()
    base = float(np.median(spent["f32"]["batch"]))
    return {
        name: {
            "images_s": round(BATCH / float(np.median(of["batch"])), 1),
            "times_f32": round(base / float(np.median(of["batch"])), 2),
            "frame_ms": round(1000 * float(np.median(of["frame"])), 1),
            "frame_ms_first_stage": round(1000 * float(np.median(of["staged"])), 1),
            "skipped_second_opinion": round(1 - asked[name] / FRAMES, 3),
        }
        for name, of in spent.items()
    }


def verdicts(settings: Settings) -> dict[str, Any]:
    """bf16 and INT8 against f32: share of equal verdicts on all held-out pictures and on ordinary
    ones, the largest change of a score, and each label's AUC with the change in points."""
    samples = [
        one
        for one in datasets.read_manifest(datasets.dataset_dir(settings) / "manifest.csv")
        if datasets.is_held_out(one.file)
    ]
    roots = {group: datasets.open_group(settings, group) for group in {s.group for s in samples}}
    bodies = [(roots[one.group] / one.file).read_bytes() for one in samples]
    found = {name: _seen(name, bodies) for name in PRECISIONS}
    safe = np.array([one.group == "safe" for one in samples])
    truth = {
        label: np.array([label in one.labels for one in samples])
        for label in sorted({label for one in samples for label in one.labels})
    }
    exact = found["f32"]
    aucs = {name: _aucs(told, truth, safe) for name, told in found.items()}
    return {
        name: {
            "pictures": len(samples),
            "agreement": round(agreement(told, exact), 4),
            "ordinary": int(safe.sum()),
            "agreement_ordinary": round(agreement(_of(told, safe), _of(exact, safe)), 4),
            "largest_change": round(drift(told, exact), 3),
            "auc": {label: round(value, 4) for label, value in aucs[name].items()},
            "auc_points_lost": {
                label: round(100 * (aucs["f32"][label] - value), 2)
                for label, value in aucs[name].items()
            },
        }
        for name, told in found.items()
        if name != "f32"
    }


def _seen(precision: str, bodies: list[bytes]) -> list[Verdict]:
    def progress(done: int, of: int) -> None:
        if sys.stderr.isatty() and (done % 20 == 0 or done == of):
            print(f"\r{precision}: {done} of {of}", end="", file=sys.stderr, flush=True)

    return here(bodies, _settings(precision), progress=progress)


def _settings(precision: str) -> Settings:
    return load_settings(precision=precision, models_off=OFF)


def _of(verdicts: list[Verdict], chosen: np.ndarray) -> list[Verdict]:
    return [verdict for verdict, one in zip(verdicts, chosen, strict=True) if one]


def _aucs(
    told: list[Verdict], truth: Mapping[str, np.ndarray], safe: np.ndarray
) -> dict[str, float]:
    """Each label's pictures against ordinary ones."""
    found = {}
    for label, yes in truth.items():
        scores = np.array([verdict.scores[label] for verdict in told])
        found[label] = metrics.auc(scores[yes], scores[safe])
    return found


if __name__ == "__main__":
    sys.exit(main())
