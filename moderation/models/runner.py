"""`Scorer`: decoded views in, calibrated scores of all loaded models out.

One encoder pass feeds all heads; views of many callers share one batcher. The scorer parses
no file: pixels come ready from a decoder child.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from moderation.errors import ConfigError
from moderation.models.backends.base import Pixels
from moderation.models.batcher import Batcher, BatcherStats
from moderation.models.cascade import Floors
from moderation.models.chosen import chosen_specs
from moderation.models.ensemble import Ensemble, Models
from moderation.models.spec import ModelSpec
from moderation.settings import Settings
from moderation.types import DecodedImage, InputKey, MediaScores, ViewScores, Window


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A view, (height, width, 3) for every key, or a window, (frames, height, width, 3) for its
    own key."""

    pixels: Mapping[InputKey, Pixels]
    floors: Floors | None = None
    window: Window | None = None


class Scorer:
    """Thread-safe front of the loaded models."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self.keys = models.keys
        self.windows = models.windows
        self.models = models.refs
        self.labels = models.labels
        self.device = models.device
        self.precision = models.precision
        # A picture of many views comes in portions: it takes turns with the others, and the
        # callers of a worker fit into the queue together.
        self._portion = max(1, min(2 * settings.max_batch, settings.max_queue))
        self._batcher: Batcher[_Task, ViewScores] = Batcher(
            self._run,
            max_batch=settings.max_batch,
            max_delay_s=settings.max_delay_ms / 1000,
            max_queue=settings.max_queue,
        )

    def describe(self) -> list[dict[str, Any]]:
        """Facts of each model: id, version, task, labels, licence, precision, device."""
        return self._models.describe()

    def _run(self, tasks: Sequence[_Task]) -> list[ViewScores]:
        """Views together, and windows of a kind together."""
        alike: dict[Window | None, list[int]] = {}
        for row, task in enumerate(tasks):
            alike.setdefault(task.window, []).append(row)
        said: dict[int, ViewScores] = {}
        for window, rows in alike.items():
            pixels = [tasks[row].pixels for row in rows]
            if window is None:
                found = self._models.score(pixels, [tasks[row].floors for row in rows])
            else:
                stacked = np.stack([one[window.key] for one in pixels])
                found = self._models.score_windows(window, stacked)
            said.update(zip(rows, found, strict=True))
        return [said[row] for row in range(len(tasks))]

    def score(
        self,
        decoded: DecodedImage,
        *,
        deadline: float | None = None,
        floors: Floors | None = None,
        patient: bool = False,
    ) -> MediaScores:
        """Scores of every view, in order; waits for them, longer where `patient`.

        deadline: `time.monotonic()`. floors: the lowest scores that matter (`Floors`): second
        opinions that could not reach them are not asked for. Raises OverloadedError (queue
        full), ExpiredError, InferenceError (the backend failed on one of the views).
        """
        views = [
            _Task({key: decoded.pixels[key][i] for key in self.keys}, floors)
            for i in range(len(decoded.views))
        ]
        scores = self._in_portions(views, self._portion, _or_never(deadline), patient)
        return MediaScores(decoded.views, tuple(scores))

    def score_windows(self, window: Window, clips: Sequence[Pixels]) -> list[ViewScores]:
        """Scores of windows of a video by the models that read them, in order; pictures that
        somebody waits for go first. clips: (frames, height, width, 3) each. Raises as `score`."""
        tasks = [_Task({window.key: pixels}, window=window) for pixels in clips]
        # A window weighs as much as its frames.
        portion = max(1, self._portion // window.frames)
        return self._in_portions(tasks, portion, math.inf, patient=True)

    def _in_portions(
        self, tasks: Sequence[_Task], portion: int, deadline: float, patient: bool
    ) -> list[ViewScores]:
        scores: list[ViewScores] = []
        for start in range(0, len(tasks), portion):
            part = tasks[start : start + portion]
            scores += _all(self._batcher.submit(part, deadline=deadline, patient=patient))
        return scores

    @property
    def oldest_running_s(self) -> float:
        """Seconds that the current forward pass has run (0 while idle): for a watchdog."""
        return self._batcher.running_s

    def stats(self) -> BatcherStats:
        return self._batcher.stats()

    def close(self) -> None:
        """Answer what waits, then let go of the models.

        A pass that hangs keeps its models: freeing them under it would crash the process.
        """
        if self._batcher.close():
            self._models.close()


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


def _all(futures: Sequence[Future[ViewScores]]) -> Iterable[ViewScores]:
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()  # after a failure nobody reads the rest


def load_scorer(
    settings: Settings, *, specs: Sequence[ModelSpec] | None = None, lazy: bool = False
) -> Scorer:
    """Verify and load every model that is on (or `specs`), warm up, start the batcher.

    lazy: for a program that may not need all of them, each is compiled when it is first asked.
    Raises ConfigError (SpecError, WeightsError) in one line: never a silent fall-back.
    """
    if settings.backend == "fake":
        from moderation.models.backends.fake import FakeModels

        return Scorer(FakeModels(settings), settings)
    chosen = chosen_specs(settings) if specs is None else [spec for spec in specs if spec.default]
    if not chosen:
        raise ConfigError(f"no model in {settings.manifests} is on")
    ensemble = Ensemble.load(chosen, settings, lazy=lazy)
    if not lazy:
        ensemble.warm_up(settings.max_batch)
    return Scorer(ensemble, settings)
