"""What a media worker does with a wanted derivative: real database, files, children and ffmpeg."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import write
from PIL import Image

from moderation.blobs import FolderBlobs
from moderation.decoders import DecoderPool
from moderation.errors import BlobError
from moderation.policy import Policy, Rule
from moderation.settings import load_settings
from moderation.store import deletion, derivatives, jobs
from moderation.store.derivatives import DerivativeRow, DerivativeState, Made
from moderation.store.engine import Database, open_database
from moderation.store.records import NewItem, NewMedia
from moderation.tasks import derive
from moderation.tasks.derive import Deriver
from moderation.tasks.files import LocalFiles
from tests.fakes.databases import migrated

POLICY = Policy(id="p", version=1, rules=(Rule(label="porn.explicit", review_at=0.5),))


@dataclass
class Recorder:
    woken: list[str] = field(default_factory=list)

    def wake(self, job_id: str) -> None:
        self.woken.append(job_id)


@dataclass
class World:
    """A media worker without its processes."""

    db: Database
    blobs: FolderBlobs
    deriver: Deriver
    waker: Recorder
    folder: Path
    sent: int = 0

    def item(self, data: bytes, kind: str) -> str:
        self.sent += 1
        sha256 = f"{self.sent:064x}"
        key = f"default/{sha256}"
        self.blobs.put(key, data)
        media = NewMedia(sha256=sha256, size=len(data), format="x", blob_key=key, kind=kind)
        return jobs.submit(self.db, NewItem(tenant="default", media=media, policy=POLICY)).item_id

    def want(self, item_id: str, name: str) -> str:
        return derivatives.want(self.db, "default", item_id, name)[0].id

    def made(self, item_id: str, name: str) -> bytes:
        """Ask for it, let the worker make it, read it."""
        derivative_id = self.want(item_id, name)
        assert self.deriver.once()
        row = self.row(derivative_id)
        assert row.state is DerivativeState.READY, row.error
        assert self.waker.woken[-1] == derivative_id
        data = self.blobs.get(str(row.blob_key))
        assert row.size == len(data)
        return data

    def row(self, derivative_id: str) -> DerivativeRow:
        row = derivatives.get(self.db, derivative_id)
        assert row is not None
        return row


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(1, timeout_s=20.0, memory_mib=768, recycle=100) as pool:
        yield pool


@pytest.fixture
def world(tmp_path: Path, pool: DecoderPool) -> Iterator[World]:
    db = open_database(migrated(f"sqlite:///{tmp_path / 'test.db'}"))
    folder = tmp_path / "work"
    folder.mkdir()
    blobs = FolderBlobs(tmp_path / "media")
    waker = Recorder()
    settings = load_settings(home=tmp_path, max_attempts=2)
    with LocalFiles(blobs, folder) as files:
        deriver = Deriver(db, blobs, files, waker, pool, settings, folder)
        yield World(db, blobs, deriver, waker, folder)
    assert list(folder.iterdir()) == []
    db.close()


def jpeg(**options: Any) -> bytes:
    """1600 x 400, red on the left, noise on the right."""
    pixels = np.random.default_rng(1).integers(0, 255, (400, 1600, 3), np.uint8)
    pixels[:, :800] = (220, 20, 20)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Grey, red from 1.2 to 2 s."""
    paint = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,1.2,1.99)'"
    source = f"color=gray:size=1280x720:rate=25:duration=4,{paint}"
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(path, "-f", "lavfi", "-i", source, "-preset", "ultrafast").read_bytes()


