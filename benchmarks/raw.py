"""The physical limit: the service's own networks on ready pixels, nothing around them.

Every layout of threads and batches below is tried on the same pixels; the fastest is the
limit that the service is compared with. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from moderation.images import DecodePlan, decode_image
from moderation.models.backends.openvino import embed_preprocessing, options
from moderation.models.registry import choose_artefact
from moderation.models.spec import ModelSpec, read_specs
from moderation.models.weights import resolve
from moderation.settings import Settings, load_settings

LAYOUTS = ((1, 1), (1, 4), (2, 1), (2, 4), (2, 8))  # (streams, batch)


def measure(settings: Settings, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """Pictures/s of all networks together, for each layout; `per_second` is the best."""
    specs = [s for s in read_specs(settings.manifests) if s.input and not s.clip and s.default]
    keys = tuple(dict.fromkeys(s.input.key for s in specs if s.input is not None))
    plan = DecodePlan(keys, settings.max_pixels, settings.max_frames)
    started = time.perf_counter()
    decoded = [decode_image(body, plan) for body in bodies]
    decode_ms = (time.perf_counter() - started) * 1000 / len(bodies)
    stacked = [
        np.concatenate([d.pixels[spec.input.key][:1] for d in decoded])
        for spec in specs
        if spec.input is not None
    ]
    rates = {
        f"{streams} stream(s), batch {batch}": round(
            _rate(settings, specs, stacked, streams, batch, seconds), 2
        )
        for streams, batch in LAYOUTS
    }
    return {
        "models": [spec.ref for spec in specs],
        "precision": settings.precision,
        "decode_ms": round(decode_ms, 2),
        "layouts": rates,
        "per_second": max(rates.values()),
    }


def _rate(
    settings: Settings,
    specs: list[ModelSpec],
    stacked: list[NDArray[np.uint8]],
    streams: int,
    batch: int,
    seconds: float,
) -> float:
    chosen = {**options(settings), "NUM_STREAMS": streams}
    queues = []
    for spec in specs:
        path = resolve(spec, choose_artefact(spec, "openvino", settings.precision), settings)
        assert spec.input is not None
        model = embed_preprocessing(ov.Core().read_model(path), spec.input)
        queues.append(ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", chosen), streams))
    starts = cycle(range(0, len(stacked[0]) - batch + 1, batch))

    def run_for(limit_s: float) -> float:
        done = 0
        begun = time.perf_counter()
        while time.perf_counter() - begun < limit_s:
            first = next(starts)
            for queue, pixels in zip(queues, stacked, strict=True):
                queue.start_async([pixels[first : first + batch]])
            done += batch
        for queue in queues:
            queue.wait_all()
        return done / (time.perf_counter() - begun)

    run_for(min(1.0, seconds / 4))
    return run_for(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of *.jpg")
    parser.add_argument("--seconds", type=float, default=5.0, help="time of each layout")
    args = parser.parse_args()
    bodies = [path.read_bytes() for path in sorted(args.photos.glob("*.jpg"))]
    if not bodies:
        parser.error(f"no *.jpg in {args.photos}")
    sys.stdout.write(json.dumps(measure(load_settings(), bodies, args.seconds)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
