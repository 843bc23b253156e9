"""What a window of frames costs: CPU milliseconds of each shipped clip model, on one thread.

    python -m benchmarks.windows

CPU time, not the clock's: other work on the machine disturbs it less. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import openvino as ov

from moderation.models.backends.openvino import embed_preprocessing
from moderation.models.registry import choose_artefact
from moderation.models.spec import ModelSpec, read_specs
from moderation.models.weights import resolve
from moderation.settings import Settings, load_settings

PRECISIONS = ("f32", "bf16")
PASSES = 9


def measure(settings: Settings) -> dict[str, Any]:
    """{"id@version": {precision: median CPU ms of a window}}."""
    specs = [spec for spec in read_specs(settings.manifests) if spec.clip and spec.default]
    return {
        spec.ref: {precision: _median_ms(spec, settings, precision) for precision in PRECISIONS}
        for spec in specs
    }


def _median_ms(spec: ModelSpec, settings: Settings, precision: str) -> float:
    if spec.input is None or spec.clip is None:
        raise ValueError(f"{spec.ref} reads no window")
    window = spec.clip
    path = resolve(spec, choose_artefact(spec, "openvino", precision), settings)
    network = embed_preprocessing(ov.Core().read_model(path), spec.input, window.frames)
    options = {
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = ov.Core().compile_model(network, "CPU", options)
    shape = (1, window.frames, window.key.height, window.key.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    compiled([pixels])
    spent = []
    for _ in range(PASSES):
        started = time.process_time()
        compiled([pixels])
        spent.append(time.process_time() - started)
    return round(float(np.median(spent)) * 1000, 1)


if __name__ == "__main__":
    json.dump(measure(load_settings()), sys.stdout, indent=2)
    sys.stdout.write("\n")
