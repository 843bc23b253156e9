"""The training loop of `scenes`: resumable, with averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moderation.models.nets.scenes import Maps, Scenes
from moderation.models.training.scenes.batches import Tensors, batches
from moderation.models.training.scenes.examples import Load
from moderation.models.training.scenes.front import Front
from moderation.models.training.scenes.losses import loss
from moderation.models.training.scenes.pictures import Picture
from moderation.models.training.scenes.recipe import Recipe

SAVE_EVERY = 100
LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class Step:
    """What a few steps cost and gave: parts of the loss by name, their mean."""

    step: int
    of: int
    seconds: float
    losses: dict[str, float]


Watch = Callable[[Step], None]


def fit(
    scenes: Scenes,
    front: Front,
    pictures: Sequence[Picture],
    load: Load,
    recipe: Recipe,
    *,
    state: Path | None = None,
    watch: Watch | None = None,
    device: torch.device | None = None,
    workers: int = 0,
) -> Scenes:
    """Train and return the averaged weights. `state`: a file that the run continues from where
    it exists, and writes to now and then; it belongs to one recipe and one set of pictures.
    workers: processes that draw pictures, see `batches`. CUDA computes in bf16, losses in f32."""
    device = device or torch.device("cpu")
    scenes = scenes.to(device, memory_format=torch.channels_last).train()
    averaged = {name: value.detach().clone() for name, value in scenes.state_dict().items()}
    optimiser = torch.optim.AdamW(_groups(scenes, recipe), weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe))
    done = 0
    if state is not None and state.is_file():
        held = torch.load(state, map_location=device, weights_only=True)
        scenes.load_state_dict(held["scenes"])
        optimiser.load_state_dict(held["optimiser"])
        schedule.load_state_dict(held["schedule"])
        averaged, done = held["averaged"], int(held["step"])
    torch.manual_seed(recipe.seed + done)
    totals: dict[str, float] = {}
    since = time.monotonic()
    drawn = batches(
        pictures, load, recipe, done=done, workers=workers, pinned=device.type == "cuda"
    )
    for step, batch in zip(range(done + 1, recipe.steps + 1), drawn, strict=False):
        parts = _train(scenes, front, batch, recipe, optimiser, device)
        schedule.step()
        _average(averaged, scenes, min(recipe.average, (1 + step) / (10 + step)))
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value
        if step % LOG_EVERY == 0 or step == recipe.steps:
            count = (step - 1) % LOG_EVERY + 1
            if watch is not None:
                told = {name: value / count for name, value in totals.items()}
                watch(Step(step, recipe.steps, time.monotonic() - since, told))
            totals = {}
        if state is not None and (step % SAVE_EVERY == 0 or step == recipe.steps):
            _save(state, scenes, optimiser, schedule, averaged, step)
    scenes.load_state_dict(averaged)
    scenes.eval()
    return scenes


def _train(
    scenes: Scenes,
    front: Front,
    batch: Tensors,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> dict[str, float]:
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        fine, embedding = front(batch.pixels)
        maps: Maps = scenes(fine.to(memory_format=torch.channels_last))
    total, parts = loss(
        Maps(
            maps.logits.float(),
            maps.pooled.float(),
            tuple(heat.float() for heat in maps.heats),
            tuple(sides.float() for sides in maps.sides),
        ),
        embedding.float(),
        logit=batch.logit,
        top=batch.top,
        known=batch.known,
        clean=batch.clean,
        levels=batch.levels,
        weights=recipe.losses,
    )
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(scenes.parameters(), 5.0)
    optimiser.step()
    if not math.isfinite(float(total.detach())):
        raise ArithmeticError("the loss is not finite: a smaller rate may help")
    return dict(parts)


def _groups(scenes: Scenes, recipe: Recipe) -> list[dict[str, Any]]:
    tail = list(scenes.tail.parameters())
    known = {id(parameter) for parameter in tail}
    heads = [p for p in scenes.parameters() if id(p) not in known]
    return [
        {"params": tail, "lr": recipe.rate},
        {"params": heads, "lr": recipe.rate * recipe.heads_rate},
    ]


def _rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to 2 % of the rate."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    part = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


def _average(averaged: dict[str, Tensor], scenes: Scenes, decay: float) -> None:
    with torch.no_grad():
        for name, value in scenes.state_dict().items():
            if value.dtype.is_floating_point:
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)


def _save(
    path: Path,
    scenes: Scenes,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    averaged: dict[str, Tensor],
    step: int,
) -> None:
    """Written aside and renamed: a stop in between leaves the file before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(
        {
            "scenes": scenes.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "averaged": averaged,
            "step": step,
        },
        part,
    )
    part.replace(path)
