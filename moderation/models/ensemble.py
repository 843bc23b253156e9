"""All loaded networks and heads as one function: a batch of views -> their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from moderation.errors import InferenceError, SpecError
from moderation.models.backends.base import Backend, Outputs, Pixels
from moderation.models.heads import Heads, sigmoid
from moderation.models.registry import backend_class, choose_artefact
from moderation.models.spec import ModelSpec
from moderation.models.weights import resolve
from moderation.settings import Settings
from moderation.types import InputKey, ViewScores

Floors = Mapping[str, float]
"""label -> the lowest score of it that matters to whoever asks; a label that is absent matters
at any score. What lies below need not be known more exactly than that."""


class Models(Protocol):
    """What a `Scorer` needs to know of the loaded models."""

    keys: tuple[InputKey, ...]
    refs: tuple[str, ...]
    labels: tuple[str, ...]
    device: str
    precision: str

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Floors | None] | None = None,
    ) -> list[ViewScores]: ...
    def describe(self) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...


Column = tuple[str, str, NDArray[np.float32]]
"""A label, the model that answers it, and its score of every view."""


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

    A network all of whose labels others answer too is a second opinion. Where the caller names
    floors it is not asked about a view whose mean it could not raise to its floor, even with
    1.0; then the label has the first opinion's score, and its name
    (docs/decisions/0011-second-opinions.md).
    """

    def __init__(
        self, networks: Sequence[Network], heads: Sequence[tuple[ModelSpec, Heads]]
    ) -> None:
        loaded = {network.spec.ref for network in networks}
        for spec, _ in heads:
            if spec.encoder not in loaded:
                raise SpecError(f"{spec.ref} needs the encoder {spec.encoder}, which is not loaded")
        if not networks:
            raise SpecError("no network is loaded")
        self._networks = networks
        self._second = second_opinions(networks, heads)
        self._heads = heads
        specs = [network.spec for network in networks] + [spec for spec, _ in heads]
        self.keys = tuple(dict.fromkeys(network.key for network in networks))
        self.refs = tuple(sorted(spec.ref for spec in specs))
        self.labels = tuple(sorted({answer.label for spec in specs for answer in spec.labels}))
        self.device = networks[0].backend.device
        self.precision = networks[0].backend.precision

    @classmethod
    def load(cls, specs: Sequence[ModelSpec], settings: Settings) -> Self:
        """Verify and compile everything. Raises ConfigError."""
        create = backend_class(settings.backend)
        networks = []
        heads = []
        for spec in specs:
            if spec.input is None:
                artefact = choose_artefact(spec, "numpy", "auto")
                path = resolve(spec, artefact, settings)
                heads.append((spec, Heads.read(path, labels=len(spec.labels))))
                continue
            artefact = choose_artefact(spec, settings.backend, settings.precision)
            backend = create(spec, resolve(spec, artefact, settings), settings)
            backend.load()
            networks.append(Network(spec, backend))
        return cls(networks, heads)

    def warm_up(self, max_batch: int) -> None:
        """Run the smallest and the largest batch once, so that the first caller is not slow."""
        blank = {key: np.zeros((key.height, key.width, 3), np.uint8) for key in self.keys}
        for size in sorted({1, max_batch}):
            self.score([blank] * size)

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Floors | None] | None = None,
    ) -> list[ViewScores]:
        """One ViewScores a view. floors: one a view; None: every network is asked. Raises
        InferenceError for a number that is not finite."""
        floors = floors or [None] * len(views)
        later = self._second if any(one is not None for one in floors) else ()
        stacked = {key: np.stack([view[key] for view in views]) for key in self.keys}
        first = [network for network in self._networks if network not in later]
        columns, outputs = self._ask(first, stacked, np.arange(len(views)))
        for spec, heads in self._heads:
            probabilities = heads.probabilities(self._embedding_of(spec, outputs, len(views)))
            columns += [(lb.label, spec.ref, probabilities[:, lb.index]) for lb in spec.labels]
        for network in later:
            asked = np.array(
                [i for i in range(len(views)) if _may_matter(network, columns, floors[i], i)],
                np.intp,
            )
            if len(asked):
                columns += self._ask([network], stacked, asked)[0]
        embeddings = None
        for network in self._networks:
            if network.spec.embedding_output is not None:
                answer = outputs[network.spec.ref]
                name = network.spec.embedding_output
                found = _finite(answer, name, network.spec, len(views))
                embeddings = (network.spec.ref, found)
        return [_view_scores(columns, embeddings, i) for i in range(len(views))]

    def _ask(
        self,
        networks: Sequence[Network],
        stacked: Mapping[InputKey, Pixels],
        rows: NDArray[np.intp],
    ) -> tuple[list[Column], dict[str, Outputs]]:
        """What these networks say of some of the views: NaN for the others."""
        count = len(next(iter(stacked.values())))
        whole = len(rows) == count
        passes = [
            (n, n.backend.start(stacked[n.key] if whole else stacked[n.key][rows]))
            for n in networks
        ]
        outputs = {network.spec.ref: running.result() for network, running in passes}
        columns: list[Column] = []
        for network in networks:
            spec, answer = network.spec, outputs[network.spec.ref]
            for label in spec.labels:
                values = _finite(answer, label.output, spec, len(rows))[:, label.index]
                activated = sigmoid(values) if label.activation == "sigmoid" else values
                column = np.full(count, np.nan, np.float32)
                column[rows] = activated
                columns.append((label.label, spec.ref, column))
        return columns, outputs

    def _embedding_of(
        self, heads: ModelSpec, outputs: Mapping[str, Outputs], count: int
    ) -> NDArray[np.float32]:
        encoder = next(n.spec for n in self._networks if n.spec.ref == heads.encoder)
        name = encoder.embedding_output or ""
        return _finite(outputs[encoder.ref], name, encoder, count)

    def describe(self) -> list[dict[str, Any]]:
        devices = {n.spec.ref: (n.backend.device, n.backend.precision) for n in self._networks}
        specs = [network.spec for network in self._networks] + [spec for spec, _ in self._heads]
        return [
            {
                "id": spec.id,
                "version": spec.version,
                "task": spec.task,
                "labels": [label.label for label in spec.labels],
                "licence": spec.licence,
                "device": devices.get(spec.ref, ("cpu: numpy", "f32"))[0],
                "precision": devices.get(spec.ref, ("cpu: numpy", "f32"))[1],
            }
            for spec in specs
        ]

    def close(self) -> None:
        for network in self._networks:
            network.backend.close()


