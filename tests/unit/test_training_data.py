from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moderation.errors import ConfigError
from moderation.models.spec import InputSpec
from moderation.models.training import datasets
from moderation.models.training.crossval import Fold, leave_sources_out, mean_logits, pooled
from moderation.models.training.features import one_size, pixels_of
from moderation.models.training.metrics import auc
from moderation.models.training.recipe import SAFE_FOLDS, Examples, Task, clip_samples
from moderation.settings import Settings, load_settings

MANIFEST = """file,group,label,source,boxes_cls_cx_cy_w_h,width,height
safe/a.webp,safe,safe_general,s1,[],10,10
weapon/b.webp,weapon,gun,w1,"[[0, 0.5, 0.5, 0.1, 0.1]]",10,10
"""


def test_the_manifest_tells_what_a_picture_shows(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(MANIFEST)
    safe, gun = datasets.read_manifest(path)
    assert safe.safe
    assert (gun.labels, gun.detail) == (frozenset({"violence.weapon"}), "gun")


@pytest.mark.parametrize(
    ("text", "words"), [("file,label\nx,y\n", "no column 'group'"), (None, "cannot read")]
)
def test_another_csv_is_one_clear_line(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "manifest.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        datasets.read_manifest(path)


def test_no_dataset_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MODERATION_DATASET_DIR"):
        datasets.open_group(Settings(home=tmp_path, dataset_dir=None), "safe")


def archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_an_archive_is_unpacked_once_and_no_half_of_it_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    archive(data / "safe.tar.gz", {"safe/a.webp": b"1"})
    settings = load_settings(home=tmp_path / "home", dataset_dir=data)
    root = datasets.open_group(settings, "safe")
    assert (root / "safe" / "a.webp").read_bytes() == b"1"
    marker = root / "safe" / "mark"
    marker.touch()
    assert datasets.open_group(settings, "safe") == root
    assert marker.exists()
    (data / "fire.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot unpack"):
        datasets.open_group(settings, "fire")
    assert [p for p in root.parent.iterdir() if p != root] == []


def test_an_unpacked_folder_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    settings = load_settings(home=tmp_path / "home", dataset_dir=tmp_path)
    assert datasets.open_group(settings, "safe") == tmp_path
    with pytest.raises(ConfigError, match=r"no fire/ and no fire\.tar\.gz"):
        datasets.open_group(settings, "fire")


def test_a_tenth_is_held_out_by_name_alone() -> None:
    names = [f"picture_{n}.webp" for n in range(5000)]
    held = [name for name in names if datasets.is_held_out(name)]
    assert 420 < len(held) < 580
    assert all(datasets.is_held_out(f"elsewhere/{name}") for name in held)


def test_all_frames_of_a_clip_are_held_out_together() -> None:
    clips = [f"clips/fight_{n:03}.mp4" for n in range(200)]
    for clip in clips:
        assert len({datasets.is_held_out(f"{clip}#{frame}") for frame in range(3)}) == 1


def test_look_alikes_chain_inside_a_source_and_never_across() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, (4, 32)).astype(np.float32)
    near = base[0] + 0.05 * rng.normal(0, 1, 32).astype(np.float32)
    rows = np.stack([base[0], near, base[1], base[2], base[0], base[3]])
    clusters = datasets.look_alikes(rows, ["a", "a", "a", "b", "b", "b"])
    assert clusters[0] == clusters[1]
    assert len(set(clusters.tolist())) == 5


def test_look_alikes_of_held_out_pictures_train_nothing() -> None:
    names = [f"p{n}.webp" for n in range(60)]
    held = next(n for n in names if datasets.is_held_out(n))
    free = [n for n in names if not datasets.is_held_out(n)][:3]
    keep = datasets.trainable([held, *free], np.asarray([0, 0, 1, 1]))
    assert keep.tolist() == [False, False, True, True]


def test_sources_come_to_one_size_and_the_whole_picture_is_read() -> None:
    picture = Image.new("RGB", (384, 192), "white")
    picture.paste((255, 0, 0), (0, 0, 4, 192))
    small = one_size(picture)
    assert small.size == (320, 160)
    assert one_size(Image.new("L", (100, 50))).size == (100, 50), "never enlarged here"
    spec = InputSpec(
        name="x", width=32, height=32, interpolation="bilinear", layout="NCHW", colour="RGB"
    )
    pixels = pixels_of(small, spec)
    assert pixels.shape == (32, 32, 3)
    assert pixels[:, 0, 1].max() < 255, "the border is seen"


def test_clips_become_samples_of_their_sources() -> None:
    clips = [
        datasets.Clip("clips/a.mp4", True, "hockey", "1"),
        datasets.Clip("clips/b.mp4", False, "somebody", "2"),
    ]
    samples = clip_samples(clips)
    assert [s.file for s in samples[:3]] == [f"clips/a.mp4#{n}" for n in range(3)]
    assert {s.source for s in samples} == {"clips_hockey", "clips_small"}
    assert [s.safe for s in samples] == [False] * 3 + [True] * 3


def examples(leak: float) -> Examples:
    """Two positive sources and the ordinary ones. Feature 0 shows the thing; feature 1 is a
    mark of the source, of strength `leak`."""
    rng = np.random.default_rng(0)
    ordinary = [name for fold in SAFE_FOLDS for name in sorted(fold)]
    rows, sources, truth = [], [], []
    for number, source in enumerate(("w1", "w2", *ordinary)):
        positive = source in ("w1", "w2")
        block = rng.normal(0, 1, (60, 12))
        block[:, 0] += 3.0 * positive
        block[:, 1 + number] += leak
        rows.append(block)
        sources += [source] * 60
        truth += [positive] * 60
    count = len(truth)
    return Examples(
        features=np.concatenate(rows).astype(np.float32),
        files=np.asarray([f"f{n}" for n in range(count)]),
        sources=np.asarray(sources),
        truth=np.asarray(truth),
        clusters=np.arange(count),
    )


def test_left_out_sources_are_scored_by_heads_that_never_saw_them() -> None:
    data = examples(leak=0.0)
    task = Task("violence.weapon", "weapon", c=0.1)
    folds = leave_sources_out(data, task)
    assert len(folds) == 2 * len(SAFE_FOLDS)
    found = areas(folds)
    assert sorted(found) == ["w1", "w2"]
    assert all(area > 0.95 for area in found.values())
    positives, negatives = pooled(folds)
    assert (len(positives), len(negatives)) == (60 * len(folds), 360 * 2)
    logits = mean_logits(folds, len(data))
    assert np.isfinite(logits).all()


def test_a_mark_of_the_source_is_no_help_on_another() -> None:
    data = examples(leak=8.0)
    data.features[:, 0] = np.random.default_rng(1).normal(0, 1, len(data))
    found = areas(leave_sources_out(data, Task("violence.weapon", "weapon", c=0.1)))
    assert max(found.values()) < 0.75, "a random split would say 1.0"


def areas(folds: list[Fold]) -> dict[str, float]:
    """Source left out -> mean AUC against the ordinary pictures left out with it."""
    each = {fold.source: [f for f in folds if f.source == fold.source] for fold in folds}
    return {
        source: float(np.mean([auc(fold.positives, fold.negatives) for fold in mine]))
        for source, mine in each.items()
    }
