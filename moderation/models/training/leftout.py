"""Left-out scores: what models that never saw a picture's source said of it.

Training writes them to `weights/<id>/left-out.npz`. Fusion, calibration, thresholds and the table
of figures read them, so that all of those can be made again without training.

Arrays of the file, all with one row a picture (or clip): `files`, `sources`, `details` (optional;
what the data set calls it), and for each label L: `truth:L`, `score:L`, and optional ones: the
components `part:L:NAME` and `boxed:L`. `calibration:L` is a and b of Platt (2,), or a monotone
table (2, k).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ConfigError
from moderation.models.spec import ModelSpec

FILE = "left-out.npz"
BOXES_FILE = "left-out.json"
ORDINARY = "safe/"
"""Where the data set keeps ordinary pictures."""
TWINS = "twins:"
"""Sources so named hold pictures whose object was erased (0) and equals where another patch was
(1). They are compared with each other, and count nowhere else."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Text = NDArray[np.str_]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Rows in one order, each file once.

    truth[label] (n,) int8: 1 shows it, 0 does not, -1 unknown. score[label] (n,) f32: the logit
    that the model would answer, before calibration; NaN where it was not scored.
    parts[label][name] (n,) f32: logits of which the score is made. boxed[label] (n,) int8: 1 where
    a box was found that counts as evidence, 0 where none, -1 unknown. calibration[label]: what
    serving applies to the score, absent where nothing is decided yet.
    """

    files: Text
    sources: Text
    truth: Mapping[str, NDArray[np.int8]]
    score: Mapping[str, F32]
    parts: Mapping[str, Mapping[str, F32]] = field(default_factory=dict)
    boxed: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    calibration: Mapping[str, F64] = field(default_factory=dict)
    details: Text | None = None

    def __post_init__(self) -> None:
        """Raises ValueError: lengths that differ, a file twice, a label without truth or score."""
        rows = len(self.files)
        if len(np.unique(self.files)) != rows:
            raise ValueError("a file is named twice")
        if set(self.truth) != set(self.score):
            raise ValueError("truth and score are of different labels")
        columns = [self.sources, *self.truth.values(), *self.score.values(), *self.boxed.values()]
        columns += [part for parts in self.parts.values() for part in parts.values()]
        columns += [] if self.details is None else [self.details]
        if any(column.shape != (rows,) for column in columns):
            raise ValueError(f"a column has not {rows} rows")
        for name in (*self.parts, *self.boxed, *self.calibration):
            if name not in self.truth:
                raise ValueError(f"{name} has no truth")
        if any(not np.isin(truth, (-1, 0, 1)).all() for truth in self.truth.values()):
            raise ValueError("truth is 1, 0 or -1")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted(self.truth))

    def of(self, label: str) -> LabelScores:
        """The rows of one label that have a truth and a score. Raises KeyError."""
        truth, score = self.truth[label], self.score[label]
        keep = (truth >= 0) & np.isfinite(score)
        boxed = self.boxed.get(label)
        return LabelScores(
            label=label,
            files=self.files[keep],
            sources=self.sources[keep],
            truth=truth[keep] == 1,
            logits=score[keep].astype(np.float64),
            parts={
                name: part[keep].astype(np.float64)
                for name, part in sorted(self.parts.get(label, {}).items())
            },
            boxed=None if boxed is None else boxed[keep],
            details=None if self.details is None else self.details[keep],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelScores:
    """One label: rows (n,) with a known truth and a finite logit."""

    label: str
    files: Text
    sources: Text
    truth: Flags
    logits: F64
    parts: Mapping[str, F64] = field(default_factory=dict)
    boxed: NDArray[np.int8] | None = None
    details: Text | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def ordinary(self) -> Flags:
        """Rows of ordinary pictures."""
        return ~self.truth & np.char.startswith(self.files, ORDINARY)

    @property
    def twins(self) -> Flags:
        return np.char.startswith(self.sources, TWINS)

    def where(self, keep: Flags) -> LabelScores:
        """The rows that `keep` (n,) names."""
        return LabelScores(
            label=self.label,
            files=self.files[keep],
            sources=self.sources[keep],
            truth=self.truth[keep],
            logits=self.logits[keep],
            parts={name: part[keep] for name, part in self.parts.items()},
            boxed=None if self.boxed is None else self.boxed[keep],
            details=None if self.details is None else self.details[keep],
        )


@dataclass(frozen=True, slots=True)
class BoxFigure:
    """mAP@0.5 of one label's boxes, as training measured it on sources left out.

    `classes`: average precision of each class. `data`: which pictures, in words.
    """

    label: str
    map50: float
    interval: tuple[float, float]
    classes: Mapping[str, float]
    pictures: int
    data: str


def write_left_out(path: Path, left_out: LeftOut) -> None:
    """Write the arrays, compressed; the file is replaced as a whole."""
    arrays: dict[str, NDArray[np.generic]] = {"files": left_out.files, "sources": left_out.sources}
    if left_out.details is not None:
        arrays["details"] = left_out.details
    for label in left_out.labels:
        arrays[f"truth:{label}"] = left_out.truth[label].astype(np.int8)
        arrays[f"score:{label}"] = left_out.score[label].astype(np.float32)
        for name, part in left_out.parts.get(label, {}).items():
            arrays[f"part:{label}:{name}"] = part.astype(np.float32)
        if label in left_out.boxed:
            arrays[f"boxed:{label}"] = left_out.boxed[label].astype(np.int8)
        if label in left_out.calibration:
            arrays[f"calibration:{label}"] = left_out.calibration[label].astype(np.float64)
    beside = path.with_suffix(".part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date: the same scores make the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    beside.replace(path)


def read_left_out(path: Path) -> LeftOut:
    """Raises ConfigError naming the file: absent, not an npz, arrays that do not fit."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return _from_arrays(arrays)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot read left-out scores {path}: {error}") from error


