"""Pictures on a GPU (or the CPU) through torch: speed, and whether the answers are OpenVINO's.

    python -m benchmarks.gpu pack FOLDER            # where OpenVINO is: answers to compare with
    python -m benchmarks.gpu speed FOLDER --device cuda
    python -m benchmarks.gpu jobs FOLDER --device cuda   # needs redis-server

A GPU machine may have neither OpenVINO nor a way to the internet. `pack` computes there what
OpenVINO answers: outputs of every picture network for a few photographs, and verdicts on 200
pictures under a policy whose thresholds lie among their scores. `speed` prints images/s of each
network and of all, and the largest difference of an output. `jobs` starts a Redis and a worker
(`moderation worker --backend torch`), lets it take the 200 pictures through Celery, and compares.
It exits with 1 where fewer than 99.5 % of the verdicts agree. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.verdicts import agreement, drift, here
from moderation.models.backends.base import Backend, Outputs, Pending
from moderation.models.registry import backend_class, plan
from moderation.models.spec import ModelSpec, read_specs
from moderation.models.weights import resolve
from moderation.settings import Settings, load_settings

Pixels = NDArray[np.uint8]
OFF = ("fights",)
"""Runs through OpenVINO alone, and answers nothing for single pictures."""
ANSWERS, PICTURES = "answers.npz", "jobs.zip"
JOBS, SHOWN = 200, 16
AGREE = 0.995
BATCHES = {"cuda": (1, 8, 32, 128), "cpu": (1, 8, 32)}
PRECISIONS = {"cuda": ("f32", "f16"), "cpu": ("f32", "bf16")}
SECONDS = 1.5
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Speed:
    """images_s of one network ("all": each picture by all of them, as for a verdict)."""

    network: str
    precision: str
    batch: int
    images_s: float


@dataclass(frozen=True, slots=True)
class Parity:
    """difference: the largest of an output from OpenVINO's at f32, as a part of its largest."""

    network: str
    precision: str
    output: str
    difference: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", choices=("pack", "speed", "jobs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    told = parser.parse_args(arguments)
    if told.what == "pack":
        pack(told.folder)
        return 0
    if told.what == "speed":
        speeds, parities = speed(told.folder, told.device)
        answer: dict[str, Any] = {
            "machine": _chip(told.device),
            "speed": [asdict(one) for one in speeds],
            "parity": [asdict(one) for one in parities],
        }
        agreed = True
    else:
        answer = {"machine": _chip(told.device), **jobs(told.folder, told.device)}
        agreed = all(run["agreement"] >= AGREE for run in answer["runs"])
    if told.json:
        told.json.write_text(json.dumps(answer, indent=1), "utf-8")
    return 0 if agreed else 1


def pack(folder: Path) -> None:
    """What `speed` and `jobs` compare with, by OpenVINO at f32 on this CPU."""
    from benchmarks.photos import photographs
    from moderation.images import DecodePlan, decode_image
    from tests.fakes import queued

    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(backend="openvino", device="cpu", precision="f32", models_off=OFF)
    specs = networks(settings)
    keys = tuple(dict.fromkeys(spec.input.key for spec in specs if spec.input is not None))
    wanted = DecodePlan(keys, settings.max_pixels, settings.max_frames)
    photos = [decode_image(body, wanted).pixels for body in photographs(SHOWN)]
    held: dict[str, Any] = {}
    for spec in specs:
        assert spec.input is not None
        squares = np.concatenate([views[spec.input.key][:1] for views in photos])
        backend = _loaded(spec, settings)
        held[f"{spec.id}:pixels"] = squares
        held |= {f"{spec.id}:{name}": v for name, v in _answers(backend, squares).items()}
        backend.close()
    np.savez_compressed(folder / ANSWERS, **held)
    bodies = queued.pictures(JOBS)
    policy = queued.dividing(bodies, settings)
    verdicts = here(bodies, settings, policy)
    with zipfile.ZipFile(folder / PICTURES, "w") as held_jobs:
        held_jobs.writestr("policy.json", policy.model_dump_json())
        for number, (body, verdict) in enumerate(zip(bodies, verdicts, strict=True)):
            held_jobs.writestr(f"{number:03}.jpg", body)
            held_jobs.writestr(f"{number:03}.json", verdict.model_dump_json())
    print(f"{machine()}: {SHOWN} photographs and {JOBS} verdicts are in {folder}")


def networks(settings: Settings) -> list[ModelSpec]:
    """The picture networks that are on by default."""
    specs = read_specs(settings.manifests)
    return [s for s in specs if s.input is not None and s.clip is None and s.default]


