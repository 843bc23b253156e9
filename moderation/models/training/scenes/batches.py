"""Batches drawn ahead of training, by one thread or by many processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from moderation.models.training.scenes.examples import Load, Sampler
from moderation.models.training.scenes.pictures import Picture
from moderation.models.training.scenes.recipe import Recipe
from moderation.models.training.scenes.targets import Batch, collate

AHEAD = 3
"""Batches that wait, for each drawer."""


class Tensors(NamedTuple):
    """`targets.Batch` in torch; levels: (heat, box, weight) for each stride."""

    pixels: Tensor
    logit: Tensor
    top: Tensor
    known: Tensor
    clean: Tensor
    levels: tuple[tuple[Tensor, Tensor, Tensor], ...]

    def to(self, device: torch.device) -> Tensors:
        """On a device; the copy does not wait where the memory is pinned."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Tensors(
            pixels=moved(self.pixels),
            logit=moved(self.logit),
            top=moved(self.top),
            known=moved(self.known),
            clean=moved(self.clean),
            levels=tuple((moved(h), moved(b), moved(w)) for h, b, w in self.levels),
        )


def batches(
    pictures: Sequence[Picture],
    load: Load,
    recipe: Recipe,
    *,
    done: int = 0,
    workers: int = 0,
    pinned: bool = False,
) -> Generator[Tensors]:
    """For ever. `done`: steps before this call, which seed the draws together with the recipe.

    workers 0 is one thread beside training, which is enough on a CPU: pixels cost a tenth of a
    step. A GPU needs one process for each core; the draws then depend on their number, and `load`
    has to be picklable.
    """
    if workers == 0:
        yield from _by_thread(pictures, load, recipe, done)
    else:
        yield from DataLoader(
            _Drawn(pictures, load, recipe, done),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD,
            pin_memory=pinned,
            # Not fork: threads of OpenVINO and torch that the parent has would hold their locks.
            multiprocessing_context="forkserver",
        )


class _Drawn(IterableDataset[Tensors]):
    def __init__(self, pictures: Sequence[Picture], load: Load, recipe: Recipe, done: int) -> None:
        self._pictures, self._load, self._recipe, self._done = pictures, load, recipe, done

    def __iter__(self) -> Iterator[Tensors]:
        cv2.setNumThreads(1)
        told = get_worker_info()
        number = 0 if told is None else told.id
        random = np.random.default_rng((self._recipe.seed, self._done, number))
        sampler = Sampler(self._pictures, self._recipe, self._load, random)
        while True:
            yield _drawn(sampler, self._recipe)


def _by_thread(
    pictures: Sequence[Picture], load: Load, recipe: Recipe, done: int
) -> Iterator[Tensors]:
    random = np.random.default_rng((recipe.seed, done))
    sampler = Sampler(pictures, recipe, load, random)
    with ThreadPoolExecutor(1, thread_name_prefix="draw") as pool:
        waiting: list[Future[Tensors]] = [
            pool.submit(_drawn, sampler, recipe) for _ in range(AHEAD)
        ]
        try:
            while True:
                batch = waiting.pop(0).result()
                waiting.append(pool.submit(_drawn, sampler, recipe))
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _drawn(sampler: Sampler, recipe: Recipe) -> Tensors:
    return _tensors(collate([sampler.draw() for _ in range(recipe.batch)]))


def _tensors(batch: Batch) -> Tensors:
    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)

    return Tensors(
        tensor(batch.pixels),
        tensor(batch.logit),
        tensor(batch.top),
        tensor(batch.known),
        tensor(batch.clean),
        tuple((tensor(one.heat), tensor(one.box), tensor(one.weight)) for one in batch.levels),
    )
