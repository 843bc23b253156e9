"""All loaded networks and heads as one function: a batch of views -> their scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from moderation.errors import InferenceError, SpecError
from moderation.models.backends.base import Backend, Outputs, Pixels
from moderation.models.cascade import DRIFT, Floors, ScoreTable, second_opinions
from moderation.models.heads import Heads, sigmoid
from moderation.models.registry import backend_class, choose_artefact, plan
from moderation.models.spec import ModelSpec, windows_of
from moderation.models.weights import resolve
from moderation.settings import Settings
from moderation.types import InputKey, ViewScores, Window, Windows

LOADERS = 2


class Models(Protocol):
    """What a `Scorer` needs to know of the loaded models."""

    keys: tuple[InputKey, ...]
    windows: Windows
    refs: tuple[str, ...]
    labels: tuple[str, ...]
    """Those that pictures are scored by: what windows alone answer is not among them."""
    device: str
    precision: str

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Floors | None] | None = None,
    ) -> list[ViewScores]: ...
    def score_windows(self, window: Window, pixels: Pixels) -> list[ViewScores]: ...
    def describe(self) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A manifest and its loaded backend."""

    spec: ModelSpec
    backend: Backend

    @property
    def key(self) -> InputKey:
        if self.spec.input is None:
            raise SpecError(f"{self.spec.ref} reads no pixels")
        return self.spec.input.key