def speed(folder: Path, device: str) -> tuple[list[Speed], list[Parity]]:
    """Prints as it goes: minutes on a CPU."""
    kind = device.partition(":")[0]
    held = np.load(folder / ANSWERS)
    print(_chip(device))
    speeds: list[Speed] = []
    parities: list[Parity] = []
    for precision in PRECISIONS[kind]:
        settings = load_settings(backend="torch", device=device, precision=precision)
        specs = networks(settings)
        backends = {spec.id: _loaded(spec, settings) for spec in specs}
        for spec in specs:
            told = _answers(backends[spec.id], held[f"{spec.id}:pixels"])
            for name, values in told.items():
                golden = held[f"{spec.id}:{name}"]
                if spec.detector is not None and name == spec.detector.peaks:
                    least = spec.detector.least  # a tie of two cells may go either way below it
                    values, golden = (np.where(v < least, 0, v) for v in (values, golden))
                most = float(np.abs(values - golden).max() / max(1.0, np.abs(golden).max()))
                parities.append(Parity(spec.id, precision, name, most))
                print(f"  {precision} {spec.id} {name}: {most:.1e} from OpenVINO f32")
        for batch in BATCHES[kind]:
            chosen = {spec.id: _repeated(held[f"{spec.id}:pixels"], batch) for spec in specs}
            groups = {**{one: (one,) for one in chosen}, "all": tuple(chosen)}
            for name, members in groups.items():
                rate = _rate([(backends[one], chosen[one]) for one in members], batch)
                speeds.append(Speed(name, precision, batch, round(rate, 1)))
                print(f"  {precision} {name}, batch {batch}: {rate:,.1f} images/s", flush=True)
        for backend in backends.values():
            backend.close()
    return speeds, parities


def jobs(folder: Path, device: str) -> dict[str, Any]:
    """The packed pictures through a Redis, Celery and a worker on the device."""
    from moderation.policy import Policy
    from moderation.types import Verdict
    from tests.fakes import queued
    from tests.servers import redis_server

    with zipfile.ZipFile(folder / PICTURES) as held:
        policy = Policy.model_validate_json(held.read("policy.json"))
        bodies = [held.read(name) for name in sorted(held.namelist()) if name.endswith(".jpg")]
        theirs = [
            Verdict.model_validate_json(held.read(f"{number:03}.json"))
            for number in range(len(bodies))
        ]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MODERATION_")}
    runs = []
    with redis_server() as redis, tempfile.TemporaryDirectory() as home:
        for number, precision in enumerate(PRECISIONS[device.partition(":")[0]]):
            found = queued.answered(
                bodies,
                policy,
                home=Path(home) / precision,
                broker=redis.url.replace("/0", f"/{number}"),
                words=("--backend", "torch", "--device", device),
                env={**clean, "MODERATION_PRECISION": precision, "MODERATION_MODELS_OFF": OFF[0]},
                timeout_s=PATIENCE_S,
            )
            decided = Counter(verdict.decision.value for verdict in found.verdicts)
            run = {
                "precision": precision,
                "jobs": len(found.verdicts),
                "seconds": round(found.seconds, 2),
                "device": found.verdicts[0].device,
                "decisions": dict(decided),
                "agreement": agreement(found.verdicts, theirs),
                "drift": drift(found.verdicts, theirs),
            }
            print(run, flush=True)
            runs.append(run)
    return {"runs": runs}


def _loaded(spec: ModelSpec, settings: Settings) -> Backend:
    chosen = plan(spec, settings)
    path = resolve(spec, chosen.artefact, settings)
    backend = backend_class(chosen.backend)(spec, path, chosen.settings)
    backend.load()
    return backend


def _answers(backend: Backend, pixels: Pixels) -> Outputs:
    parts = [backend.start(pixels[i : i + 8]).result() for i in range(0, len(pixels), 8)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _repeated(pixels: Pixels, count: int) -> Pixels:
    return np.ascontiguousarray(pixels[np.arange(count) % len(pixels)])


def _rate(work: Sequence[tuple[Backend, Pixels]], batch: int) -> float:
    """Pictures a second from memory to answers, one batch ahead, by every network of `work`."""

    def start() -> list[Pending]:
        return [backend.start(pixels) for backend, pixels in work]

    def finish(running: list[Pending]) -> None:
        for one in running:
            one.result()

    finish(start())
    finish(start())
    done, waiting = 0, start()
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        ahead = start()
        finish(waiting)
        waiting, done = ahead, done + batch
    rate = done / (time.perf_counter() - started)
    finish(waiting)
    return rate


def _chip(device: str) -> str:
    import torch

    words = f"{machine()}, torch {torch.__version__}"
    if device.startswith("cuda"):
        words = f"{torch.cuda.get_device_name(torch.device(device))}, {words}"
    return words


if __name__ == "__main__":
    sys.exit(main())
