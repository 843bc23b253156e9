"""A `Scorer` over painted models: order, batches across callers, faults, closing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from moderation.errors import (
    ConfigError,
    ExpiredError,
    InferenceError,
    OverloadedError,
    ServiceError,
    WeightsError,
)
from moderation.models.backends.base import Pixels
from moderation.models.backends.fake import CLIP_LABEL, CLIP_REF, KEY, LABELS, WINDOW, FakeModels
from moderation.models.cascade import Floors
from moderation.models.runner import Scorer, load_scorer
from moderation.models.spec import read_specs
from moderation.settings import Settings, load_settings
from moderation.types import DecodedImage, Detection, InputKey, MediaInfo, View, ViewScores, Window

POISON = (0, 0, 255)


def picture(*reds: int, poison: bool = False) -> DecodedImage:
    """One view for each red value; with a poisoned view at the end."""
    colours = [(red, 0, 0) for red in reds] + ([POISON] if poison else [])
    pixels = np.zeros((len(colours), KEY.height, KEY.width, 3), np.uint8)
    pixels[:] = np.array(colours, np.uint8)[:, None, None]
    views = tuple(View(frame=i) for i in range(len(colours)))
    info = MediaInfo("png", KEY.width, KEY.height, len(views), len(views), 9)
    return DecodedImage(info, views, {KEY: pixels})


class Held(FakeModels):
    """Painted models that wait for `open` and count what they are given."""

    def __init__(self) -> None:
        super().__init__(poison=POISON)
        self.open = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []
        self.asked: list[Floors | None] = []
        self.closed = False

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Floors | None] | None = None,
    ) -> list[ViewScores]:
        self.asked += floors or []
        self.sizes.append(len(views))
        self.entered.set()
        assert self.open.wait(10)
        return super().score(views, floors)

    def close(self) -> None:
        self.closed = True


Start = Callable[..., Scorer]


@pytest.fixture
def models() -> Iterator[Held]:
    held = Held()
    yield held
    held.open.set()  # whatever a test left running


@pytest.fixture
def scorer(models: Held) -> Iterator[Start]:
    started: list[Scorer] = []

    def start(**changes: object) -> Scorer:
        started.append(Scorer(models, load_settings(backend="fake", **changes)))
        return started[-1]

    yield start
    models.open.set()
    for one in started:
        one.close()


def porn(scorer: Scorer, decoded: DecodedImage) -> list[float]:
    return [round(s.scores["porn.explicit"] * 255) for s in scorer.score(decoded).scores]


def test_the_fake_backend_answers_every_label_without_a_weight_file(tmp_path: Path) -> None:
    settings = load_settings(backend="fake", weights_dir=tmp_path, weights_cache=tmp_path)
    scorer = load_scorer(settings)
    (scored,) = scorer.score(picture(255)).scores
    assert (scorer.models, scorer.labels, scorer.device) == (("fake@1",), LABELS, "fake")
    assert set(scored.scores) == set(LABELS)
    assert set(scored.models.values()) == {"fake@1"}
    assert [facts["id"] for facts in scorer.describe()] == ["fake"]
    scorer.close()


def test_scores_come_in_view_order_however_they_were_batched(scorer: Start, models: Held) -> None:
    models.open.set()
    running = scorer(max_batch=3)
    reds = list(range(0, 250, 7))
    assert porn(running, picture(*reds)) == reds
    assert max(models.sizes) <= 3


def test_the_fake_model_marks_what_stands_out_in_its_colour() -> None:
    pixels = np.full((KEY.height, KEY.width, 3), (0, 255, 255), np.uint8)
    pixels[8:16, 4:12] = (0, 255, 0)
    pixels[24:32, 16:20] = (0, 100, 200)
    (one,) = FakeModels().score([{KEY: pixels}])
    assert one.detections == (
        Detection("violence.weapon", "pistol", (4 / 32, 8 / 32, 12 / 32, 16 / 32), 1.0),
        Detection("smoking.smoking", "cigarette", (16 / 32, 24 / 32, 20 / 32, 1.0), 0.3922),
    )
    assert one.sublabels == {"violence.weapon": "pistol", "smoking.smoking": "cigarette"}


@pytest.mark.parametrize("colour", [(0, 255, 0), (0, 0, 255), (255, 255, 255), (90, 100, 90)])
def test_what_fills_the_view_of_the_fake_model_is_no_thing(colour: tuple[int, int, int]) -> None:
    pixels = np.full((KEY.height, KEY.width, 3), colour, np.uint8)
    (one,) = FakeModels().score([{KEY: pixels}])
    assert (one.detections, one.sublabels) == ((), {})


def test_every_view_has_its_encoders_embedding(scorer: Start, models: Held) -> None:
    models.open.set()
    scored = scorer().score(picture(0, 255)).scores
    assert [s.encoder for s in scored] == ["fake@1", "fake@1"]
    assert [s.embedding[0] for s in scored if s.embedding is not None] == [0.0, 1.0]


def test_pictures_of_many_callers_share_batches(scorer: Start, models: Held) -> None:
    running = scorer(max_batch=8, max_delay_ms=0)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(porn, running, picture(1))
        assert models.entered.wait(10)
        rest = [pool.submit(porn, running, picture(red)) for red in range(2, 10)]
        until(lambda: running.stats().queued == 8)
        models.open.set()
        assert first.result(10) == [1]
        assert [future.result(10) for future in rest] == [[red] for red in range(2, 10)]
    assert models.sizes == [1, 8]


def test_many_long_pictures_at_once_never_overload_the_default_queue(
    scorer: Start, models: Held
) -> None:
    settings = load_settings(backend="fake")
    running = scorer()
    reds = list(range(64))
    with ThreadPoolExecutor(settings.worker_concurrency) as pool:
        futures = [
            pool.submit(porn, running, picture(*reds)) for _ in range(settings.worker_concurrency)
        ]
        assert models.entered.wait(10)
        models.open.set()
        assert all(future.result(30) == reds for future in futures)
    assert running.stats().refused == 0


def test_a_poisoned_view_fails_its_picture_alone(scorer: Start, models: Held) -> None:
    running = scorer(max_delay_ms=0)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(porn, running, picture(1))
        assert models.entered.wait(10)
        bad = pool.submit(porn, running, picture(2, poison=True))
        good = [pool.submit(porn, running, picture(red)) for red in (3, 4)]
        until(lambda: running.stats().queued == 4)
        models.open.set()
        assert isinstance(bad.exception(10), InferenceError)
        assert [f.result(10) for f in (first, *good)] == [[1], [3], [4]]


def test_after_a_failure_the_rest_of_the_picture_is_not_run(scorer: Start, models: Held) -> None:
    models.open.set()
    running = scorer(max_batch=1)
    order = picture(*range(63), poison=True)
    pixels = {KEY: order.pixels[KEY][::-1]}  # the poison comes first
    with pytest.raises(InferenceError):
        running.score(DecodedImage(order.info, order.views, pixels))
    assert running.score(picture(5)).scores  # the queue works on
    assert len(models.sizes) <= 4


def test_a_full_queue_and_a_passed_deadline_are_told_apart(scorer: Start, models: Held) -> None:
    running = scorer(max_queue=1, max_batch=1, max_delay_ms=0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(porn, running, picture(1))
        assert models.entered.wait(10)
        late = pool.submit(running.score, picture(2), deadline=time.monotonic())
        until(lambda: running.stats().queued == 1)
        with pytest.raises(OverloadedError):
            running.score(picture(3))
        assert running.oldest_running_s > 0
        models.open.set()
        assert isinstance(late.exception(10), ExpiredError)
        assert first.result(10) == [1]
    assert models.sizes == [1]


def test_models_under_a_pass_that_hangs_are_not_freed(
    scorer: Start, models: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = scorer(max_delay_ms=0)
    close = running._batcher.close
    monkeypatch.setattr(running._batcher, "close", lambda: close(timeout_s=0.05))
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(porn, running, picture(1))
        assert models.entered.wait(10)
        running.close()
        assert isinstance(stuck.exception(10), ServiceError)
        assert not models.closed
        models.open.set()
    until(lambda: close())
    running.close()
    assert models.closed


def test_a_missing_weight_file_is_a_clear_error_at_the_start(tmp_path: Path) -> None:
    settings: Settings = load_settings(weights_cache=tmp_path)
    specs = [s for s in read_specs(settings.manifests) if s.id == "open-nsfw"]
    with pytest.raises(WeightsError, match="moderation weights pull"):
        load_scorer(settings, specs=specs)


def test_no_model_at_all_is_refused() -> None:
    with pytest.raises(ConfigError):
        load_scorer(load_settings(), specs=[])


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Waits for something that another thread brings about."""
    end = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        pause.wait(0.005)