def _from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> LeftOut:
    truth: dict[str, NDArray[np.int8]] = {}
    score: dict[str, F32] = {}
    parts: dict[str, dict[str, F32]] = {}
    boxed: dict[str, NDArray[np.int8]] = {}
    calibration: dict[str, F64] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition(":")
        if kind == "truth":
            truth[rest] = _truth(array)
        elif kind == "score":
            score[rest] = np.asarray(array, np.float32)
        elif kind == "part":
            label, _, part = rest.partition(":")
            parts.setdefault(label, {})[part] = np.asarray(array, np.float32)
        elif kind == "boxed":
            boxed[rest] = np.asarray(array, np.int8)
        elif kind == "calibration":
            calibration[rest] = np.asarray(array, np.float64)
        elif name not in ("files", "sources", "details"):
            raise ValueError(f"unknown array {name!r}")
    details = arrays.get("details")
    return LeftOut(
        files=np.asarray(arrays["files"], np.str_),
        sources=np.asarray(arrays["sources"], np.str_),
        truth=truth,
        score=score,
        parts=parts,
        boxed=boxed,
        calibration=calibration,
        details=None if details is None else np.asarray(details, np.str_),
    )


def _truth(array: NDArray[np.generic]) -> NDArray[np.int8]:
    """int8 as told; floats with NaN for unknown, and bools, are understood, too."""
    values = np.asarray(array, np.float64)
    return np.where(np.isfinite(values), values, -1).astype(np.int8)


def write_boxes(path: Path, figures: tuple[BoxFigure, ...]) -> None:
    """Write mAP figures beside the scores."""
    rows = {
        figure.label: {
            "map50": figure.map50,
            "interval": list(figure.interval),
            "classes": dict(figure.classes),
            "pictures": figure.pictures,
            "data": figure.data,
        }
        for figure in figures
    }
    path.write_text(json.dumps({"boxes": rows}, indent=2) + "\n", "utf-8")


def read_boxes(path: Path) -> tuple[BoxFigure, ...]:
    """The figures of a `left-out.json`; none where there is no file. Raises ConfigError."""
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text("utf-8"))["boxes"]
        return tuple(
            BoxFigure(
                label=label,
                map50=float(row["map50"]),
                interval=(float(row["interval"][0]), float(row["interval"][1])),
                classes={name: float(value) for name, value in row["classes"].items()},
                pictures=int(row["pictures"]),
                data=str(row["data"]),
            )
            for label, row in sorted(rows.items())
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"cannot read box figures {path}: {error!r}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One model with its left-out scores and box figures."""

    spec: ModelSpec
    left_out: LeftOut
    boxes: tuple[BoxFigure, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the manifest answers and the file scores."""
        answered = {told.label for told in self.spec.labels}
        return tuple(label for label in self.left_out.labels if label in answered)

    @property
    def clips(self) -> bool:
        return self.spec.task == "clip"


def read_measured(
    specs: tuple[ModelSpec, ...], folder: Path, only: str | None = None
) -> tuple[Measured, ...]:
    """The models under `folder` that have left-out scores; `only`: the id of the one wanted.

    Raises ConfigError when there is none.
    """
    found = tuple(
        Measured(
            spec,
            read_left_out(folder / spec.id / FILE),
            read_boxes(folder / spec.id / BOXES_FILE),
        )
        for spec in specs
        if only in (None, spec.id) and (folder / spec.id / FILE).is_file()
    )
    if not found:
        wanted = "no model" if only is None else f"no model {only!r}"
        raise ConfigError(f"{wanted} in {folder} has left-out scores ({FILE})")
    return found
