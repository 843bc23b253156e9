"""The trunk `scenes`: EfficientNet-Lite0, a frozen and a trained tail, three labels with boxes.

Stem and blocks 0 to 4 are shared and frozen. The frozen tail gives the published features; the
trained tail gives an image logit a label and, at strides 8 and 16, a centre heatmap a class with
the box of the object centred there (CenterNet: Zhou et al. 2019, arXiv:1904.07850; distances to
the four sides as in FCOS: Tian et al. 2019, arXiv:1904.01355).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moderation.models.nets.lite0 import Lite0

LABELS = ("violence.weapon", "violence.fire", "smoking.smoking")
CLASSES = ("cigarette", "pistol", "knife", "long_gun", "fire", "smoke_plume")
CLASSES_OF = {
    "violence.weapon": (1, 2, 3),
    "violence.fire": (4, 5),
    "smoking.smoking": (0,),
}
STRIDES = (8, 16)
OUTPUTS = ("embedding", "scores", "peaks", "boxes")
"""What is served, in this order."""
SPLIT = 5
"""The first block of the tails."""
EMBEDDING = 1280
TOP = 4
FUSED = 64
START = -4.6
"""Bias of the heatmaps before training: log odds of 1 %, so that the many empty cells do not
drown the first steps (Lin et al. 2017, arXiv:1708.02002)."""


class Maps(NamedTuple):
    """What the trained tail says. logits (n, labels); pooled (n, EMBEDDING); heats: for each
    stride log odds (n, classes, h, w); sides: (n, 4, h, w), distances from a cell's middle to
    left, top, right and bottom as fractions of the picture's side."""

    logits: Tensor
    pooled: Tensor
    heats: tuple[Tensor, ...]
    sides: tuple[Tensor, ...]


