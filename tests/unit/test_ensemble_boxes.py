"""Boxes, sublabels, calibrations and embeddings with a name of their own, with toy networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ensemble import Toy, spec, view

from moderation.errors import InferenceError, SpecError
from moderation.models.backends.base import Outputs
from moderation.models.cascade import MARGIN
from moderation.models.ensemble import Ensemble, Network
from moderation.models.heads import Heads
from moderation.types import Detection, ViewScores

GUN, SMOKE = "violence.weapon", "smoking.smoking"
LABELS = [
    {"label": GUN, "output": "s", "index": 0},
    {"label": SMOKE, "output": "s", "index": 1},
]
DETECTOR = {
    "peaks": "p",
    "boxes": "b",
    "least": 0.2,
    "classes": [
        {"label": GUN, "sublabel": "pistol", "index": 0},
        {"label": GUN, "sublabel": "knife", "index": 1},
        {"label": SMOKE, "sublabel": "cigarette", "index": 2},
    ],
}


class Detector(Toy):
    """Scores that do not depend on the view; one cell a class, with its peak."""

    def __init__(self, scores: tuple[float, float], peaks: tuple[float, ...], shift: float = 0.0):
        super().__init__({})
        self._scores, self._peaks, self._shift = scores, peaks, shift
        self.asked: list[int] = []

    def result(self) -> Outputs:
        count = len(self._pixels)
        self.asked.append(count)
        cells = len(self._peaks)
        corners = np.array([[0.3 * i + self._shift, 0.1, 0.3 * i + 0.2, 0.5] for i in range(cells)])
        return {
            "s": np.tile(np.array(self._scores, np.float32), (count, 1)),
            "p": np.tile(np.diag(np.array(self._peaks, np.float32)), (count, 1, 1)),
            "b": np.tile(corners.astype(np.float32), (count, 1, 1)),
        }


def network(*told: object, name: str = "scenes", **more: object) -> Network:
    fields = {"labels": LABELS, "detector": DETECTOR}
    return Network(spec(name, **(fields | more)), Detector(*told))  # type: ignore[arg-type]


def scored(ensemble: Ensemble, floors: dict[str, float] | None = None) -> ViewScores:
    given_ = None if floors is None else [floors]
    (one,) = ensemble.score([view(ensemble, 9)], given_)  # type: ignore[list-item,arg-type]
    return one


def test_boxes_and_what_the_strongest_shows_come_with_the_scores() -> None:
    one = scored(Ensemble([network((0.9, 0.1), (0.5, 0.75, 0.25))], []))
    assert one.detections == (
        Detection(GUN, "knife", (0.3, 0.1, 0.5, 0.5), 0.75),
        Detection(GUN, "pistol", (0.0, 0.1, 0.2, 0.5), 0.5),
        Detection(SMOKE, "cigarette", (0.6, 0.1, 0.8, 0.5), 0.25),
    )
    assert one.sublabels == {GUN: "knife", SMOKE: "cigarette"}


def test_each_view_has_its_own_boxes() -> None:
    networks = Ensemble([network((0.9, 0.1), (0.5, 0.1, 0.1))], [])
    several = networks.score([view(networks, 1)] * 3)  # type: ignore[list-item]
    assert [len(one.detections) for one in several] == [1, 1, 1]


def test_boxes_of_a_label_below_its_floor_are_left_out() -> None:
    ensemble = Ensemble([network((0.9, 0.1), (0.5, 0.1, 0.9))], [])
    one = scored(ensemble, {GUN: 0.5, SMOKE: 0.5})
    assert {found.label for found in one.detections} == {GUN}
    assert one.sublabels == {GUN: "pistol"}
    unnamed = scored(ensemble, {GUN: 0.5})
    assert {found.label for found in unnamed.detections} == {GUN, SMOKE}


@given(st.floats(0, 1, width=32), st.floats(0.02, 1), st.floats(-MARGIN, MARGIN * 0.99))
def test_what_reaches_its_floor_has_the_boxes_of_the_exact_look(
    score: float, floor: float, drift: float
) -> None:
    exact = network((score, 0.0), (0.5, 0.0, 0.0))
    twin = Network(exact.spec, Detector((score - drift, 0.0), (0.4, 0.0, 0.0), 0.05))
    ensemble = Ensemble([exact], [], {exact.spec.ref: twin})
    one = scored(ensemble, {GUN: floor, SMOKE: 1.0})
    if score >= floor:
        assert one.detections == (Detection(GUN, "pistol", (0.0, 0.1, 0.2, 0.5), 0.5),)
    else:
        assert one.detections == ()


def test_a_detector_that_answers_nonsense_is_an_error() -> None:
    ensemble = Ensemble([network((0.9, 0.1), (float("nan"), 0.1, 0.1))], [])
    with pytest.raises(InferenceError, match="scenes@1 answered a number that is not finite"):
        scored(ensemble)


@given(st.floats(-20, 20), st.floats(0.1, 5), st.floats(-5, 5))
def test_a_label_is_calibrated_on_its_logit(logit: float, a: float, b: float) -> None:
    label = {"label": GUN, "output": "s", "index": 0, "activation": "sigmoid"}
    calibrated = network(
        (logit, 0.0), (0.0,) * 3, labels=[label | {"calibration": [a, b]}, LABELS[1]]
    )
    told = scored(Ensemble([calibrated], [])).scores[GUN]
    assert told == pytest.approx(1 / (1 + np.exp(-(a * logit + b))), abs=1e-5)


# --- embeddings -------------------------------------------------------------------------


def heads(encoder: str) -> tuple[object, Heads]:
    fields = {"task": "heads", "input": None, "encoder": encoder}
    labels = [{"label": "violence.fire", "output": "z", "index": 0}]
    arrays = (np.ones((1, 3)), np.zeros(1), np.array([[1, 0]]))
    return spec("heads", labels=labels, **fields), Heads(*(a.astype(np.float32) for a in arrays))


def encoder(name: str, **more: object) -> Network:
    told = spec(name, task="encoder", embedding_output="e", **more)
    return Network(told, Toy({"e": 3}))


def test_heads_read_the_embedding_by_its_own_name() -> None:
    ensemble = Ensemble([encoder("scenes", embedding_ref="lite0@1")], [heads("lite0@1")])  # type: ignore[list-item]
    (one,) = ensemble.score([view(ensemble, 255)])  # type: ignore[list-item]
    assert one.scores["violence.fire"] == pytest.approx(1 / (1 + np.exp(-3)))
    assert one.encoder == "lite0@1", "it is stored under the name of the encoder that it equals"
    assert ensemble.refs == ("heads@1", "scenes@1")


def test_heads_of_the_networks_own_name_are_not_served_by_another_embedding() -> None:
    with pytest.raises(SpecError, match="needs the encoder scenes@1"):
        Ensemble([encoder("scenes", embedding_ref="lite0@1")], [heads("scenes@1")])  # type: ignore[list-item]


def test_one_embedding_is_given_by_one_network() -> None:
    both = [encoder("lite0"), encoder("scenes", embedding_ref="lite0@1")]
    with pytest.raises(SpecError, match="lite0@1 and scenes@1 both give the embedding lite0@1"):
        Ensemble(both, [])


def test_embeddings_of_two_encoders_are_never_mixed() -> None:
    other = Network(spec("other", task="encoder", embedding_output="e"), Toy({"e": 5}))
    ensemble = Ensemble([encoder("first"), other], [heads("first@1")])  # type: ignore[list-item]
    (one,) = ensemble.score([view(ensemble, 255)])  # type: ignore[list-item]
    assert one.encoder == "first@1"
    assert one.embedding is not None
    assert one.embedding.shape == (3,)
