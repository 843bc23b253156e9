"""What a trained network says of pictures that it never saw, by the graph that is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.detections import detections
from moderation.models.nets.scenes import CLASSES, LABELS, OUTPUTS, Served
from moderation.models.spec import DetectorSpec
from moderation.models.training.scenes.examples import Load
from moderation.models.training.scenes.export import openvino_model
from moderation.models.training.scenes.front import MEAN, SCALE
from moderation.models.training.scenes.pictures import Picture
from moderation.pixels import resize
from moderation.types import Detection, InputKey

F32 = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """parts (n, labels, 3): log odds of image logit, heat and frozen logistic; found: the boxes
    of each picture, strongest first, whatever the labels' scores."""

    parts: F32
    found: tuple[tuple[Detection, ...], ...]


def score(
    served: Served,
    pictures: Sequence[Picture],
    load: Load,
    detector: DetectorSpec,
    *,
    side: int,
    threads: int = 2,
    progress: Progress | None = None,
) -> Said:
    """Every picture, whole, as it is served, in f32 on the CPU."""
    import openvino as ov

    model = openvino_model(served, side, (*OUTPUTS, "parts"))
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = ov.Core().compile_model(model, "CPU", config)
    key = InputKey(side, side, interpolation="bilinear")
    parts: list[F32] = []
    found: list[tuple[Detection, ...]] = []

    def squares(some: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        read = [load(picture) for picture in some]
        return [resize(one, (0, 0, one.shape[1], one.shape[0]), key) for one in read]

    with ThreadPoolExecutor(1, thread_name_prefix="load") as pool:
        ahead = pool.submit(squares, pictures[:BATCH])
        for start in range(0, len(pictures), BATCH):
            batch = np.stack(ahead.result())
            ahead = pool.submit(squares, pictures[start + BATCH : start + 2 * BATCH])
            scaled = (batch.astype(np.float32) - MEAN) / SCALE
            answer = compiled([np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))])
            said = {out.get_any_name(): np.array(answer[out]) for out in compiled.outputs}
            parts.append(said["parts"])
            found += detections(detector, said, len(batch), "scenes")
            if progress is not None:
                progress("scoring", start + len(batch), len(pictures))
    return Said(np.concatenate([np.zeros((0, len(LABELS), 3), np.float32), *parts]), tuple(found))


def detector(least: float) -> DetectorSpec:
    """The boxes of `scenes`, down to a probability."""
    from moderation.models.nets.scenes import CLASSES_OF

    classes = [
        {"label": label, "sublabel": CLASSES[index], "index": index}
        for label in LABELS
        for index in CLASSES_OF[label]
    ]
    return DetectorSpec.model_validate(
        {"peaks": "peaks", "boxes": "boxes", "least": least, "classes": classes}
    )
