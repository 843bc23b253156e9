"""Bytes -> decision through real decoder children and painted scores."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from moderation.analyse import Analyser, coverage_of, failure, to_verdict
from moderation.decoders import DecoderPool
from moderation.errors import InferenceError
from moderation.models.backends.fake import KEY, FakeModels
from moderation.models.runner import Scorer, load_scorer
from moderation.policy import Policy, Rule
from moderation.settings import Settings, load_settings
from moderation.types import Decision, DecodedImage, MediaInfo, Problem, Status, View

POLICY = Policy(
    id="test", version=1, rules=(Rule(label="porn.explicit", review_at=0.5, block_at=0.9),)
)


def picture(colour: tuple[int, ...], size: tuple[int, int] = (64, 48), fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(buffer, fmt)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(backend="fake")


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[DecoderPool]:
    with DecoderPool.from_settings(settings) as pool:
        yield pool


@pytest.fixture
def analyser(settings: Settings, pool: DecoderPool) -> Iterator[Analyser]:
    scorer = load_scorer(settings)
    yield Analyser(scorer, pool, settings)
    scorer.close()


@pytest.mark.parametrize(
    ("red", "expected"), [(0, Decision.PASS), (160, Decision.REVIEW), (250, Decision.BLOCK)]
)
def test_a_picture_gets_the_painted_verdict(
    analyser: Analyser, red: int, expected: Decision
) -> None:
    analysis = analyser.analyse(picture((red, 0, 0)), POLICY)
    verdict = to_verdict(analysis, id="item_1", policy=POLICY, models=("fake@1",), device="fake")
    assert verdict.status is Status.DONE
    assert verdict.decision is expected
    assert verdict.scores["porn.explicit"] == pytest.approx(red / 255, abs=0.01)
    assert set(verdict.timings_ms) == {"decode", "infer", "policy", "total"}
    assert (verdict.policy, verdict.models, verdict.error) == ("test@1", ["fake@1"], None)


def test_bad_bytes_are_an_analysis_not_an_exception(analyser: Analyser) -> None:
    analysis = analyser.analyse(b"no picture", POLICY)
    verdict = to_verdict(analysis, id="item_1", policy=POLICY, models=(), device=None)
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
    assert verdict.error is not None
    assert verdict.error.code == "unsupported_format"
    assert not verdict.coverage.complete
    assert verdict.scores == {}


def test_what_only_one_background_shows_is_found(analyser: Analyser) -> None:
    clear = analyser.analyse(picture((255, 0, 0, 0)), POLICY)
    assert clear.coverage.views_scored == 2
    assert "transparent: scored on black and on white" in clear.coverage.notes
    assert clear.peaks["porn.explicit"].score == pytest.approx(1.0)  # white is red as well


def test_a_tile_of_a_long_picture_decides(analyser: Analyser) -> None:
    strip = np.zeros((40, 400, 3), np.uint8)
    strip[:, -40:, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    analysis = analyser.analyse(buffer.getvalue(), POLICY)
    assert analysis.outcome.decision is not Decision.PASS
    assert analysis.peaks["porn.explicit"].score > 0.5  # a tenth of the whole picture
    assert any("tiles" in note for note in analysis.coverage.notes)


GUN = Policy(
    id="guns",
    version=1,
    rules=(Rule(label="violence.weapon", review_at=0.5, block_at=0.9, block_needs="evidence"),),
)
CYAN = (0, 255, 255)


def marked(size: tuple[int, int], *patches: tuple[tuple[int, ...], tuple[int, ...]]) -> bytes:
    """Cyan, which is a weapon to the fake model, with patches: (colour, corners in pixels)."""
    image = Image.new("RGB", size, CYAN)
    for colour, corners in patches:
        image.paste(colour, corners)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_box_is_told_and_lets_a_small_object_block(analyser: Analyser) -> None:
    data = marked((640, 320), ((0, 255, 0), (160, 80, 320, 240)))
    analysis = analyser.analyse(data, GUN)
    verdict = to_verdict(analysis, id="item_1", policy=GUN, models=("fake@1",), device="fake")
    (reason,) = verdict.to_json()["reasons"]
    assert (reason["decision"], reason["sublabel"]) == ("block", "pistol")
    assert reason["boxes"] == [[0.25, 0.25, 0.5, 0.75, pytest.approx(1.0, abs=0.01)]]
    assert "boxes_s" not in reason


@pytest.mark.parametrize("patches", [(), (((0, 255, 200), (160, 80, 320, 240)),)])
def test_without_a_sure_box_it_asks_a_person(
    analyser: Analyser, patches: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
) -> None:
    analysis = analyser.analyse(marked((640, 320), *patches), GUN)
    (reason,) = analysis.outcome.reasons
    assert reason.decision is Decision.REVIEW
    assert [box[4] for box in reason.boxes] == [pytest.approx(55 / 255, abs=0.01) for _ in patches]


def test_a_box_in_a_tile_is_told_in_fractions_of_the_picture(analyser: Analyser) -> None:
    strip = Image.new("RGB", (64, 640), (0, 0, 0))
    strip.paste(CYAN, (0, 576, 64, 640))
    strip.paste((0, 255, 0), (0, 576, 32, 608))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    (reason,) = analyser.analyse(buffer.getvalue(), GUN).outcome.reasons
    (box,) = reason.boxes
    assert box[:4] == pytest.approx([0, 0.9, 0.5, 0.95], abs=0.01)


def test_a_failing_backend_raises_for_its_picture_alone(
    settings: Settings, pool: DecoderPool
) -> None:
    scorer = Scorer(FakeModels(poison=(0, 0, 255)), settings)
    analyser = Analyser(scorer, pool, settings)
    with pytest.raises(InferenceError, match="poisoned"):
        analyser.analyse(picture((0, 0, 255)), POLICY)
    assert analyser.analyse(picture((0, 0, 0)), POLICY).outcome.decision is Decision.PASS
    scorer.close()


def decoded(**info: int) -> DecodedImage:
    sizes = {"width": 2, "height": 2, "frames_total": 1, "frames_decoded": 1, "size_bytes": 9}
    return DecodedImage(
        MediaInfo(format="gif", **(sizes | info)),
        (View(),),
        {KEY: np.zeros((1, 32, 32, 3), np.uint8)},
    )


def test_sampled_frames_are_complete_and_noted() -> None:
    coverage = coverage_of(decoded(frames_total=80, frames_decoded=16))
    assert coverage.complete
    assert coverage.notes == ["16 of 80 frames sampled"]


def test_a_frame_that_failed_is_not_complete() -> None:
    coverage = coverage_of(decoded(frames_total=4, frames_decoded=3, frames_failed=1))
    assert not coverage.complete
    assert coverage.notes == ["1 sampled frames could not be decoded"]


def test_bytes_after_the_end_are_noted() -> None:
    assert coverage_of(decoded(trailing_bytes=7)).notes == ["7 bytes after the picture's end"]


def test_a_failure_has_no_scores_and_follows_the_policy() -> None:
    problem = Problem(title="Empty file", status=422, code="empty_file", detail="no bytes")
    analysis = failure(POLICY, problem)
    assert analysis.outcome.decision is Decision.REVIEW
    assert analysis.problem is problem
    assert analysis.scores is None