def shown(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"
        assert not image.getexif()
        return image.convert("RGB")


def test_a_picture_in_its_own_shape_without_what_came_with_it(world: World) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret"
    data = world.made(world.item(jpeg(exif=exif), "image"), "picture.webp")
    image = shown(data)
    assert image.size == (640, 160)
    red, green, _ = image.getpixel((100, 80))
    assert red > 180 > 60 > green
    assert b"secret" not in data


def test_a_turned_picture_is_upright(world: World) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    item = world.item(jpeg(exif=exif), "image")
    assert shown(world.made(item, "picture.webp")).size == (160, 640)


def test_a_covered_picture_is_grey(world: World) -> None:
    image = shown(world.made(world.item(jpeg(), "image"), "picture-blur.webp"))
    pixels = np.asarray(image).astype(int)
    assert np.abs(pixels - pixels.mean(axis=2, keepdims=True)).max() < 6
    assert np.abs(np.diff(pixels[:, 400:, 0], axis=1)).max() < 12, "the noise is gone"


def test_frames_of_a_film_at_their_times(world: World, film: bytes) -> None:
    item = world.item(film, "video")
    reds = []
    # The last one lies within the last frame.
    for name in ("frame-1160.webp", "frame-1200.webp", "frame-1200-blur.webp", "frame-3990.webp"):
        image = shown(world.made(item, name))
        assert image.size == (640, 360)
        red, green, _ = image.getpixel((320, 180))
        reds.append(red - green > 100)
    assert reds == [False, True, False, False]


def test_a_proxy_of_a_film(world: World, film: bytes) -> None:
    data = world.made(world.item(film, "video"), "proxy.mp4")
    assert data[4:8] == b"ftyp"
    assert len(data) < len(film)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("image", "picture.webp", "unsupported_format"),
        ("video", "frame-0.webp", "corrupt"),
        ("video", "proxy.mp4", "corrupt"),
    ],
)
def test_what_cannot_be_read_fails_with_its_code(
    world: World, kind: str, name: str, code: str
) -> None:
    derivative_id = world.want(world.item(b"nonsense" * 100, kind), name)
    assert world.deriver.once()
    row = world.row(derivative_id)
    assert row.state is DerivativeState.FAILED
    assert str(row.error).startswith(f"{code}: ")
    assert world.waker.woken == [derivative_id]
    assert not world.deriver.once()


def test_a_moment_behind_the_end_fails(world: World, film: bytes) -> None:
    derivative_id = world.want(world.item(film, "video"), "frame-99000.webp")
    assert world.deriver.once()
    assert world.row(derivative_id).state is DerivativeState.FAILED


def test_bytes_that_are_gone_are_a_reason(world: World, film: bytes) -> None:
    derivative_id = world.want(world.item(film, "video"), "proxy.mp4")
    world.blobs.delete(f"default/{1:064x}")
    assert world.deriver.once()
    assert str(world.row(derivative_id).error).startswith("media_missing: ")


def test_a_store_that_is_away_is_tried_again_and_given_up_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    derivative_id = world.want(world.item(jpeg(), "image"), "picture.webp")

    def away(key: str, data: bytes) -> None:
        raise BlobError("The media store does not answer.")

    monkeypatch.setattr(world.blobs, "put", away)
    monkeypatch.setattr(derivatives, "RETRY_S", 0.0)
    for attempt in (1, 2):
        assert world.deriver.once()
        assert world.row(derivative_id).state is DerivativeState.PENDING
        assert world.row(derivative_id).attempt == attempt
    assert world.waker.woken == []
    assert world.deriver.once()
    assert world.row(derivative_id).error == "attempts_exhausted: it was tried 2 times"
    assert world.waker.woken == [derivative_id]


def test_a_defect_of_ours_is_not_the_end_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    derivative_id = world.want(world.item(jpeg(), "image"), "picture.webp")
    with monkeypatch.context() as patch:
        patch.setattr(derive, "webp", lambda *args, **options: 1 / 0)
        assert world.deriver.once()
    assert world.row(derivative_id).state is DerivativeState.PENDING


def test_of_an_item_that_was_deleted_meanwhile_nothing_stays(
    world: World, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = world.item(film, "video")
    derivative_id = world.want(item, "frame-0.webp")
    real = derivatives.finish

    def finish(db: Database, row: DerivativeRow, made: Made) -> bool:
        for removal in deletion.delete_item(db, "default", item, actor="key").removals:
            assert deletion.remove(db, world.blobs, removal)
        world.blobs.put(made.blob_key, b"put just after the folder was emptied")
        return real(db, row, made)

    monkeypatch.setattr(derivatives, "finish", finish)
    assert world.deriver.once()
    assert derivatives.get(world.db, derivative_id) is None
    kept = [one for one in (world.folder.parent / "media").rglob("*") if one.is_file()]
    assert kept == []


def test_films_are_made_one_at_a_time_and_pictures_pass_them(
    world: World, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [world.item(film, "video") for _ in range(2)]
    for item in films:
        world.want(item, "proxy.mp4")
    going, leave = threading.Event(), threading.Event()
    real = derive.proxy

    def slow(*args: Any) -> Any:
        going.set()
        assert leave.wait(30)
        return real(*args)

    monkeypatch.setattr(derive, "proxy", slow)
    other = threading.Thread(target=world.deriver.once)
    other.start()
    assert going.wait(30)
    assert not world.deriver.once(), "the second film waits"
    world.made(world.item(jpeg(), "image"), "picture.webp")
    leave.set()
    other.join(60)
    assert world.deriver.once()
    assert not world.deriver.once()
    for item in films:
        row, _ = derivatives.want(world.db, "default", item, "proxy.mp4")
        assert row.state is DerivativeState.READY
