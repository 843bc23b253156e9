"""Features of windows of the clips, through the network that serves, at f32; cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from moderation.models.training import datasets
from moderation.models.training.fights.clips import read_frames, windows
from moderation.models.training.fights.recipe import Recipe
from moderation.settings import Settings
from moderation.types import InputKey

Progress = Callable[[str, int, int], None]
"""(what, done, of)"""
SAVE_EVERY = 50
"""Clips between two writes of what is done: an interrupted run goes on from there."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """values (n, d): features of windows; clip (n,): the row of the clip that each is of."""

    values: NDArray[np.float32]
    clip: NDArray[np.int64]


def key_of(recipe: Recipe) -> InputKey:
    """What the network reads of a frame, and so what a media worker prepares."""
    return InputKey(recipe.width, recipe.height, "stretch", "area")


def compiled(network: ov.Model, *, precision: str = "f32", threads: int = 1) -> ov.CompiledModel:
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    return ov.Core().compile_model(network, "CPU", options)


def pixels_of(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(frames, height, width, 3) RGB -> (1, frames, 3, height, width), as the network reads it."""
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[None], np.float32)


def embed(
    files: Sequence[str],
    network: ov.Model,
    recipe: Recipe,
    digest: str,
    settings: Settings,
    progress: Progress | None = None,
) -> Windows:
    """Features of every clip's windows. digest: of the trunk's weights, for the cache's key.

    Raises ConfigError without data, or where a clip cannot be read."""
    told = [digest, str(key_of(recipe)), repr((recipe.frames, recipe.pools, recipe.steps))]
    key = hashlib.sha256("\n".join([*told, str(recipe.windows), *files]).encode()).hexdigest()
    path = datasets.cache_dir(settings) / "features" / f"fights-{key[:16]}.npz"
    values: list[NDArray[np.float32]] = []
    owner: list[int] = []
    done = 0
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            values, owner = list(stored["values"]), stored["clip"].tolist()
            done = int(stored["done"])
    if done < len(files):
        root = datasets.open_group(settings, "clips")
        read = compiled(network)
        for row in range(done, len(files)):
            frames = read_frames(root / files[row], key_of(recipe))
            for window in windows(len(frames), recipe.frames, recipe.windows):
                values.append(np.array(read([pixels_of(frames[window])])[0][0], np.float32))
                owner.append(row)
            done = row + 1
            if progress is not None:
                progress("fights: features", done, len(files))
            if done % SAVE_EVERY == 0 or done == len(files):
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                with part.open("wb") as stream:
                    np.savez(stream, values=np.stack(values), clip=np.array(owner), done=done)
                part.replace(path)
    return Windows(np.stack(values), np.array(owner, np.int64))
