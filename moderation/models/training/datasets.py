"""The training and evaluation data: manifests, archives, hold-out and look-alikes.

The data is not part of the project. `settings.dataset_dir` names a folder with
`manifest.csv` (file, group, label, source, boxes…), `clips.csv` (file, label, source,
camera_group) and one `<group>.tar.gz` per group, or the groups' folders, unpacked.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ConfigError
from moderation.settings import Settings

LABEL_OF_GROUP: Mapping[str, str] = {
    "smoking": "smoking.smoking",
    "weapon": "violence.weapon",
    "fire": "violence.fire",
    "violence": "violence.fight",
}
HELD_OUT_TENTHS = 1
LOOK_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `file` is relative to the data's root; `labels` are what it shows, as the
    manifest knows it: none for ordinary pictures."""

    file: str
    group: str
    source: str
    labels: frozenset[str]
    detail: str

    @property
    def safe(self) -> bool:
        return not self.labels


@dataclass(frozen=True, slots=True)
class Clip:
    """A short video. `camera` tells scenes of one source apart; may be empty."""

    file: str
    fight: bool
    source: str
    camera: str


def read_manifest(path: Path) -> tuple[Sample, ...]:
    """The pictures of a `manifest.csv`. Raises ConfigError for another kind of file."""
    samples = []
    for row in _rows(path, ("file", "group", "label", "source")):
        group = row["group"]
        if group != "safe" and group not in LABEL_OF_GROUP:
            raise ConfigError(f"{path}: unknown group {group!r}")
        labels = frozenset() if group == "safe" else frozenset({LABEL_OF_GROUP[group]})
        samples.append(Sample(row["file"], group, row["source"], labels, row["label"]))
    return tuple(samples)


def read_clips(path: Path) -> tuple[Clip, ...]:
    """The clips of a `clips.csv`. Raises ConfigError."""
    rows = _rows(path, ("file", "label", "source", "camera_group"))
    return tuple(
        Clip(row["file"], row["label"] == "fight", row["source"], row["camera_group"])
        for row in rows
    )


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            absent = [c for c in columns if c not in (reader.fieldnames or ())]
            if absent:
                raise ConfigError(f"{path}: no column {absent[0]!r}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def dataset_dir(settings: Settings) -> Path:
    """Where manifests and archives lie. Raises ConfigError when the setting is empty."""
    if settings.dataset_dir is None:
        raise ConfigError(
            "no training data: set MODERATION_DATASET_DIR to the folder with manifest.csv",
            code="dataset_missing",
        )
    return settings.dataset_dir


def cache_dir(settings: Settings) -> Path:
    """Where unpacked data and features are kept between runs."""
    return settings.home / "cache"


def open_group(settings: Settings, group: str) -> Path:
    """The root below which `<group>/…` lies, its archive unpacked once into the cache.

    Raises ConfigError when there is neither a folder nor an archive.
    """
    source = dataset_dir(settings)
    if (source / group).is_dir():
        return source
    archive = source / f"{group}.tar.gz"
    if not archive.is_file():
        raise ConfigError(f"no {group}/ and no {group}.tar.gz in {source}", code="dataset_missing")
    stat = archive.stat()
    root = cache_dir(settings) / "datasets" / f"{group}-{stat.st_size}-{int(stat.st_mtime)}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked aside and renamed: a stop in between leaves no half of a folder.
    aside = Path(tempfile.mkdtemp(dir=root.parent, prefix=".unpack-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(aside, filter="data")
        aside.rename(root)
    except tarfile.TarError as error:
        raise ConfigError(f"cannot unpack {archive}: {error}") from error
    except OSError:
        if not root.is_dir():  # else another process was first, with the same bytes
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


def is_held_out(file: str) -> bool:
    """True for the tenth of all files that no shipped head is trained on.

    The rule reads the name alone, so it can be checked without the data: the sha256 of the
    last part of the path, modulo 10. `trainable` keeps their look-alikes away, too.
    """
    name = Path(file).name.partition("#")[0]  # all frames of a clip together
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 10 < HELD_OUT_TENTHS


def look_alikes(
    embeddings: NDArray[np.float32], sources: Iterable[str], limit: float = LOOK_ALIKE
) -> NDArray[np.int64]:
    """Cluster number of each picture: single linkage inside each source.

    embeddings (n, d); two pictures of one source belong together when the cosine of their
    embeddings, less the mean of all, is at least `limit`: frames of one scene, or one picture
    turned, cut or brightened.
    """
    centred = embeddings - embeddings.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    names = np.asarray(list(sources))
    clusters = np.full(len(names), -1, np.int64)
    next_id = 0
    for source in np.unique(names):
        members = np.flatnonzero(names == source)
        near = centred[members] @ centred[members].T >= limit
        for start in range(len(members)):
            if clusters[members[start]] >= 0:
                continue
            front = np.zeros(len(members), bool)
            front[start] = True
            seen = front.copy()
            while front.any():
                front = near[front].any(axis=0) & ~seen
                seen |= front
            clusters[members[seen]] = next_id
            next_id += 1
    return clusters


def trainable(samples: Iterable[str], clusters: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which files may train a shipped head: not held out, and in no cluster with one that is."""
    held = np.asarray([is_held_out(file) for file in samples])
    return ~np.isin(clusters, np.unique(clusters[held]))
