"""What is kept of a stream around an alert, from the ring to the item."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from live_source import until

from moderation.blobs import FolderBlobs
from moderation.errors import BlobError
from moderation.live import evidence
from moderation.live.evidence import EvidenceKeeper, Wanted
from moderation.live.follow import Follower
from moderation.live.kept import STRETCHED
from moderation.live.ring import Clip, Ring, RingOptions
from moderation.live_queue import Peaks
from moderation.store import alerts, items, stream_leases, streams
from moderation.store.engine import Database, open_database
from moderation.store.live_records import AlertChange, AlertRow, NewStream, StreamLease
from moderation.store.records import ItemRow
from moderation.types import Decision, LabelScore
from moderation.video.ffmpeg import program
from moderation.video.probe import ProbeLimits
from tests.contract.store_data import POLICY
from tests.fakes.databases import migrated
from tests.fakes.live_line import live_frame

PORN = "porn.explicit"
PART_S, PARTS = 1, 8


@dataclass
class RingFollower:
    """A `Follower` whose ring is full already."""

    ring: Ring

    def freeze(self, captured_s: float, target: Path) -> Clip:
        return self.ring.freeze(captured_s, target)


@dataclass
class Flaky:
    """A media store that is away for some time."""

    root: Path
    fails: int = 0
    tried: int = 0
    before: Callable[[], object] = lambda: None

    def put_file(self, key: str, path: Path) -> None:
        self.before()
        self.tried += 1
        if self.tried <= self.fails:
            raise BlobError("the media store is away")
        FolderBlobs(self.root).put_file(key, path)

    def delete(self, key: str) -> None:
        FolderBlobs(self.root).delete(key)

    def delete_below(self, prefix: str) -> None:
        FolderBlobs(self.root).delete_below(prefix)


@dataclass
class Bench:
    db: Database
    blobs: Flaky
    folder: Path
    follower: RingFollower
    lease: StreamLease
    ended_s: float
    kept: list[str] = field(default_factory=list)

    def keeper(self) -> EvidenceKeeper:
        return EvidenceKeeper(
            self.db,
            cast(FolderBlobs, self.blobs),
            self.folder,
            program(),
            now=time.time,
            limits=ProbeLimits(),
            on_kept=self.kept.append,
        )

    def alert(self) -> AlertRow:
        """Opened four seconds before the end of the ring."""
        at = datetime.fromtimestamp(self.ended_s - 4, UTC)
        change = AlertChange("opened", PORN, Decision.REVIEW, 0.6, at, at, threshold=0.5)
        recorded = alerts.record(self.db, self.lease, [change])
        assert recorded is not None
        return recorded[0].alert

    def wanted(self, alert: AlertRow, picture: bool = True) -> Wanted:
        frame = None
        if picture:  # as captured half way: the parts' time stamps begin at 0
            frame = replace(live_frame(alert.captured.timestamp()), stamp_s=PARTS * PART_S - 4)
        follower = cast(Follower, self.follower)
        return Wanted(alert, follower, self.moments, frame)

    def moments(self) -> list[tuple[float, Peaks | None]]:
        """A frame a second; the last one was not scored."""
        at = [self.ended_s - back for back in range(12, 0, -1)]
        peaks: list[Peaks | None] = [{PORN: LabelScore(PORN, 0.6, "m@1")} for _ in at]
        return list(zip(at, [*peaks[:-1], None], strict=True))

    def item(self) -> ItemRow:
        (row,) = alerts.of_stream(self.db, "default", self.lease.stream_id)
        assert row.item_id is not None
        return items.get_item(self.db, "default", row.item_id)

    def blob(self) -> Path:
        """The only one that is kept."""
        (path,) = (one for one in self.blobs.root.rglob("*") if one.is_file())
        return path

    def making(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.name != "ring"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    db = open_database(migrated(f"sqlite:///{tmp_path / 'x.db'}"))
    url = "rtmp://studio.example/live/a"
    streams.create(db, NewStream("default", url, url, POLICY))
    (owned,) = stream_leases.take(db, "sup-1", 1, 600.0)
    folder = tmp_path / "streams"
    ring = Ring(folder / "ring", RingOptions(lead_s=1.0))
    (folder / "ring").mkdir(parents=True)
    yield Bench(db, Flaky(tmp_path / "media"), folder, RingFollower(ring), owned.lease, 0.0)
    db.close()


def filled(bench: Bench, *coder: str) -> Bench:
    """Eight parts of a second each, the last of which ended just now."""
    picture = f"testsrc=size=160x90:rate=10:duration={PARTS}"
    cut = (
        "-muxdelay",
        "0",
        "-f",
        "segment",
        "-segment_time",
        str(PART_S),
        "-segment_format",
        "mpegts",
    )
    subprocess.run(
        [
            *(program(), "-v", "error", "-f", "lavfi", "-i", picture),
            *(coder or ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10")),
            *(*cut, "-segment_format", "mpegts", bench.follower.ring.pattern),
        ],
        check=True,
        timeout=60,
    )
    bench.ended_s = time.time() - 1
    for number in range(PARTS):
        ended_s = bench.ended_s - PART_S * (PARTS - 1 - number)
        os.utime(bench.follower.ring.pattern % number, (ended_s, ended_s))
    return bench


def running(keeper: EvidenceKeeper) -> Callable[[], None]:
    """Run it in a thread; what ends it."""
    thread = threading.Thread(target=keeper.run)
    thread.start()

    def end() -> None:
        keeper.stop()
        thread.join(30)
        assert not thread.is_alive()

    return end


def finished(bench: Bench, keeper: EvidenceKeeper) -> None:
    """As at a stream's end: taken of it, and made when it is gone."""
    keeper.finish(bench.lease.stream_id)
    shutil.rmtree(bench.folder / "ring")
    keeper.stop()
    keeper.run()


