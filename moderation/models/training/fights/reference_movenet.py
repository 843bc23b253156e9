"""What TensorFlow makes of MoveNet's graph, to check its translation; once, by a maintainer.

    python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0
    /tmp/tf/bin/python moderation/models/training/fights/reference_movenet.py package/models OUT.npz

Runs the JSON's nodes one by one through TensorFlow's own operations, on random pixels. It imports
nothing of the project, so that the environment needs TensorFlow alone.
"""

import base64
import json
import math
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

HEAT = "StatefulPartitionedCall/Sigmoid"
MAP = (
    "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/model"
    "/out_relu/Relu6"
)
FUSED = {"Relu": tf.nn.relu, "Relu6": tf.nn.relu6}


def main(package: Path, out: Path) -> None:
    told = json.loads((package / "movenet-multipose.json").read_text("utf-8"))
    nodes = {node["name"]: node for node in told["modelTopology"]["node"]}
    content, at = (package / "movenet-multipose.bin").read_bytes(), 0
    made = {}
    for entry in (one for group in told["weightsManifest"] for one in group["weights"]):
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = math.prod(entry["shape"])
        part = content[at : at + count * stored.itemsize]
        made[entry["name"]] = tf.constant(
            np.frombuffer(part, stored).reshape(entry["shape"]).astype(entry["dtype"])
        )
        at += len(part)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 320, 3)).astype(np.int32)
    made["input"] = tf.constant(pixels)

    def run(name: str):  # type: ignore[no-untyped-def]
        if name not in made:
            made[name] = operate(nodes[name])  # type: ignore[no-untyped-call]
        return made[name]

    def operate(node):  # type: ignore[no-untyped-def]
        kind, attributes = node["op"], node["attr"]
        first = run(node["input"][0])
        if kind == "ResizeBilinear":
            size = [2 * first.shape[1], 2 * first.shape[2]]
            return tf.raw_ops.ResizeBilinear(images=first, size=size, half_pixel_centers=True)
        if kind in ("Cast", "Sigmoid"):
            return tf.cast(first, tf.float32) if kind == "Cast" else tf.sigmoid(first)
        second = run(node["input"][1])
        if kind in ("Sub", "Mul", "AddV2"):
            return {"Sub": tf.subtract, "Mul": tf.multiply, "AddV2": tf.add}[kind](first, second)
        steps = [int(step) for step in attributes["strides"]["list"]["i"]]
        padding = base64.b64decode(attributes["padding"]["s"]).decode()
        convolve = tf.nn.depthwise_conv2d if "epthwise" in kind else tf.nn.conv2d
        found = convolve(first, second, steps, padding)
        fused = attributes.get("fused_ops", {"list": {"s": []}})["list"]["s"]
        for called in (base64.b64decode(one).decode() for one in fused):
            found = found + run(node["input"][2]) if called == "BiasAdd" else FUSED[called](found)
        return found

    sys.setrecursionlimit(10_000)
    np.savez(out, pixels=pixels, heat=run(HEAT).numpy(), map=run(MAP).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