class Ensemble:
    """Networks run at once on the same batch; heads then read their encoder's embedding.

    Several models may answer one label: their mean counts, and the verdict names them all.
    It takes two to be sure: on ordinary pictures each errs by itself
    (docs/decisions/0004-models-agree-views-do-not.md).

    Where the caller names floors, networks are left out that could change nothing (`cascade`).
    quick: the same networks in a precision that costs less, for the first look; by `id@version`.
    clips: networks that read windows of a video; none of them ever sees a picture.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        heads: Sequence[tuple[ModelSpec, Heads]],
        quick: Mapping[str, Network] | None = None,
        clips: Sequence[Network] = (),
    ) -> None:
        loaded = {network.spec.ref for network in networks}
        for spec, _ in heads:
            if spec.encoder not in loaded:
                raise SpecError(f"{spec.ref} needs the encoder {spec.encoder}, which is not loaded")
        if not networks:
            raise SpecError("no network is loaded")
        self._networks = networks
        self._clips = clips
        second = second_opinions([n.spec for n in networks], [spec for spec, _ in heads])
        self._second = [n for n in networks if n.spec.ref in second]
        self._first = [n for n in networks if n.spec.ref not in second]
        self._quick = quick or {}
        self._heads = heads
        self._cold: set[Network] = set()
        specs = [network.spec for network in networks] + [spec for spec, _ in heads]
        self.keys = tuple(dict.fromkeys(network.key for network in networks))
        self.windows = windows_of(clip.spec for clip in clips)
        self.refs = tuple(sorted(spec.ref for spec in [*specs, *(clip.spec for clip in clips)]))
        self.labels = tuple(sorted({answer.label for spec in specs for answer in spec.labels}))
        self.device = networks[0].backend.device
        self.precision = networks[0].backend.precision

    @classmethod
    def load(cls, specs: Sequence[ModelSpec], settings: Settings, *, lazy: bool = False) -> Self:
        """Verify everything, and compile it: at once, or each network when it is first asked
        (`lazy`). Raises ConfigError."""
        reading = [spec for spec in specs if spec.input is not None]
        heads = [
            (spec, Heads.read(_file(spec, settings, "numpy", "auto"), labels=len(spec.labels)))
            for spec in specs
            if spec.input is None
        ]
        made = [_made(spec, settings) for spec in reading]
        networks = [exact for exact, _ in made if exact.spec.clip is None]
        clips = [exact for exact, _ in made if exact.spec.clip is not None]
        quick = {twin.spec.ref: twin for _, twin in made if twin is not None}
        ensemble = cls(networks, heads, quick, clips)
        ensemble._cold = {*networks, *clips, *quick.values()}
        if not lazy:
            ensemble._compile(ensemble._cold)
        return ensemble

    def _compile(self, networks: Iterable[Network]) -> None:
        """Those of them that are not yet. Each uses one core."""
        cold = [network for network in networks if network in self._cold]
        if cold:
            with ThreadPoolExecutor(LOADERS, thread_name_prefix="compile") as pool:
                list(pool.map(lambda network: network.backend.load(), cold))
            self._cold.difference_update(cold)

    def warm_up(self, max_batch: int) -> None:
        """Run the smallest and the largest batch once, so that the first caller is not slow."""
        blank = {key: np.zeros((key.height, key.width, 3), np.uint8) for key in self.keys}
        for size in sorted({1, max_batch}):
            self.score([blank] * size)
            self.score([blank] * size, [{}] * size)
        for window in self.windows:
            shape = (1, window.frames, window.key.height, window.key.width, 3)
            self.score_windows(window, np.zeros(shape, np.uint8))

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Floors | None] | None = None,
    ) -> list[ViewScores]:
        """One ViewScores a view. floors: one a view; None: every network is asked. Raises
        InferenceError for a number that is not finite."""
        given = floors or [None] * len(views)
        batch = _Batch(views, self.keys)
        named = {i: floor for i, floor in enumerate(given) if floor is not None}
        self._ask(batch, self._networks, [i for i, floor in enumerate(given) if floor is None])
        if self._quick:
            self._cascade(batch, named, [self._quick[n.spec.ref] for n in self._first], DRIFT)
            named = {i: floor for i, floor in named.items() if batch.table.near(i, floor)}
        self._cascade(batch, named, self._first, 0.0)
        return [batch.scores(i) for i in range(len(views))]

    def score_windows(self, window: Window, pixels: Pixels) -> list[ViewScores]:
        """One ViewScores a window, of the clip networks that read it alone. pixels: (n, frames,
        height, width, 3). Raises InferenceError for a number that is not finite."""
        table = ScoreTable(len(pixels))
        for network in self._clips:
            if network.spec.clip != window:
                continue
            self._compile([network])
            step = network.spec.max_batch
            for start in range(0, len(pixels), step):
                part = pixels[start : start + step]
                rows = np.arange(start, start + len(part))
                _note(table, network.spec, network.backend.start(part).result(), rows)
        return [ViewScores(*_means(table, row)) for row in range(len(pixels))]

    def _cascade(
        self, batch: _Batch, named: Mapping[int, Floors], first: Sequence[Network], slack: float
    ) -> None:
        """The first opinions, then second ones where they could matter."""
        self._ask(batch, first, named)
        for network in self._second:
            labels = {answer.label for answer in network.spec.labels}
            rows = [
                i
                for i, floors in named.items()
                if any(batch.table.could_reach(x, i, floors.get(x, 0.0), slack) for x in labels)
            ]
            twin = network if first is self._first else self._quick[network.spec.ref]
            self._ask(batch, [twin], rows)

    def _ask(self, batch: _Batch, networks: Sequence[Network], views: Collection[int]) -> None:
        """Networks at once on some of the views, and the heads on what their encoder says."""
        if not views:
            return
        self._compile(networks)
        rows = np.array(list(views), np.intp)
        whole = len(rows) == batch.views
        passes = [
            (n, n.backend.start(batch.pixels[n.key] if whole else batch.pixels[n.key][rows]))
            for n in networks
        ]
        outputs = {network.spec.ref: running.result() for network, running in passes}
        for network in networks:
            spec, answer = network.spec, outputs[network.spec.ref]
            _note(batch.table, spec, answer, rows)
            if spec.embedding_output is not None:
                found = _finite(answer, spec.embedding_output, spec, len(rows))
                batch.put_embedding(spec.ref, rows, found)
                for head, heads in self._heads:
                    if head.encoder == spec.ref:
                        probabilities = heads.probabilities(found)
                        for label in head.labels:
                            batch.table.put(
                                label.label, head.ref, rows, probabilities[:, label.index]
                            )

    def describe(self) -> list[dict[str, Any]]:
        networks = [*self._networks, *self._clips]
        devices = {n.spec.ref: (n.backend.device, n.backend.precision) for n in networks}
        specs = [network.spec for network in networks] + [spec for spec, _ in self._heads]
        quick = {ref: {"first_look": n.backend.precision} for ref, n in self._quick.items()}
        return [
            {
                "id": spec.id,
                "version": spec.version,
                "task": spec.task,
                "labels": [label.label for label in spec.labels],
                "licence": spec.licence,
                "device": devices.get(spec.ref, ("cpu: numpy", "f32"))[0],
                "precision": devices.get(spec.ref, ("cpu: numpy", "f32"))[1],
                **quick.get(spec.ref, {}),
            }
            for spec in specs
        ]

    def close(self) -> None:
        for network in (*self._networks, *self._clips, *self._quick.values()):
            network.backend.close()


class _Batch:
    """Views on their way through the networks."""

    def __init__(
        self, views: Sequence[Mapping[InputKey, Pixels]], keys: Sequence[InputKey]
    ) -> None:
        self.views = len(views)
        self.pixels = {key: np.stack([view[key] for view in views]) for key in keys}
        self.table = ScoreTable(len(views))
        self._embeddings: NDArray[np.float16] | None = None
        self._encoder: str | None = None

    def put_embedding(
        self, encoder: str, rows: NDArray[np.intp], values: NDArray[np.float32]
    ) -> None:
        if self._embeddings is None:
            self._embeddings = np.zeros((self.views, values.shape[1]), np.float16)
        self._embeddings[rows] = values
        self._encoder = encoder

    def scores(self, row: int) -> ViewScores:
        scores, models = _means(self.table, row)
        return ViewScores(
            scores=scores,
            models=models,
            embedding=None if self._embeddings is None else self._embeddings[row],
            encoder=self._encoder,
        )


def _note(table: ScoreTable, spec: ModelSpec, outputs: Outputs, rows: NDArray[np.intp]) -> None:
    """What a network answers of some rows, label by label."""
    for label in spec.labels:
        values = _finite(outputs, label.output, spec, len(rows))[:, label.index]
        activated = sigmoid(values) if label.activation == "sigmoid" else values
        table.put(label.label, spec.ref, rows, activated)


def _means(table: ScoreTable, row: int) -> tuple[dict[str, float], dict[str, str]]:
    """The mean of each label's opinions, and who gave them."""
    said = table.said(row)
    return (
        {label: fmean(score for _, score in told) for label, told in said.items()},
        {label: "+".join(model for model, _ in told) for label, told in said.items()},
    )


