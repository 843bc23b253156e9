"""Embeddings of whole pictures, through the trunk that serves, at f32; cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from PIL import Image

from moderation.models.spec import InputSpec, ModelSpec, read_specs
from moderation.models.training import datasets
from moderation.models.weights import resolve
from moderation.pixels import resize
from moderation.settings import Settings

SIDE = 320
ENCODER = "lite0"
BATCH = 16
FRAMES = 3

Progress = Callable[[str, int, int], None]
"""(what, done, of)"""


def one_size(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """RGB, the longest side brought to `side`: sources differ in size, and a head would learn
    the sharpness instead of the thing."""
    rgb = picture.convert("RGB")
    scale = side / max(rgb.size)
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    return rgb.resize(size, Image.Resampling.BILINEAR)


def pixels_of(picture: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """The whole picture stretched to the model's input, by the code that serves: uint8
    (height, width, 3) RGB."""
    return resize(np.asarray(picture), (0, 0, *picture.size), spec.key)


class Network:
    """One OpenVINO network at f32 on the CPU, as its manifest describes it."""

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        if spec.input is None:
            raise ValueError(f"{spec.ref} reads no pixels")
        self.spec, self.input = spec, spec.input
        artefact = next(a for a in spec.artefacts if a.backend == "openvino")
        core = ov.Core()
        model = core.read_model(resolve(spec, artefact, settings))
        config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        self._compiled = core.compile_model(model, "CPU", config)

    def __call__(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """batch (n, height, width, 3) RGB -> every output by name."""
        colours = batch if self.input.colour == "RGB" else batch[..., ::-1]
        mean = np.asarray(self.input.mean, np.float32)
        scale = np.asarray(self.input.scale, np.float32)
        tensor = (colours.astype(np.float32) - mean) / scale
        if self.input.layout == "NCHW":
            tensor = tensor.transpose(0, 3, 1, 2)
        found = self._compiled([np.ascontiguousarray(tensor)])
        return {out.get_any_name(): np.array(found[out]) for out in self._compiled.outputs}


def encoder_spec(settings: Settings) -> ModelSpec:
    """The published trunk by itself. `scenes` gives the same embedding, and costs more."""
    return next(s for s in read_specs(settings.manifests) if s.id == ENCODER)


def embed(
    files: Sequence[str],
    open_picture: Callable[[str], Image.Image],
    settings: Settings,
    *,
    name: str,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embeddings (n, d) f32 of `files`, whole pictures at one size, through the trunk.

    Cached under `name` with a key of the trunk's weights, its input and the file names.
    """
    spec = encoder_spec(settings)
    key = hashlib.sha256("\n".join([spec.model_dump_json(), str(SIDE), *files]).encode())
    path = datasets.cache_dir(settings) / "features" / f"{name}-{key.hexdigest()[:16]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["embeddings"], np.float32)
    network = Network(spec, settings)
    output = spec.embedding_output or "embedding"
    rows = []
    done = 0

    def load(file: str) -> NDArray[np.uint8]:
        with open_picture(file) as picture:
            return pixels_of(one_size(picture), network.input)

    with ThreadPoolExecutor(2) as pool:
        for names in _chunks(files, BATCH):
            rows.append(network(np.stack(list(pool.map(load, names))))[output])
            done += len(names)
            if progress is not None:
                progress(name, done, len(files))
    embeddings = np.concatenate(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, embeddings=embeddings)
    part.replace(path)
    return embeddings


def embed_group(
    group: str, files: Sequence[str], settings: Settings, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Embeddings of one group's pictures, its archive unpacked when needed."""
    root = datasets.open_group(settings, group)
    return embed(
        files, lambda file: Image.open(root / file), settings, name=group, progress=progress
    )


def embed_clips(
    files: Sequence[str], settings: Settings, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Embeddings of FRAMES frames of each clip, evenly spaced: (clips * FRAMES, d)."""
    root = datasets.open_group(settings, "clips")
    frames = {
        f"{file}#{index}": picture
        for file in files
        for index, picture in enumerate(clip_frames(root / file))
    }
    return embed(list(frames), frames.__getitem__, settings, name="clips", progress=progress)


def clip_frames(path: Path, count: int = FRAMES) -> list[Image.Image]:
    """`count` evenly spaced frames of a clip. Raises OSError when it does not decode."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    frames = []
    try:
        while (read := capture.read())[0]:
            frames.append(read[1])
    finally:
        capture.release()
    if not frames:
        raise OSError(f"{path} has no readable frame")
    picks = ((2 * index + 1) * len(frames) // (2 * count) for index in range(count))
    return [Image.fromarray(np.ascontiguousarray(frames[pick][..., ::-1])) for pick in picks]


def _chunks(files: Sequence[str], size: int) -> Iterator[list[str]]:
    items = iter(files)
    while chunk := list(islice(items, size)):
        yield chunk
