"""Whether the converted nsfwjs network answers what the original answers. For maintainers, once:

    npm install nsfwjs@4.4.0 @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    python -m moderation.models.training.convert_nsfwjs node_modules

The conversion itself is `moderation weights pull`. This runs the original in node by TensorFlow.js,
and the converted file by OpenVINO at f32, on the same pixels of ordinary pictures, and prints the
largest difference of a probability. It ends with exit code 1 where that is above 1e-3.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from moderation.models.npm.convert import PROBABILITIES, convert_nsfwjs

MODEL = "nsfwjs/dist/models/inception_v3"
SIDE = 299
MOST = 1e-3
PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")
TIMEOUT_S = 600

Floats = NDArray[np.float32]

# The shards are data; of the package's code nothing runs here either.
SCRIPT = """
const [modules, folder, pixels, count, side] = process.argv.slice(2);
const path = require('path'), fs = require('fs');
const at = (...parts) => path.join(path.resolve(modules), ...parts);
const tf = require(at('@tensorflow/tfjs'));
const wasm = require(at('@tensorflow/tfjs-backend-wasm'));
wasm.setWasmPaths(at('@tensorflow/tfjs-backend-wasm', 'dist') + path.sep);
(async () => {
  await tf.setBackend('wasm');
  const model = require(at(folder, 'model.min.js'));
  const group = model.weightsManifest[0];
  const text = one => require(at(folder, one + '.min.js'));
  const shards = group.paths.map(one => Buffer.from(text(one), 'base64'));
  const joined = Buffer.concat(shards);
  const weightData = joined.buffer.slice(joined.byteOffset, joined.byteOffset + joined.length);
  const net = await tf.loadLayersModel(tf.io.fromMemory(
    {modelTopology: model.modelTopology, weightSpecs: group.weights, weightData}));
  const raw = fs.readFileSync(pixels);
  const values = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
  const batch = tf.tensor4d(values, [Number(count), Number(side), Number(side), 3]);
  console.log(JSON.stringify(await net.predict(batch).array()));
})();
"""


def main(arguments: Sequence[str]) -> int:
    (modules,) = (Path(argument) for argument in arguments)
    batch = np.stack([_picture(name) for name in PICTURES])
    members = {file.name: file.read_bytes() for file in sorted((modules / MODEL).iterdir())}
    ours = _converted(convert_nsfwjs(members), batch)
    theirs = _original(modules, batch)
    for name, one, other in zip(PICTURES, ours, theirs, strict=True):
        print(f"{name:22} {np.round(one, 4)} {np.abs(one - other).max():.1e}")  # noqa: T201
    difference = float(np.abs(ours - theirs).max())
    print(f"largest difference of a probability: {difference:.1e}")  # noqa: T201
    return int(difference > MOST)


def _picture(name: str) -> Floats:
    """(SIDE, SIDE, 3) in 0..1, of the pictures that scikit-image brings."""
    from PIL import Image
    from skimage import data

    pixels = getattr(data, name)()
    square = Image.fromarray(pixels).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(square, np.float32) / np.float32(255)


def _converted(file: bytes, batch: Floats) -> Floats:
    model = ov.Core().read_model(file, b"")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    return np.array(compiled([pixels])[PROBABILITIES])


def _original(modules: Path, batch: Floats) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        script, pixels = Path(folder, "run.cjs"), Path(folder, "pixels")
        script.write_text(SCRIPT, "utf-8")
        pixels.write_bytes(batch.tobytes())
        command = [
            "node",
            str(script),
            str(modules),
            MODEL,
            str(pixels),
            str(len(batch)),
            str(SIDE),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    return np.asarray(json.loads(done.stdout.splitlines()[-1]), np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
