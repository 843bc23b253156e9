"""`moderation watch`: a stream without a server, and what the terminal is told."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from moderation.cli.screen import Screen, as_json, drawn, words
from moderation.errors import InferenceError
from moderation.live.follow import Follower, OnFrame
from moderation.live.watchdog import Changed, Watch
from moderation.live.watching import Standing, Watching
from moderation.policy import Policy, Rule
from moderation.types import InputKey, LabelScore, StreamState
from tests.fakes.live_line import live_frame

PORN = "porn.explicit"
POLICY = Policy(
    id="test",
    version=1,
    rules=(Rule(label=PORN, review_at=0.5, block_at=0.9, min_frames=2, window=3),),
)
NOW = 1_800_000_000.0


class FakeFollower:
    def __init__(self) -> None:
        self.watch = Watch(StreamState.LIVE)
        self.changes: tuple[Changed, ...] = ()
        self.closed = False

    def tick(self) -> tuple[Changed, ...]:
        changes, self.changes = self.changes, ()
        return changes

    def close(self) -> None:
        self.closed = True


class Bench:
    """A watched stream whose frames and scores a test gives."""

    def __init__(self) -> None:
        self.now_s = NOW
        self.follower = FakeFollower()
        self.fails = False
        self._take: OnFrame | None = None
        self.watching = Watching(
            self._follow,
            self._score,
            POLICY,
            interval_s=1.0,
            hold_s=2.0,
            now=lambda: self.now_s,
        )

    def _follow(self, on_frame: OnFrame) -> Follower:
        self._take = on_frame
        return cast(Follower, self.follower)

    def _score(
        self, pixels: Mapping[InputKey, NDArray[np.uint8]], floors: Mapping[str, float]
    ) -> dict[str, LabelScore]:
        assert set(floors) == {PORN}
        if self.fails:
            raise InferenceError("the backend failed")
        (one,) = pixels.values()
        return {PORN: LabelScore(PORN, float(one[0, 0, 0]) / 255, "m@1")}

    def frame(self, red: int) -> list[Any]:
        """A second later a frame comes, and 0.1 s later its scores."""
        assert self._take is not None
        self.now_s += 0.9
        self._take(live_frame(self.now_s, (red, 0, 0)), None)
        self.now_s += 0.1
        return list(self.watching.step(0.01))


def test_a_passage_is_told_once_and_ends() -> None:
    bench = Bench()
    told = [one for red in (0, 200, 200, 200, 0, 0, 0, 0, 0) for one in bench.frame(red)]
    assert [one.kind for one in told] == ["opened", "closed"]
    standing = bench.watching.standing()
    assert (standing.scored, standing.dropped, standing.open) == (9, 0, ())
    assert standing.late_s == pytest.approx(0.1)
    assert standing.scores == {PORN: 0.0}


def test_a_frame_that_cannot_be_scored_is_counted() -> None:
    bench = Bench()
    bench.fails = True
    assert bench.frame(200) == []
    standing = bench.watching.standing()
    assert (standing.scored, standing.dropped) == (0, 1)


def test_what_is_open_at_the_end_is_closed() -> None:
    bench = Bench()
    bench.frame(200)
    assert [one.kind for one in bench.frame(200)] == ["opened"]
    assert [one.kind for one in bench.watching.finish()] == ["closed"]
    assert bench.watching.finish() == ()


def test_a_stream_that_is_over_closes_its_alerts_and_its_reader() -> None:
    bench = Bench()
    bench.frame(200)
    bench.frame(200)
    over = Changed(StreamState.LIVE, StreamState.ENDED, "the source said so", NOW)
    bench.follower.changes, bench.follower.watch = (over,), Watch(StreamState.ENDED)
    told = bench.watching.step(0.01)
    assert told[0] is over
    assert [getattr(one, "kind", None) for one in told[1:]] == ["closed"]
    with bench.watching:
        pass
    assert bench.follower.closed


def test_events_have_the_names_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    bench.frame(200)
    opened = bench.frame(200)
    screen = Screen("rtmp://x/live", json=True)
    changed = Changed(None, StreamState.LIVE, "frames come\x1b[2J", NOW)
    screen.tell([changed, *opened])
    state, alert = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert state["type"] == "stream.state"
    assert state["data"]["state"] == "live"
    assert alert["type"] == "alert.opened"
    assert alert["data"]["decision"] == "review"
    assert datetime.fromisoformat(alert["data"]["captured"]).timestamp() == pytest.approx(NOW + 1.9)
    assert screen.reached("review")
    assert not Screen("rtmp://x/live", json=True).reached("review")


def test_lines_and_table_cannot_steer_a_terminal() -> None:
    changed = Changed(None, StreamState.LIVE, "frames come\x1b[2J", NOW)
    assert "\x1b" not in words(changed)
    assert "live: frames come" in words(changed)
    bench = Bench()
    bench.frame(200)
    (opened,) = bench.frame(200)
    assert words(opened).split("  ")[1].startswith(f"alert opened: {PORN} 0.78 review, from")
    assert as_json(opened)["data"]["end"] is None
    standing = bench.watching.standing()
    assert isinstance(standing, Standing)
    console = Console(file=io.StringIO(), width=100)
    console.print(drawn("rtmp://x/live", standing))
    text = cast(io.StringIO, console.file).getvalue()
    assert "live" in text
    assert PORN in text
    assert "2, 0" in text