def _file(spec: ModelSpec, settings: Settings, backend: str, precision: str) -> Path:
    """The weight file, its checksum verified."""
    return resolve(spec, choose_artefact(spec, backend, precision), settings)


def _made(spec: ModelSpec, settings: Settings) -> tuple[Network, Network | None]:
    """A network, and for pictures its twin for a first look, where the machine has one."""
    chosen = plan(spec, settings)
    create = backend_class(chosen.backend)
    path = resolve(spec, chosen.artefact, settings)
    backend = create(spec, path, chosen.settings)
    precision = backend.quicker() if spec.clip is None else None
    if precision is None:
        return Network(spec, backend), None
    twin = create(spec, path, chosen.settings.model_copy(update={"precision": precision}))
    return Network(spec, backend), Network(spec, twin)


def _finite(outputs: Outputs, name: str, spec: ModelSpec, count: int) -> NDArray[np.float32]:
    if name not in outputs:
        raise InferenceError(f"{spec.ref} has no output {name!r}")
    values = outputs[name].reshape(len(outputs[name]), -1)
    if len(values) != count:
        raise InferenceError(f"{spec.ref} answered {len(values)} of {count} views")
    if not np.isfinite(values).all():
        raise InferenceError(f"{spec.ref} answered a number that is not finite")
    return values