def test_what_matters_to_one_caller_is_not_what_matters_to_another() -> None:
    models = Held()
    models.open.set()
    running = Scorer(models, load_settings(backend="fake", max_delay_ms=0))
    running.score(picture(1), floors={"porn.explicit": 0.5})
    running.score(picture(2, 3))
    running.close()
    assert models.asked == [{"porn.explicit": 0.5}, None, None]


def test_windows_and_pictures_share_the_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATION_FAKE_CLIP", "1")
    models = Moving()
    running = Scorer(models, load_settings(backend="fake", max_delay_ms=0, max_batch=8))
    assert running.windows == {WINDOW: {CLIP_LABEL: CLIP_REF}}
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(porn, running, picture(1))
        assert models.entered.wait(10)
        clips = [pool.submit(running.score_windows, WINDOW, [changing(end)]) for end in (0, 255)]
        rest = [pool.submit(porn, running, picture(red)) for red in (2, 3)]
        until(lambda: running.stats().queued == 4)
        models.open.set()
        assert [future.result(10) for future in (first, *rest)] == [[1], [2], [3]]
        told = [future.result(10)[0].scores for future in clips]
    running.close()
    assert told == [{CLIP_LABEL: 0.0}, {CLIP_LABEL: 1.0}]
    assert (models.sizes, models.windows_read) == ([1, 2], [2])
    assert models.threads == {"batcher"}


def test_windows_come_in_order_and_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATION_FAKE_CLIP", "1")
    models = Moving()
    running = Scorer(models, load_settings(backend="fake", max_delay_ms=0, max_batch=8))
    ends = list(range(0, 250, 25))
    scored = running.score_windows(WINDOW, [changing(end) for end in ends])
    running.close()
    assert [round(one.scores[CLIP_LABEL] * 255) for one in scored] == ends
    assert models.windows_read == [2] * 5, "each weighs as much as its frames"


class Moving(Held):
    """Counts its windows, and notes who calls."""

    def __init__(self) -> None:
        super().__init__()
        self.windows_read: list[int] = []
        self.threads: set[str] = set()

    def score_windows(self, window: Window, pixels: Pixels) -> list[ViewScores]:
        self.threads.add(threading.current_thread().name)
        self.windows_read.append(len(pixels))
        return super().score_windows(window, pixels)


def changing(change: int) -> Pixels:
    """A window whose neighbouring frames differ by so much."""
    pixels = np.zeros((WINDOW.frames, KEY.height, KEY.width, 3), np.uint8)
    pixels[::2] = change
    return pixels