def _finite(outputs: Outputs, name: str, spec: ModelSpec, count: int) -> NDArray[np.float32]:
    if name not in outputs:
        raise InferenceError(f"{spec.ref} has no output {name!r}")
    values = outputs[name].reshape(len(outputs[name]), -1)
    if len(values) != count:
        raise InferenceError(f"{spec.ref} answered {len(values)} of {count} views")
    if not np.isfinite(values).all():
        raise InferenceError(f"{spec.ref} answered a number that is not finite")
    return values


def second_opinions(
    networks: Sequence[Network], heads: Sequence[tuple[ModelSpec, Heads]]
) -> tuple[Network, ...]:
    """The networks whose labels all have an answer without them; the last ones first, since a
    manifest's place says nothing of its worth."""
    answers = Counter(label.label for spec, _ in heads for label in spec.labels)
    for network in networks:
        answers.update({label.label for label in network.spec.labels})
    found: list[Network] = []
    for network in reversed(networks):
        labels = {label.label for label in network.spec.labels}
        needed = network.spec.embedding_output is not None or not labels
        if not needed and all(answers[label] > 1 for label in labels):
            answers.subtract(labels)
            found.append(network)
    return tuple(found)


def _may_matter(
    network: Network, columns: Sequence[Column], floors: Floors | None, row: int
) -> bool:
    """Whether the network could raise the mean of one of its labels to the label's floor."""
    if floors is None:
        return True
    for label in {answer.label for answer in network.spec.labels}:
        said = [float(values[row]) for name, _, values in columns if name == label]
        if (sum(said) + 1.0) / (len(said) + 1) >= floors.get(label, 0.0):
            return True
    return False


def _view_scores(
    columns: Sequence[Column],
    embeddings: tuple[str, NDArray[np.float32]] | None,
    row: int,
) -> ViewScores:
    answers: dict[str, list[tuple[str, float]]] = {}
    for label, model, values in columns:
        if np.isnan(values[row]):
            continue  # a second opinion that was not asked for
        answers.setdefault(label, []).append((model, min(1.0, max(0.0, float(values[row])))))
    scores = {label: fmean(score for _, score in said) for label, said in answers.items()}
    models = {label: "+".join(model for model, _ in said) for label, said in answers.items()}
    return ViewScores(
        scores=scores,
        models=models,
        embedding=None if embeddings is None else embeddings[1][row].astype(np.float16),
        encoder=None if embeddings is None else embeddings[0],
    )
