"""Packed scores <-> the columns of their row."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from moderation.packed_scores import Basis, Floats, PackedScores
from moderation.store.codec import model_set


def dump_scores(packed: PackedScores) -> dict[str, Any]:
    """All columns that say something of the scores."""
    return {
        "models": model_set(packed.models),
        "labels": list(packed.labels),
        "views": int(packed.values.shape[0]),
        "packed": _dump(packed.values),
        "times": _dump(packed.times),
        **_dump_basis(packed.basis),
    }


def load_scores(row: RowMapping) -> PackedScores:
    """Raises ValueError for a row that is not whole."""
    shape = (row["views"], len(row["labels"]))
    return PackedScores(
        labels=tuple(row["labels"]),
        models=tuple(row["models"].split(",")),
        values=_load(row["packed"], shape),
        times=_load(row["times"], shape[:1]),
        basis=None if row["complete"] is None else _load_basis(row, shape),
    )


def _dump_basis(basis: Basis | None) -> dict[str, Any]:
    if basis is None:
        return {"complete": None, "gap_s": None, "boxes": None, "pictures": None}
    none = bool(np.isnan(basis.boxes).all())
    return {
        "complete": basis.complete,
        "gap_s": basis.gap_s,
        "boxes": None if none else zlib.compress(_dump(basis.boxes), 1),
        "pictures": _dump_pictures(basis.pictures) if basis.pictures else None,
    }


def _load_basis(row: RowMapping, shape: tuple[int, ...]) -> Basis:
    boxes = row["boxes"]
    return Basis(
        boxes=np.full(shape, np.nan) if boxes is None else _load(zlib.decompress(boxes), shape),
        complete=row["complete"],
        gap_s=row["gap_s"],
        pictures=() if row["pictures"] is None else _load_pictures(row["pictures"]),
    )


def _dump(values: Floats) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def _load(data: bytes, shape: tuple[int, ...]) -> Floats:
    """Rows from before 0008 have four bytes a number."""
    kind = "<f4" if len(data) == 4 * math.prod(shape) else "<f8"
    return np.frombuffer(data, dtype=kind).reshape(shape).astype(np.float64, copy=False)


def _dump_pictures(pictures: Sequence[str | None]) -> bytes:
    """Moments that show the same picture name it once."""
    known: dict[str | None, int] = {}
    places = [known.setdefault(picture, len(known)) for picture in pictures]
    return zlib.compress(json.dumps([list(known), places], separators=(",", ":")).encode(), 1)


def _load_pictures(data: bytes) -> tuple[str | None, ...]:
    known, places = json.loads(zlib.decompress(data))
    return tuple(known[place] for place in places)