class Tail(nn.Module):
    """Blocks 5 to 15 and the last convolution of a `Lite0`, with its maps."""

    def __init__(self, trunk: Lite0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(trunk.blocks[SPLIT:])
        self.head = trunk.head

    def forward(self, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map of stride 8 (n, 40, h, w) -> maps of stride 16 (112) and 32 (320), pooled."""
        x = fine
        middle = fine
        for number, block in enumerate(self.blocks, start=SPLIT):
            x = block(x)
            if number == 10:
                middle = x
        return middle, x, self.head(x).mean(dim=(2, 3))


class Level(nn.Module):
    """Two depthwise-separable convolutions, then a heatmap and the sides."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.body = nn.Sequential(_separable(), _separable())
        self.heat = nn.Conv2d(FUSED, len(CLASSES), 1)
        self.sides = nn.Conv2d(FUSED, 4, 1)
        nn.init.constant_(self.heat.bias, START)
        nn.init.constant_(self.sides.bias, 1.0)

    def forward(self, fused: Tensor, side: float) -> tuple[Tensor, Tensor]:
        """side: pixels of the picture's side, of which the stride is a part."""
        x = self.body(fused)
        return self.heat(x), self.sides(x).clamp(-6, 5).exp() * (self.stride / side)


class Scenes(nn.Module):
    """The trained tail with its heads, over the shared map of stride 8."""

    def __init__(self, trunk: Lite0) -> None:
        super().__init__()
        self.tail = Tail(trunk)
        self.fine = nn.Conv2d(40, FUSED, 1)
        self.middle = nn.Conv2d(112, FUSED, 1)
        self.coarse = nn.Conv2d(320, FUSED, 1)
        self.levels = nn.ModuleList(Level(stride) for stride in STRIDES)
        self.drop = nn.Dropout(0.2)
        self.logit = nn.Linear(EMBEDDING, len(LABELS))

    def forward(self, fine: Tensor) -> Maps:
        middle, coarse, pooled = self.tail(fine)
        at_16 = self.middle(middle) + _twice(self.coarse(coarse))
        at_8 = self.fine(fine) + _twice(at_16)
        side = float(fine.shape[-1] * STRIDES[0])
        found = [
            level(fused, side) for level, fused in zip(self.levels, (at_8, at_16), strict=True)
        ]
        return Maps(
            self.logit(self.drop(pooled)),
            pooled,
            tuple(heat for heat, _ in found),
            tuple(sides for _, sides in found),
        )


class Front(nn.Module):
    """Stem and blocks 0 to 4: pixels (n, 3, side, side), scaled -> map of stride 8."""

    def __init__(self, trunk: Lite0) -> None:
        super().__init__()
        self.stem = trunk.stem
        self.blocks = nn.ModuleList(trunk.blocks[:SPLIT])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        return x


class Frozen(nn.Module):
    """What training never changes: pixels -> map of stride 8, published features."""

    def __init__(self, trunk: Lite0) -> None:
        super().__init__()
        self.front = Front(trunk)
        self.tail = Tail(trunk)
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.front(pixels)
        return fine, self.tail(fine)[2]


class Served(nn.Module):
    """All of it in one pass, as it is exported.

    probe: the logistic over the published features. fuse: weights of each label's own image logit,
    heat and frozen logistic (0 for another label's), and a constant; their sum is the label's
    calibrated log odds. One matrix: OpenVINO 2026.4 adds a constant wrongly that follows a sum over
    the last axis.
    """

    def __init__(self, frozen: Frozen, scenes: Scenes) -> None:
        super().__init__()
        self.frozen = frozen
        self.scenes = scenes
        self.probe = nn.Linear(EMBEDDING, len(LABELS))
        self.fuse = nn.Linear(len(LABELS) * 3, len(LABELS))
        self.set_fusion([[1.0, 1.0, 0.0, 0.0]] * len(LABELS))

    def set_fusion(self, rows: Sequence[Sequence[float]]) -> None:
        """rows (labels, 4): weights of image logit, heat and frozen logistic, and the constant."""
        with torch.no_grad():
            self.fuse.weight.zero_()
            for label, (*weights, constant) in enumerate(rows):
                self.fuse.weight[label, 3 * label : 3 * label + 3] = torch.tensor(weights)
                self.fuse.bias[label] = constant

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels (n, 3, side, side), scaled -> embedding, parts (n, labels, 3), scores, peaks,
        boxes; cells of stride 8 first, row by row."""
        fine, embedding = self.frozen(pixels)
        maps: Maps = self.scenes(fine)
        parts = torch.stack([maps.logits, heat_logits(maps.heats), self.probe(embedding)], dim=2)
        scores = self.fuse(parts.flatten(1))
        return {
            "embedding": embedding,
            "parts": parts,
            "scores": scores,
            "peaks": torch.cat([_cells(_peaks(heat)) for heat in maps.heats], dim=1),
            "boxes": torch.cat([_cells(corners(sides)) for sides in maps.sides], dim=1),
        }


class Network(Served):
    """What the committed safetensors file holds, with the outputs that are served."""

    def __init__(self) -> None:
        super().__init__(Frozen(Lite0()), Scenes(Lite0()))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels (n, 3, side, side), scaled -> OUTPUTS, in their order."""
        found = super().forward(pixels)
        return {name: found[name] for name in OUTPUTS}


def heat_logits(heats: Sequence[Tensor]) -> Tensor:
    """(n, labels): the mean of each label's TOP strongest cells, of all its classes and strides."""
    found = []
    for label in LABELS:
        classes = CLASSES_OF[label]
        first = classes[0]
        cells = [
            heat[:, first : classes[-1] + 1].amax(dim=1).flatten(1)
            if len(classes) > 1
            else heat[:, first].flatten(1)
            for heat in heats
        ]
        found.append(torch.cat(cells, dim=1).topk(TOP, dim=1).values.mean(dim=1))
    return torch.stack(found, dim=1)


def _separable() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(FUSED, FUSED, 5, padding=2, groups=FUSED, bias=False),
        nn.BatchNorm2d(FUSED),
        nn.ReLU6(),
        nn.Conv2d(FUSED, FUSED, 1, bias=False),
        nn.BatchNorm2d(FUSED),
        nn.ReLU6(),
    )


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _peaks(heat: Tensor) -> Tensor:
    """Probabilities where no neighbour is higher, else 0."""
    highest = nn.functional.max_pool2d(heat, 3, stride=1, padding=1)
    return heat.sigmoid() * (heat >= highest).to(heat.dtype)


def corners(sides: Tensor) -> Tensor:
    """Distances to the sides -> x1, y1, x2, y2 as fractions of the picture."""
    rows, columns = sides.shape[2:]
    x = ((torch.arange(columns, device=sides.device, dtype=sides.dtype) + 0.5) / columns)[
        None, None
    ]
    y = ((torch.arange(rows, device=sides.device, dtype=sides.dtype) + 0.5) / rows)[None, :, None]
    left, top, right, bottom = sides.unbind(dim=1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=1)


def _cells(maps: Tensor) -> Tensor:
    """(n, k, h, w) -> (n, h * w, k)."""
    return maps.flatten(2).transpose(1, 2)
