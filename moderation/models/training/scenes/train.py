"""A whole run: data -> frozen features -> probes -> joint training -> scores -> files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from moderation.models.nets.lite0 import Lite0
from moderation.models.nets.scenes import LABELS, Frozen, Scenes, Served
from moderation.models.training import datasets
from moderation.models.training.heads import fit_head
from moderation.models.training.scenes import augment
from moderation.models.training.scenes.examples import Load
from moderation.models.training.scenes.fit import Step, fit
from moderation.models.training.scenes.front import Front, OpenVinoFront, TorchFront
from moderation.models.training.scenes.pictures import Picture, load_pixels, read_pictures, shrink
from moderation.models.training.scenes.recipe import Fold, Recipe
from moderation.settings import Settings

F32 = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
PROBE_SIDE = 224


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished run: its network, and the pictures that it never saw."""

    served: Served
    unseen: tuple[Picture, ...]
    folder: Path


def train(
    recipe: Recipe,
    settings: Settings,
    *,
    fold: str | None = None,
    device: str = "cpu",
    threads: int = 2,
    progress: Progress | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Run:
    """Train on everything but the held-out tenth, its look-alikes and the fold's sources.

    A run that was stopped goes on where it was. Raises ConfigError without data or weights.
    """
    torch.set_num_threads(threads)
    where = torch.device(device)
    pictures = read_pictures(datasets.dataset_dir(settings))
    load = Loader(settings)
    left_out = recipe.folds[fold] if fold is not None else Fold()
    embeddings = frozen_features(
        pictures, load, _front(trunk(settings), recipe.frozen_side, where, threads), recipe,
        settings, progress,
    )  # fmt: skip
    clusters = datasets.look_alikes(embeddings, [picture.source for picture in pictures])
    allowed = datasets.trainable([picture.file for picture in pictures], clusters)
    rows = [i for i, p in enumerate(pictures) if allowed[i] and not left_out.leaves_out(p)]
    training = [pictures[i] for i in rows]
    folder = datasets.cache_dir(settings) / recipe.id / f"{_digest(recipe)}-{fold or 'all'}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.jsonl"
    probe = probes(training, embeddings[rows], recipe)
    network = Scenes(trunk(settings))
    network.logit.load_state_dict(probe.state_dict())

    def told(step: Step) -> None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(step)) + "\n")
        if watch is not None:
            watch(step)

    front = _front(trunk(settings), recipe.side, where, threads)
    fitted = fit(
        network, front, training, load, recipe,
        state=folder / "state.pt", watch=told, device=where,
        workers=threads if where.type == "cuda" else 0,
    )  # fmt: skip
    served = Served(Frozen(trunk(settings)), fitted.cpu()).eval()
    served.probe.load_state_dict(probe.state_dict())
    save_file(
        {k: v.contiguous() for k, v in served.state_dict().items()}, folder / "served.safetensors"
    )
    seen = {picture.file for picture in training}
    return Run(served, tuple(p for p in pictures if p.file not in seen), folder)


def trunk(settings: Settings) -> Lite0:
    """The published EfficientNet-Lite0, as it is committed."""
    network = Lite0()
    state = load_file(settings.manifests / "lite0" / "model.safetensors")
    network.load_state_dict({name: value.float() for name, value in state.items()})
    network.eval()
    return network


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads pictures by name, their archives unpacked where needed. Can be pickled."""

    settings: Settings

    def __call__(self, picture: Picture) -> NDArray[np.uint8]:
        root = _root(self.settings, picture.file.partition("/")[0])
        return load_pixels(root / picture.file)


@functools.cache
def _root(settings: Settings, group: str) -> Path:
    return datasets.open_group(settings, group)


def frozen_features(
    pictures: Sequence[Picture],
    load: Load,
    front: Front,
    recipe: Recipe,
    settings: Settings,
    progress: Progress | None = None,
) -> F32:
    """Published features (n, 1280) of whole pictures, first shrunk to PROBE_SIDE; cached."""
    names = "\n".join([str(recipe.frozen_side), *(picture.file for picture in pictures)])
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    path = datasets.cache_dir(settings) / recipe.id / f"features-{key}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    rows = []
    for start in range(0, len(pictures), recipe.batch):
        part = pictures[start : start + recipe.batch]
        small = [shrink(load(picture), PROBE_SIDE) for picture in part]
        squares = [augment.stretched(picture, recipe.frozen_side) for picture in small]
        rows.append(front(torch.from_numpy(np.stack(squares)))[1].float().cpu().numpy())
        if progress is not None:
            progress("frozen features", start + len(part), len(pictures))
    found = np.concatenate(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as stream:
        np.save(stream, found)
    path.with_suffix(".part").replace(path)
    return found


def probes(pictures: Sequence[Picture], features: F32, recipe: Recipe) -> nn.Linear:
    """A logistic a label over the published features: its positives against ordinary pictures."""
    layer = nn.Linear(features.shape[1], len(LABELS))
    with torch.no_grad():
        for row, label in enumerate(LABELS):
            members = [i for i, p in enumerate(pictures) if p.safe or p.label == label]
            truth = np.array([not pictures[i].safe for i in members])
            head = fit_head(features[members], truth, c=recipe.probe_c[label])
            layer.weight[row] = torch.from_numpy(head.weight)
            layer.bias[row] = head.bias
    return layer


def _front(network: Lite0, side: int, device: torch.device, threads: int) -> Front:
    if device.type == "cpu":
        return OpenVinoFront(network, side, threads)
    return TorchFront(network, device)


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:12]