def test_an_alert_has_a_clip_of_what_was_sent_and_an_item(bench: Bench) -> None:
    filled(bench)
    alert = bench.alert()
    keeper = bench.keeper()
    end = running(keeper)
    try:
        keeper.want(bench.wanted(alert))
        until(lambda: bool(bench.kept), "it is kept")
    finally:
        end()
    assert bench.kept == [bench.lease.stream_id]
    row = bench.item()
    assert (row.kind, row.format, row.width, row.height) == ("video", "mp4", 160, 90)
    (after,) = alerts.of_stream(bench.db, "default", bench.lease.stream_id)
    assert after.clip is not None
    assert after.clip.begun.timestamp() <= alert.captured.timestamp() - 1.0
    assert row.duration_s is not None
    assert row.duration_s == pytest.approx(bench.ended_s - after.clip.begun.timestamp(), abs=0.3)
    verdict = row.verdict
    assert verdict is not None
    assert verdict.segments is not None
    (part,) = verdict.segments
    assert part.peak_s == pytest.approx(row.duration_s - 4, abs=0.3)
    # Frames of the clip alone count, and the one that nobody scored is told.
    seen = verdict.coverage.frames_scored + verdict.coverage.frames_failed
    assert seen == pytest.approx(row.duration_s, abs=1)
    assert (verdict.coverage.frames_failed, verdict.coverage.complete) == (1, False)
    assert verdict.models == ["m@1"]
    assert bench.blob().stat().st_size == row.size
    assert bench.making() == []


