"""The loss of `scenes`: image logits, heatmaps, boxes, and an anchor to the published features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from moderation.models.nets.scenes import Maps, corners, heat_logits
from moderation.models.training.scenes.recipe import Losses


def loss(
    maps: Maps,
    embedding: Tensor,
    *,
    logit: Tensor,
    top: Tensor,
    known: Tensor,
    clean: Tensor,
    levels: Sequence[tuple[Tensor, Tensor, Tensor]],
    weights: Losses,
) -> tuple[Tensor, Mapping[str, float]]:
    """The sum and its parts, by name. Arrays as in `targets.Batch`; levels: (heat, box, weight);
    embedding: the frozen tail's features of the same pictures."""
    parts = {
        "logit": _entropy(maps.logits, logit),
        "heat": weights.heat * focal(maps.heats, [heat for heat, _, _ in levels], known),
        "top": weights.top * _entropy(heat_logits(maps.heats), top),
        "box": weights.box * boxes(maps.sides, [(box, weight) for _, box, weight in levels]),
        "anchor": weights.anchor * _anchor(maps.pooled, embedding, clean),
    }
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(part.detach()) for name, part in parts.items()}


def _entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross entropy over what is known (not NaN); 0 where nothing is."""
    known = ~truth.isnan()
    each = functional.binary_cross_entropy_with_logits(
        logits, truth.nan_to_num(0.0), reduction="none"
    )
    return (each * known).sum() / known.sum().clamp(min=1)


def focal(heats: Sequence[Tensor], truths: Sequence[Tensor], known: Tensor) -> Tensor:
    """CenterNet's focal loss (Zhou et al. 2019, alpha 2, beta 4) over all strides, by the number
    of objects; classes of which nobody knows are left out."""
    total = heats[0].new_zeros(())
    objects = heats[0].new_zeros(())
    mask = known[:, :, None, None].to(heats[0].dtype)
    for heat, truth in zip(heats, truths, strict=True):
        p = heat.sigmoid()
        middle = (truth == 1).to(heat.dtype) * mask
        rest = (1 - truth) ** 4 * p**2 * functional.softplus(heat) * (mask - middle)
        hit = (1 - p) ** 2 * functional.softplus(-heat) * middle
        total = total + hit.sum() + rest.sum()
        objects = objects + middle.sum()
    return total / objects.clamp(min=1)


def boxes(sides: Sequence[Tensor], truths: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) of the cells near an object's middle, by their weight."""
    total = sides[0].new_zeros(())
    count = sides[0].new_zeros(())
    for found, (box, weight) in zip(sides, truths, strict=True):
        inside = weight > 0
        told = corners(found).permute(0, 2, 3, 1)[inside]
        true = box.permute(0, 2, 3, 1)[inside]
        total = total + ((1 - giou(told, true)) * weight[inside]).sum()
        count = count + weight[inside].sum()
    return total / count.clamp(min=1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """(n, 4) corners against (n, 4): -1..1 each."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    outer = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    overlap = inner.prod(dim=1)
    union = _area(a) + _area(b) - overlap
    hull = outer.prod(dim=1)
    return overlap / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def _area(box: Tensor) -> Tensor:
    return (box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1)


def _anchor(pooled: Tensor, embedding: Tensor, clean: Tensor) -> Tensor:
    """1 - cosine to the published features, on clean pictures."""
    far = 1 - functional.cosine_similarity(pooled, embedding, dim=1)
    return (far * clean).sum() / clean.sum().clamp(min=1)
