"""All loaded networks and heads as one function: a batch of views -> their scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from moderation.errors import InferenceError, SpecError
from moderation.models.backends.base import Backend, Outputs, Pixels
from moderation.models.cascade import Floors, ScoreTable, second_opinions
from moderation.models.detections import detections, sublabels
from moderation.models.fusion import Fusion, FusionRule, read_fusions
from moderation.models.heads import Heads, sigmoid
from moderation.models.registry import backend_class, choose_artefact, plan
from moderation.models.spec import ModelSpec, windows_of
from moderation.models.weights import resolve
from moderation.settings import Settings
from moderation.types import Detection, InputKey, ViewScores, Window, Windows

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

    Several models may answer one label: their mean counts, or what `fusions` say, and the verdict
    names them all. It takes two to be sure: on ordinary pictures each errs by itself
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
        fusions: Sequence[FusionRule] = (),
    ) -> None:
        _check_embeddings([network.spec for network in networks], [spec for spec, _ in heads])
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
        self._fusion = Fusion(specs, fusions)
        self._clip_fusion = {
            window: Fusion([clip.spec for clip in clips if clip.spec.clip == window], fusions)
            for window in {clip.spec.clip for clip in clips}
        }
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
        own = [] if settings.models_dir is None else [settings.models_dir]
        ensemble = cls(networks, heads, quick, clips, read_fusions(settings.manifests, *own))
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
        batch = _Batch(views, self.keys, self._fusion)
        named = {i: floor for i, floor in enumerate(given) if floor is not None}
        self._ask(batch, self._networks, [i for i, floor in enumerate(given) if floor is None])
        if self._quick:
            self._cascade(batch, named, rough=True)
            named = {i: floor for i, floor in named.items() if batch.table.near(i, floor)}
        self._cascade(batch, named, rough=False)
        return [batch.scores(i, floor) for i, floor in enumerate(given)]

    def score_windows(self, window: Window, pixels: Pixels) -> list[ViewScores]:
        """One ViewScores a window, of the clip networks that read it alone. pixels: (n, frames,
        height, width, 3). Raises InferenceError for a number that is not finite."""
        table = ScoreTable(len(pixels), self._clip_fusion[window])
        for network in self._clips:
            if network.spec.clip != window:
                continue
            self._compile([network])
            step = network.spec.max_batch
            for start in range(0, len(pixels), step):
                part = pixels[start : start + step]
                rows = np.arange(start, start + len(part))
                _note(table, network.spec, network.backend.start(part).result(), rows)
        return [ViewScores(*table.scores(row)) for row in range(len(pixels))]

    def _cascade(self, batch: _Batch, named: Mapping[int, Floors], *, rough: bool) -> None:
        """The first opinions, then second ones where they could matter. rough: by the twins."""
        self._ask(batch, self._first, named, rough=rough)
        for network in self._second:
            labels = {answer.label for answer in network.spec.labels}
            rows = [
                i
                for i, floors in named.items()
                if any(batch.table.could_reach(x, i, floors.get(x, 0.0)) for x in labels)
            ]
            self._ask(batch, [network], rows, rough=rough)

    def _ask(
        self,
        batch: _Batch,
        networks: Sequence[Network],
        views: Collection[int],
        *,
        rough: bool = False,
    ) -> None:
        """Networks, or their quick twins, at once on some of the views, and the heads on what
        their encoder says."""
        if not views:
            return
        if rough:
            networks = [self._quick[network.spec.ref] for network in networks]
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
            _note(batch.table, spec, answer, rows, rough=rough)
            if spec.detector is not None:
                told = detections(spec.detector, answer, len(rows), spec.ref)
                batch.put_detections(spec.ref, rows, told)
            if spec.embedding_output is not None and spec.embedding is not None:
                found = _finite(answer, spec.embedding_output, spec, len(rows))
                batch.put_embedding(spec.embedding, rows, found)
                for head, heads in self._heads:
                    if head.encoder == spec.embedding:
                        probabilities = heads.probabilities(found)
                        for label in head.labels:
                            values = probabilities[:, label.index]
                            batch.table.put(label.label, head.ref, rows, values, rough=rough)

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
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        keys: Sequence[InputKey],
        fusion: Fusion,
    ) -> None:
        self.views = len(views)
        self.pixels = {key: np.stack([view[key] for view in views]) for key in keys}
        self.table = ScoreTable(len(views), fusion)
        self._embeddings: dict[str, NDArray[np.float16]] = {}
        self._detections: dict[str, dict[int, tuple[Detection, ...]]] = {}

    def put_embedding(
        self, encoder: str, rows: NDArray[np.intp], values: NDArray[np.float32]
    ) -> None:
        if encoder not in self._embeddings:
            self._embeddings[encoder] = np.zeros((self.views, values.shape[1]), np.float16)
        self._embeddings[encoder][rows] = values

    def put_detections(
        self, model: str, rows: NDArray[np.intp], found: Sequence[tuple[Detection, ...]]
    ) -> None:
        """The boxes of some views; in place of what the model's first look saw in them."""
        self._detections.setdefault(model, {}).update(zip(rows.tolist(), found, strict=True))

    def scores(self, row: int, floors: Floors | None) -> ViewScores:
        """What is known of a view. Boxes of a label below its floor matter to nobody."""
        scores, models = self.table.scores(row)
        named = floors or {}
        found = tuple(
            one
            for told in self._detections.values()
            for one in told.get(row, ())
            if scores[one.label] >= named.get(one.label, 0.0)
        )
        encoder = next(iter(self._embeddings), None)
        return ViewScores(
            scores=scores,
            models=models,
            sublabels=sublabels(found),
            detections=found,
            embedding=None if encoder is None else self._embeddings[encoder][row],
            encoder=encoder,
        )


def _note(
    table: ScoreTable,
    spec: ModelSpec,
    outputs: Outputs,
    rows: NDArray[np.intp],
    *,
    rough: bool = False,
) -> None:
    """What a network answers of some rows, label by label."""
    for label in spec.labels:
        values = _finite(outputs, label.output, spec, len(rows))[:, label.index]
        if label.activation == "sigmoid":
            a, b = label.calibration
            values = sigmoid(a * values + b)
        table.put(label.label, spec.ref, rows, values, rough=rough)


def _check_embeddings(networks: Iterable[ModelSpec], heads: Iterable[ModelSpec]) -> None:
    """Raises SpecError: heads without their encoder, or an embedding that two networks give."""
    given: dict[str, str] = {}
    for spec in networks:
        if spec.embedding is None:
            continue
        other = given.setdefault(spec.embedding, spec.ref)
        if other != spec.ref:
            raise SpecError(f"{other} and {spec.ref} both give the embedding {spec.embedding}")
    for spec in heads:
        if spec.encoder not in given:
            raise SpecError(f"{spec.ref} needs the encoder {spec.encoder}, which is not loaded")


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
