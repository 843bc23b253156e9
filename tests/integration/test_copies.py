"""A film that comes again in another encoding is linked; another film is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import skimage.data
from media import write

from moderation.film import begin
from moderation.store import items, jobs
from moderation.store.engine import Database, open_database
from moderation.store.fingerprints import remember, similar
from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions, FrameHash
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import ProbeLimits, probe
from moderation.video.sampling import SamplingOptions
from moderation.video.source import ReadOptions
from tests.contract.store_data import new_item
from tests.fakes.databases import migrated

KEY = InputKey(224, 224)
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(migrated(f"sqlite:///{tmp_path / 'copies.db'}"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two pans of 8 s over photographs."""
    folder = tmp_path_factory.mktemp("copies")
    pan = "scale=1280:720,zoompan=z='1+0.02*on/30':x='on*1.2':y='on*0.4':d=240:s=640x360:fps=30"
    return {
        name: write(
            folder / f"{name}.mp4",
            "-i", str(Path(skimage.data.__file__).parent / f"{name}.png"),
            "-vf", pan, *X264, "-crf", "18",
        )
        for name in ("coffee", "chelsea")
    }  # fmt: skip


def analysed(path: Path, seed: str) -> tuple[float, list[FrameHash]]:
    """The film's length and the hashes that an analysis with this seed takes."""
    probed = probe(path, ProbeLimits())
    _, chunks = begin(probed.info, probed.index, SamplingOptions(seed=seed))
    reading = ReadOptions(program(), timeout_s=60.0)
    packs = [look(path, chunk, probed.info, (KEY,), reading, DedupeOptions()) for chunk in chunks]
    return probed.info.duration_s, [told for pack in packs for told in pack.hashes]


def uploaded(db: Database, path: Path, seed: str) -> tuple[str, str]:
    """Ids of the item and its media, once the film was looked at."""
    now = datetime.now(UTC)
    item_id = jobs.submit(db, new_item(path.read_bytes()), now=now).item_id
    media_id = items.get_item(db, "default", item_id).media_id
    duration_s, hashes = analysed(path, seed)
    with db.begin() as connection:
        remember(connection, "default", media_id, duration_s, hashes, now)
    return item_id, media_id


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("small.mkv", ("-vf", "scale=-2:180", *X264, "-crf", "35")),
        ("other.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
        ("slower.mp4", ("-vf", "fps=15", *X264)),
        ("cropped.mp4", ("-vf", "crop=iw*0.97:ih*0.97", *X264)),
        ("shorter.mp4", ("-ss", "1", *X264)),
    ],
)
def test_a_copy_is_linked(
    database: Database,
    films: dict[str, Path],
    tmp_path: Path,
    name: str,
    words: Sequence[str],
) -> None:
    first, _ = uploaded(database, films["coffee"], "a")
    _, other = uploaded(database, films["chelsea"], "b")
    copy = write(tmp_path / name, "-i", str(films["coffee"]), *words)
    _, media_id = uploaded(database, copy, "c")
    assert [one.item_id for one in similar(database, "default", media_id)] == [first]
    assert similar(database, "default", other) == ()
