"""Networks and heads as one function, with toy networks in place of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError, InferenceError, SpecError, WeightsError
from moderation.models.backends.base import Outputs, Pixels
from moderation.models.cascade import MARGIN, second_opinions
from moderation.models.ensemble import Ensemble, Network
from moderation.models.heads import Heads, sigmoid
from moderation.models.registry import backend_class, choose_artefact
from moderation.models.spec import ModelSpec

PIXELS = {
    "name": "x",
    "width": 2,
    "height": 2,
    "interpolation": "area",
    "layout": "NCHW",
    "colour": "RGB",
}
FILE = {"backend": "openvino", "source": "committed", "file": "x", "sha256": "0" * 64, "size": 1}


def spec(name: str, **more: object) -> ModelSpec:
    base = {
        "id": name,
        "version": "1",
        "task": "classification",
        "architecture": "toy",
        "summary": "toy",
        "licence": "MIT",
        "origin": "here",
        "input": PIXELS,
        "artefacts": [FILE],
    }
    return ModelSpec.model_validate(base | more)


class Toy:
    """Answers the mean of each view times a factor, in every column."""

    device = "toy"
    precision = "f32"

    def __init__(self, outputs: dict[str, int], factor: float = 1 / 255) -> None:
        self._outputs = outputs
        self._factor = factor
        self.closed = False

    def load(self) -> None: ...

    def start(self, pixels: Pixels) -> Toy:
        self._pixels = pixels
        return self

    def result(self) -> Outputs:
        means = self._pixels.mean(axis=(1, 2, 3)) * self._factor
        return {
            name: np.repeat(means[:, None], columns, axis=1).astype(np.float32)
            for name, columns in self._outputs.items()
        }

    def quicker(self) -> str | None:
        return None

    def close(self) -> None:
        self.closed = True


def porn(name: str, factor: float) -> Network:
    labels = [{"label": "porn.explicit", "output": "p", "index": 1}]
    return Network(spec(name, labels=labels), Toy({"p": 2}, factor))


def view(ensemble: Ensemble, value: int) -> dict[object, Pixels]:
    return {key: np.full((key.height, key.width, 3), value, np.uint8) for key in ensemble.keys}


def test_the_mean_of_two_models_counts_and_both_are_named() -> None:
    ensemble = Ensemble([porn("low", 0.5 / 255), porn("high", 1 / 255)], [])
    dark, bright = ensemble.score([view(ensemble, 0), view(ensemble, 255)])  # type: ignore[list-item]
    assert dark.scores == {"porn.explicit": 0.0}
    assert bright.scores == {"porn.explicit": pytest.approx(0.75)}
    assert bright.models == {"porn.explicit": "low@1+high@1"}
    assert ensemble.refs == ("high@1", "low@1")


class Counting(Toy):
    """Remembers how many views it was given."""

    def __init__(self, outputs: dict[str, int], factor: float) -> None:
        super().__init__(outputs, factor)
        self.asked: list[int] = []

    def start(self, pixels: Pixels) -> Toy:
        self.asked.append(len(pixels))
        return super().start(pixels)


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=6),
    floor=st.floats(0, 1),
    factor=st.floats(0, 1),
)
def test_a_second_opinion_is_asked_where_it_may_reach_the_floor_and_only_there(
    values: list[int], floor: float, factor: float
) -> None:
    second = Network(porn("second", 1).spec, Counting({"p": 2}, factor / 255))
    ensemble = Ensemble([porn("first", 1 / 255), second], [])
    views = [view(ensemble, value) for value in values]
    both = ensemble.score(views)  # type: ignore[arg-type]
    some = ensemble.score(views, [{"porn.explicit": floor}] * len(views))  # type: ignore[arg-type]
    for value, exact, quick in zip(values, both, some, strict=True):
        if quick.models == exact.models:
            assert quick.scores == exact.scores
        else:
            assert quick.models == {"porn.explicit": "first@1"}
            assert quick.scores == {"porn.explicit": pytest.approx(value / 255)}
            # Neither what is told nor what both would have said reaches the floor.
            assert max(quick.scores["porn.explicit"], exact.scores["porn.explicit"]) < floor
    first = [
        one.scores["porn.explicit"] for one in Ensemble([porn("first", 1 / 255)], []).score(views)
    ]  # type: ignore[arg-type]
    asked = sum((score + 1) / 2 >= floor for score in first)
    assert second.backend.asked[1:] == ([asked] if asked else [])  # type: ignore[attr-defined]


def quick_pair(drift: float) -> tuple[Ensemble, Counting]:
    """A network whose quick twin says so much less, and counts its exact passes."""
    exact = Counting({"p": 2}, 1 / 255)
    quick = {"first@1": Network(porn("first", 1).spec, Toy({"p": 2}, (1 - drift) / 255))}
    return Ensemble([Network(porn("first", 1).spec, exact)], [], quick), exact


@given(value=st.integers(0, 255), floor=st.floats(0.02, 1), drift=st.floats(-MARGIN, MARGIN * 0.99))
def test_what_reaches_its_floor_is_exact_and_what_does_not_stays_below(
    value: int, floor: float, drift: float
) -> None:
    ensemble, exact = quick_pair(drift)
    (true,) = ensemble.score([view(ensemble, value)])  # type: ignore[list-item]
    (told,) = ensemble.score([view(ensemble, value)], [{"porn.explicit": floor}])  # type: ignore[list-item]
    if true.scores["porn.explicit"] >= floor:
        assert told.scores == true.scores
        assert exact.asked == [1, 1]
    else:
        assert told.scores["porn.explicit"] < floor


def test_views_with_floors_and_without_share_a_batch() -> None:
    ensemble, exact = quick_pair(0.05)
    views = [view(ensemble, value) for value in (10, 200, 10)]
    floors = [{"porn.explicit": 0.5}, {"porn.explicit": 0.5}, None]
    scored = ensemble.score(views, floors)  # type: ignore[arg-type]
    told = [one.scores["porn.explicit"] for one in scored]
    assert told == pytest.approx([0.95 * 10 / 255, 200 / 255, 10 / 255])
    assert exact.asked == [1, 1]  # the one without floors, then the one at its floor


def test_a_network_that_alone_answers_a_label_is_no_second_opinion() -> None:
    gore = [
        {"label": "porn.explicit", "output": "p", "index": 0},
        {"label": "violence.gore", "output": "p", "index": 1},
    ]
    first, second = spec("first", labels=gore), porn("second", 1).spec
    assert second_opinions([first, second], []) == ("second@1",)
    assert second_opinions([second, first], []) == ("second@1",)
    assert second_opinions([first], []) == ()
    assert second_opinions([porn("a", 1).spec, porn("b", 1).spec], []) == ("b@1",)


def test_heads_read_the_encoders_embedding() -> None:
    encoder = spec("trunk", task="encoder", embedding_output="e")
    fields = {"task": "heads", "input": None, "encoder": "trunk@1"}
    labels = [{"label": "smoking.smoking", "output": "z", "index": 0}]
    heads_spec = spec("heads", labels=labels, **fields)
    heads = Heads(
        np.ones((1, 3), np.float32), np.zeros(1, np.float32), np.array([[2, -1]], np.float32)
    )
    ensemble = Ensemble([Network(encoder, Toy({"e": 3}))], [(heads_spec, heads)])
    (scored,) = ensemble.score([view(ensemble, 255)])  # type: ignore[list-item]
    assert scored.scores["smoking.smoking"] == pytest.approx(1 / (1 + np.exp(-(2 * 3 - 1))))
    assert scored.models["smoking.smoking"] == "heads@1"
    assert scored.encoder == "trunk@1"
    assert scored.embedding is not None
    assert scored.embedding.dtype == np.float16
    assert scored.embedding.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_an_error_never_a_score(factor: float) -> None:
    ensemble = Ensemble([porn("broken", factor)], [])
    with pytest.raises(InferenceError, match="broken@1 answered a number that is not finite"):
        ensemble.score([view(ensemble, 1)])  # type: ignore[list-item]


def test_heads_without_their_encoder_are_refused() -> None:
    fields = {"task": "heads", "input": None, "encoder": "trunk@1"}
    labels = [{"label": "smoking.smoking", "output": "z", "index": 0}]
    heads = Heads(np.ones((1, 3), np.float32), np.zeros(1, np.float32), np.ones((1, 2), np.float32))
    with pytest.raises(SpecError, match="needs the encoder trunk@1"):
        Ensemble([porn("only", 1.0)], [(spec("heads", labels=labels, **fields), heads)])


def test_sigmoid_is_safe_at_both_ends() -> None:
    values = sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4], np.float32))
    assert values.tolist() == pytest.approx([0.0, 0.2689414, 0.5, 0.7310586, 1.0])


@pytest.mark.parametrize(
    "fault", ["not npz", "cut off", "missing array", "wrong shape", "pickle", "not finite"]
)
def test_bad_head_files_are_one_clear_error(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "heads.npz"
    good = {"weight": np.ones((2, 3)), "bias": np.ones(2), "calibration": np.ones((2, 2))}
    if fault == "not npz":
        path.write_bytes(b"nonsense")
    elif fault == "cut off":
        np.savez(path, **good)
        path.write_bytes(path.read_bytes()[:-40])
    elif fault == "not finite":
        np.savez(path, **(good | {"bias": np.array([0.0, np.nan])}))
    elif fault == "missing array":
        np.savez(path, weight=good["weight"])
    elif fault == "wrong shape":
        np.savez(path, **(good | {"bias": np.ones(3)}))
    else:
        np.savez(path, **(good | {"bias": np.array([object()], dtype=object)}))
    with pytest.raises(WeightsError, match=r"heads\.npz"):
        Heads.read(path, labels=2)


def test_an_unknown_backend_or_precision_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"there are: .*openvino"):
        backend_class("abacus")
    with pytest.raises(ConfigError, match="has no int8 weights for openvino; it has: openvino f32"):
        choose_artefact(
            spec("m", labels=porn("m", 1).spec.model_dump()["labels"]), "openvino", "int8"
        )


class Changes(Counting):
    """Answers how far the last frame of each window is from the first."""

    def result(self) -> Outputs:
        first, last = self._pixels[:, 0].astype(float), self._pixels[:, -1].astype(float)
        values = np.abs(last - first).mean(axis=(1, 2, 3)) / 255
        return {"p": values[:, None].astype(np.float32)}


def clip(name: str, *, window: dict[str, object] | None = None, **more: object) -> Network:
    told = spec(
        name,
        task="clip",
        input=PIXELS | {"layout": "NCTHW"},
        window=window or {"frames": 4, "rate": 2.0, "every_s": 3.0},
        labels=[{"label": "violence.fight", "output": "p", "index": 0}],
        **more,
    )
    return Network(told, Changes({"p": 1}, 1.0))


def passage(end: int) -> Pixels:
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    pixels[-1] = end
    return pixels


def test_clip_models_read_windows_and_never_a_picture() -> None:
    fights = clip("fights", max_batch=2)
    ensemble = Ensemble([porn("first", 1 / 255)], [], clips=[fights])
    ensemble.warm_up(4)
    (window,) = ensemble.windows
    assert ensemble.windows == {window: {"violence.fight": "fights@1"}}
    (picture,) = ensemble.score([view(ensemble, 255)])  # type: ignore[list-item]
    assert set(picture.scores) == {"porn.explicit"}
    scored = ensemble.score_windows(window, np.stack([passage(255), passage(51), passage(0)]))
    assert [one.scores["violence.fight"] for one in scored] == pytest.approx([1.0, 0.2, 0.0])
    assert [one.models for one in scored] == [{"violence.fight": "fights@1"}] * 3
    assert fights.backend.asked == [1, 2, 1]  # type: ignore[attr-defined]
    assert ensemble.refs == ("fights@1", "first@1")
    assert ensemble.labels == ("porn.explicit",)
    assert [(facts["id"], facts["task"]) for facts in ensemble.describe()] == [
        ("first", "classification"),
        ("fights", "clip"),
    ]
    ensemble.close()
    assert fights.backend.closed  # type: ignore[attr-defined]


def test_windows_of_two_kinds_are_read_by_their_own_models() -> None:
    wide = {"frames": 4, "rate": 1.0, "every_s": 3.0}
    ensemble = Ensemble(
        [porn("first", 1 / 255)], [], clips=[clip("a"), clip("b"), clip("c", window=wide)]
    )
    named = {window.rate: answers["violence.fight"] for window, answers in ensemble.windows.items()}
    assert named == {2.0: "a@1+b@1", 1.0: "c@1"}
    for window, answers in ensemble.windows.items():
        (scored,) = ensemble.score_windows(window, passage(255)[None])
        assert scored.models == answers
