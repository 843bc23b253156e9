"""The report of `scan --report`: escaped, whole, bounded, and readable without anything else."""

from __future__ import annotations

import re
import tracemalloc
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.aggregate import Frame
from moderation.analyse_video import VideoAnalysis
from moderation.cli.html.evidence import Evidence, Picture
from moderation.cli.html.gather import moments, of_video
from moderation.cli.html.page import ROOM, Basis, Report
from moderation.curves import Curve, curves, thin
from moderation.errors import ConfigError, MediaError
from moderation.film import Film, conclude
from moderation.policy import Policy, Rule
from moderation.rolling import Passage
from moderation.stills import webp
from moderation.timeline import LEFT, RIGHT, clock, draw
from moderation.types import (
    Coverage,
    Decision,
    LabelScore,
    Problem,
    Reason,
    Segment,
    Status,
    Verdict,
)
from moderation.video.probe import VideoInfo

PORN, GUN, FIRE = "porn.explicit", "violence.weapon", "violence.fire"
POLICY = Policy(
    id="p",
    version=1,
    rules=(
        Rule(label=PORN, review_at=0.5, block_at=0.9, min_frames=2, window=3),
        Rule(label=GUN, review_at=0.8),
        Rule(label=FIRE, review_at=0.8),
    ),
)
HOSTILE = "a</title><script>alert(1)</script>\"'&\u202egpj.mp4"
SEEN = Coverage(frames_total=9, frames_scored=9, complete=True)