def test_a_codec_that_no_clip_holds_leaves_the_opening_frame(bench: Bench) -> None:
    filled(bench, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    alert = bench.alert()
    keeper = bench.keeper()
    keeper.want(bench.wanted(alert))
    finished(bench, keeper)
    row = bench.item()
    assert (row.kind, row.format, row.width, row.height) == ("image", "webp", 32, 32)
    assert row.verdict is not None
    assert row.verdict.coverage.notes == [STRETCHED]
    assert row.verdict.scores == {PORN: pytest.approx(0.6)}
    assert bench.blob().read_bytes()[8:12] == b"WEBP"
    assert bench.making() == []


def test_without_clip_and_picture_the_alert_stands_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ended_s = time.time()
    alert = bench.alert()
    keeper = bench.keeper()
    keeper.want(bench.wanted(alert, picture=False))
    finished(bench, keeper)
    (row,) = alerts.of_stream(bench.db, "default", bench.lease.stream_id)
    assert (row.item_id, row.clip) == (None, None)
    assert "has no clip" in caplog.text
    assert bench.making() == []


def test_a_media_store_that_is_away_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "RETRY_S", 0.05)
    filled(bench)
    bench.blobs.fails = 3
    keeper = bench.keeper()
    end = running(keeper)
    try:
        keeper.want(bench.wanted(bench.alert()))
        until(lambda: bool(bench.kept), "it is kept")
    finally:
        end()
    assert bench.blobs.tried == 4
    assert bench.item().kind == "video"
    assert bench.making() == []


def test_it_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(evidence, "RETRY_S", 0.01)
    monkeypatch.setattr(evidence, "TRIES", 3)
    filled(bench)
    bench.blobs.fails = 99
    keeper = bench.keeper()
    end = running(keeper)
    try:
        keeper.want(bench.wanted(bench.alert()))
        until(lambda: "its evidence is lost" in caplog.text, "it is given up")
        until(lambda: bench.making() == [], "nothing is left")
    finally:
        end()
    assert (bench.blobs.tried, bench.kept) == (3, [])


def test_who_lost_the_stream_has_its_alerts_evidence_all_the_same(bench: Bench) -> None:
    filled(bench)
    alert = bench.alert()
    keeper = bench.keeper()
    keeper.want(bench.wanted(alert))
    assert stream_leases.release(bench.db, [bench.lease])
    finished(bench, keeper)
    assert bench.item().kind == "video"
    assert bench.kept == [bench.lease.stream_id]


def test_whoever_ends_a_stream_does_not_wait_for_the_media_store(bench: Bench) -> None:
    filled(bench)
    keeper = bench.keeper()
    going, held = threading.Event(), threading.Event()
    bench.blobs.before = lambda: (held.set(), going.wait(30))
    alert = bench.alert()
    end = running(keeper)
    try:
        keeper.want(bench.wanted(alert))
        assert held.wait(30)
        keeper.finish(bench.lease.stream_id)  # while that one is being stored
    finally:
        going.set()
        end()
    assert bench.item().kind == "video"


def test_an_alert_that_is_gone_leaves_no_bytes(bench: Bench) -> None:
    filled(bench)
    alert = bench.alert()
    keeper = bench.keeper()
    keeper.want(bench.wanted(replace(alert, id="alert_" + "0" * 32)))
    finished(bench, keeper)
    assert bench.blobs.tried == 1
    assert [one for one in bench.blobs.root.rglob("*") if one.is_file()] == []
    (row,) = alerts.of_stream(bench.db, "default", bench.lease.stream_id)
    assert row.item_id is None
    assert bench.kept == []


def test_two_labels_of_one_moment_are_two_items_of_one_clip(bench: Bench) -> None:
    filled(bench)
    first = bench.alert()
    at = first.captured
    change = AlertChange("opened", "violence.fight", Decision.REVIEW, 0.6, at, at)
    recorded = alerts.record(bench.db, bench.lease, [change])
    assert recorded is not None
    keeper = bench.keeper()
    for alert in (first, recorded[0].alert):
        keeper.want(bench.wanted(alert))
    finished(bench, keeper)
    rows = alerts.of_stream(bench.db, "default", bench.lease.stream_id)
    ids = {row.item_id for row in rows}
    assert None not in ids
    assert len(ids) == 2
    assert bench.blob().is_file()