def basis(**changes: object) -> Basis:
    told: dict[str, object] = {
        "policy": POLICY,
        "models": ("m@1",),
        "device": "cpu",
        "sources": (HOSTILE,),
        "settings": {"Precision": "f32"},
        "pictures": "blurred",
        "started": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return Basis(**(told | changes))  # type: ignore[arg-type]


def verdict(decision: Decision = Decision.BLOCK, **changes: object) -> Verdict:
    reason = Reason(
        category="porn", label=PORN, score=0.97, decision=decision, threshold=0.9, model="m@1"
    )
    told: dict[str, object] = {
        "id": "item_1",
        "source": HOSTILE,
        "status": Status.DONE,
        "decision": decision,
        "reasons": [] if decision is Decision.PASS else [reason],
        "coverage": SEEN,
        "policy": "p@1",
    }
    return Verdict(**(told | changes))  # type: ignore[arg-type]


def picture(size: int = 40) -> Picture:
    pixels = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    return Picture(webp(pixels), 40, 30, f"{PORN} 0.97 at 0:05.0", ((0.1, 0.2, 0.5, 0.7, 0.9),))


def film() -> tuple[Verdict, Evidence]:
    frames = [
        Frame(float(i), None if 60 <= i < 70 else {PORN: found(0.97 if 20 <= i < 30 else 0.05)})
        for i in range(100)
    ]
    segment = Segment(
        label=PORN, decision=Decision.BLOCK, start_s=20, end_s=29, peak_s=24, score=0.97
    )
    coverage = SEEN.model_copy(update={"complete": False, "unseen": [(59.0, 70.0)]})
    told = verdict(segments=[segment], coverage=coverage)
    return told, Evidence("mp4", 100.0, curves(frames), (picture(),))


def found(score: float) -> LabelScore:
    return LabelScore(PORN, score, "m@1")


class Seen(HTMLParser):
    """What a browser would make of a report."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str, of: str | None = None) -> int:
        """Elements of that name; of: and of that class."""
        return sum(
            name == tag and (of is None or of in (a.get("class") or "").split())
            for name, a in self.tags
        )


def written(path: Path, *cards: tuple[Verdict, Evidence | None], **changes: object) -> Seen:
    with Report(path, basis(**changes)) as report:
        for told, evidence in cards:
            report.add(told, evidence)
        report.finish(interrupted=False)
    return Seen(path.read_text("utf-8"))


def test_nothing_of_a_hostile_name_becomes_markup(tmp_path: Path) -> None:
    failed = verdict(
        Decision.REVIEW,
        status=Status.FAILED,
        error=Problem(title=HOSTILE, status=422, code="corrupt", detail=HOSTILE),
    )
    path = tmp_path / "r.html"
    seen = written(path, film(), (failed, None), (verdict(Decision.PASS), Evidence(HOSTILE)))
    assert seen.count("script") == 0
    assert seen.count("title") == 1 + 5  # the page's, and those of the drawing
    assert "alert(1)" in "".join(seen.words)
    assert "\u202e" not in path.read_text("utf-8")


def test_what_boxes_show_is_named_and_how_sure_they_are(tmp_path: Path) -> None:
    told, evidence = film()
    (segment,) = told.segments or []
    marked = segment.model_copy(update={"sublabel": "pistol"})
    rule = Rule(label=GUN, review_at=0.5, block_at=0.9, block_needs="evidence", window=3)
    seen = written(
        tmp_path / "r.html",
        (told.model_copy(update={"segments": [marked]}), evidence),
        policy=Policy(id="p", version=1, rules=(rule, Rule(label=PORN, block_at=0.9))),
    )
    assert f"{PORN} (pistol)" in seen.words
    assert "0.9 with a box or 3 frames" in seen.words
    assert "0.9" in seen.words
    assert [a.get("title") for _, a in seen.tags if a.get("class") == "box"] == ["0.90"]


def test_it_needs_no_network_and_allows_none(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    seen = written(path, film())
    addresses = [a.get(name) for _, a in seen.tags for name in ("src", "href") if name in a]
    assert all(re.match(r"#|data:image/webp;base64,", str(address)) for address in addresses)
    assert "url(" not in path.read_text("utf-8")
    (policy,) = [a["content"] for tag, a in seen.tags if "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_film_has_its_timeline(tmp_path: Path) -> None:
    seen = written(tmp_path / "r.html", film())
    assert seen.count("svg") == 1
    assert seen.count("rect", "unseen") == 1
    assert seen.count("rect", "block") == 1
    assert seen.count("line", "threshold") == 2
    assert seen.count("span", "box") == 1
    (curve,) = [a["d"] for tag, a in seen.tags if a.get("class") == "curve"]
    assert curve is not None
    assert curve.count("M") == 2, "the line is broken where nothing was seen"
    words = " ".join("".join(seen.words).split())
    assert "porn.explicit scored 0.97; blocks from 0.9" in words
    assert "Not seen: 0:59.0 to 1:10.0" in words


def test_a_pass_is_one_line_and_a_doubtful_one_a_card(tmp_path: Path) -> None:
    doubtful = verdict(Decision.PASS, reasons=verdict().reasons)
    passed = (verdict(Decision.PASS), Evidence("jpeg"))
    seen = written(tmp_path / "r.html", passed, (doubtful, None))
    assert seen.count("p", "line") == 1
    assert seen.count("article", "pass") == 1
    assert seen.count("img") == 0


@pytest.mark.parametrize(("shown", "covered"), [("blurred", 1), ("clear", 0)])
def test_pictures_are_covered_unless_told_otherwise(
    tmp_path: Path, shown: str, covered: int
) -> None:
    seen = written(tmp_path / "r.html", film(), pictures=shown)
    assert seen.count("button", "covered") == covered
    assert seen.count("img") == 1
    rules = (tmp_path / "r.html").read_text()
    assert ".covered img { filter:" in rules


def test_the_summary_counts_what_comes_after_it(tmp_path: Path) -> None:
    cards = [(verdict(d), None) for d in (Decision.PASS, Decision.PASS, Decision.REVIEW)]
    seen = written(tmp_path / "r.html", *cards, film())
    tiles = " ".join("".join(seen.words).split("Moderation report")[-1].split()[:40])
    assert "1 blocked 1 to review 2 passed 0 could not be analysed" in tiles


def test_an_unfinished_report_leaves_nothing(tmp_path: Path) -> None:
    with Report(tmp_path / "r.html", basis()) as report:
        report.add(*film())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    with Report(path, basis()) as report:
        report.finish(interrupted=True, earlier=3)
    text = path.read_text()
    assert "was interrupted" in text
    assert "3 more were done in an earlier run" in text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/r.html", "."])
def test_where_no_file_can_be_it_is_told_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot write the report"):
        Report(tmp_path / name, basis())


def test_memory_does_not_grow_with_the_sources(tmp_path: Path) -> None:
    def peak(name: str, sources: int) -> int:
        with Report(tmp_path / name, basis()) as report:
            tracemalloc.start()
            try:
                for _ in range(sources):
                    report.add(*film())
                    report.add(verdict(Decision.PASS), Evidence("jpeg"))
                report.finish(interrupted=False)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak("few.html", 20), peak("many.html", 400)
    assert many < few + 200_000
    assert (tmp_path / "many.html").stat().st_size > 2_000_000


def test_pictures_have_room_and_no_more(tmp_path: Path) -> None:
    large = Picture(b"x" * (ROOM // 2), 1, 1, "")
    with Report(tmp_path / "r.html", basis()) as report:
        report.add(verdict(), Evidence(pictures=(large,)))
        assert report.room
        report.add(verdict(), Evidence(pictures=(large,)))
        assert not report.room
        report.finish(interrupted=False)
    assert b"left out after the first 64 MiB" in (tmp_path / "r.html").read_bytes()[:20_000]


class TestCurves:
    @given(
        st.lists(st.none() | st.floats(0, 1, width=32), min_size=1, max_size=400),
        st.integers(4, 100),
    )
    def test_thin_keeps_order_bound_and_the_highest(
        self, scores: list[float | None], limit: int
    ) -> None:
        points = [(float(i), score) for i, score in enumerate(scores)]
        kept = thin(points, limit)
        assert len(kept) <= max(limit, 2)
        assert list(kept) == sorted(kept, key=lambda point: point[0])
        assert set(kept) <= set(points)
        seen = [score for score in scores if score is not None]
        if seen:
            assert max(s for _, s in kept if s is not None) == max(seen)

    def test_a_label_that_a_frame_skips_is_no_break(self) -> None:
        frames = [Frame(0.0, {PORN: found(0.1)}), Frame(1.0, {}), Frame(2.0, None)]
        (curve,) = curves(frames)
        assert curve.points == ((0.0, found(0.1).score), (2.0, None))


class TestDrawing:
    def test_segments_come_first_and_quiet_labels_are_words(self) -> None:
        told, _ = film()
        quiet = Curve(FIRE, ((0.0, 0.05), (99.0, 0.1)))
        near = Curve(GUN, ((0.0, 0.05), (99.0, 0.79)))
        low = Curve(PORN, ((0.0, 0.5), (99.0, 0.5)))
        drawing = draw([quiet, near, low], told.segments or [], [], POLICY, 100.0)
        assert [strip.label for strip in drawing.strips] == [PORN, GUN]
        assert drawing.others == "violence.fire 0.10"

    def test_a_moment_in_a_long_film_is_visible_and_inside(self) -> None:
        flash = Segment(
            label=PORN, decision=Decision.BLOCK, start_s=10799, end_s=10800, peak_s=10799, score=1
        )
        curve = Curve(PORN, ((0.0, 0.0), (10799.0, 1.0)))
        drawing = draw([curve], [flash], [], POLICY, 10_800.0)
        (mark,) = drawing.strips[0].marks
        assert mark.width >= 2
        assert mark.x >= LEFT
        assert mark.x + mark.width <= RIGHT
        assert [words for _, words in drawing.ticks][:2] == ["0:00", "30:00"]
        assert len(drawing.ticks) <= 9

    def test_one_moment_is_a_dot(self) -> None:
        drawing = draw([Curve(PORN, ((0.0, 0.4),))], [], [], POLICY, 0.04)
        assert drawing.strips[0].line.count("L") == 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00.0"), (12.34, "0:12.3"), (59.96, "1:00.0"), (3723, "1:02:03.0")]
)
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


class TestMoments:
    def passage(self, label: str, score: float, peak_s: float, **more: object) -> Passage:
        peak = LabelScore(label, score, "m@1")
        return Passage(label, Decision.BLOCK, 0.9, peak_s, peak_s, peak_s, peak, **more)  # type: ignore[arg-type]

    def test_one_frame_of_two_labels_is_one_picture(self) -> None:
        chosen, more = moments([self.passage(PORN, 0.9, 5.0), self.passage(GUN, 0.95, 5.0)])
        assert [(time_s, boxes) for time_s, _, boxes in chosen] == [(5.0, ())]
        assert "violence.weapon 0.95" in chosen[0][1]
        assert "porn.explicit 0.90" in chosen[0][1]
        assert more == 0

    def test_boxes_stand_on_the_frame_that_they_were_found_on(self) -> None:
        box = ((0.1, 0.1, 0.2, 0.2, 0.8),)
        elsewhere = self.passage(GUN, 0.95, 5.0, boxes=box, boxes_s=7.0, boxes_score=0.8)
        chosen, _ = moments([elsewhere])
        assert [(time_s, boxes) for time_s, _, boxes in chosen] == [(5.0, ()), (7.0, box)]

    def test_captions_say_what_the_boxes_show(self) -> None:
        box = ((0.1, 0.1, 0.2, 0.2, 0.8),)
        more = {"boxes": box, "boxes_score": 0.8, "boxes_sublabel": "pistol"}
        chosen, _ = moments([self.passage(GUN, 0.95, 5.0, boxes_s=7.0, **more)])
        assert [words for _, words, _ in chosen] == [
            "violence.weapon (pistol) 0.95 at 0:05.0",
            "violence.weapon (pistol) 0.80 at 0:07.0",
        ]

    def test_the_worst_are_kept(self) -> None:
        many = [self.passage(PORN, 0.5 + i / 100, float(i)) for i in range(20)]
        chosen, more = moments(many)
        assert [time_s for time_s, _, _ in chosen] == [float(i) for i in range(8, 20)]
        assert more == 8


class TestGather:
    """Facts and pictures of a film, where its frames can be read and where not."""

    def analysis(self) -> VideoAnalysis:
        info = VideoInfo(
            "mov,mp4,m4a", "h264", "yuv420p", 1280, 720, 0, 60.0, 60.0, 0.0, 1500, ("aac",), 9
        )
        scores_ = [0.97 if 5 <= i < 9 else 0.1 for i in range(60)]
        frames = tuple(Frame(float(i), {PORN: found(s)}) for i, s in enumerate(scores_))
        film_ = Film(info, 2.0, capped=False)
        return VideoAnalysis(film_, frames, conclude(frames, POLICY, film_), {})

    def test_a_film_in_words_and_pictures(self) -> None:
        asked: list[float] = []

        def still(path: Path, time_s: float, info: VideoInfo) -> np.ndarray:
            asked.append(time_s)
            return np.zeros((180, 320, 3), np.uint8)

        evidence = of_video(Path("film.mp4"), self.analysis(), still)
        assert evidence.facts == "1:00.0 · mp4 h264 · 1280 × 720 · 25 frames/s · sound aac"
        assert asked == [5.0]
        (picture_,) = evidence.pictures
        assert (picture_.width, picture_.height) == (320, 180)
        assert picture_.caption == "porn.explicit 0.97 at 0:05.0"
        assert evidence.notes == ()

    def test_a_frame_that_cannot_be_read_is_a_note(self) -> None:
        def still(path: Path, time_s: float, info: VideoInfo) -> np.ndarray:
            raise MediaError("there is no such frame")

        evidence = of_video(Path("film.mp4"), self.analysis(), still)
        assert evidence.pictures == ()
        assert evidence.notes == (
            "no picture of porn.explicit 0.97 at 0:05.0: there is no such frame",
        )
        assert evidence.curves

    def test_no_pictures_are_read_where_none_are_wanted(self) -> None:
        evidence = of_video(Path("film.mp4"), self.analysis(), None)
        assert (evidence.pictures, evidence.notes) == ((), ())
