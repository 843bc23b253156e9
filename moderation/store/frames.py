"""What a chunk asks for and what became of it, as bytes: compact, and exact to the last bit.

A job that is taken up again by another worker must decide as if nothing had happened.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from moderation.aggregate import Frame
from moderation.types import Ask, InputKey, LabelScore, Window

_HEAD = struct.Struct("<d?H")
_ASK = struct.Struct("<dd")


@dataclass(frozen=True, slots=True)
class Asks:
    """The moments of a chunk with the own time of the frame shown then; see `sampling.Chunk`."""

    asks: tuple[Ask, ...]
    seek_s: float
    exact: bool
    window: Window | None = None

    @property
    def moments(self) -> tuple[Ask, ...]:
        """Those that are scored: of a window the one in its middle."""
        return self.asks if self.window is None else self.window.middles(self.asks)


@dataclass(frozen=True, slots=True)
class Hash:
    """PDQ of a frame at its own time: 64 hexadecimal digits, and its quality, 0..100."""

    time_s: float
    pdq: str
    quality: int


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A scored chunk: its moments, which models said so, on which device."""

    frames: tuple[Frame, ...]
    models: tuple[str, ...]
    device: str


def dump_asks(asks: Asks) -> bytes:
    window = b"" if asks.window is None else json.dumps(astuple(asks.window)).encode()
    rows = b"".join(_ASK.pack(*pair) for pair in asks.asks)
    return _HEAD.pack(asks.seek_s, asks.exact, len(window)) + window + rows


def load_asks(data: bytes) -> Asks:
    seek_s, exact, length = _HEAD.unpack_from(data)
    rows = _HEAD.size + length
    window = None
    if length:
        key, *rest = json.loads(data[_HEAD.size : rows])
        window = Window(InputKey(*key), *rest)
    pairs = tuple((a, b) for a, b in _ASK.iter_unpack(data[rows:]))
    return Asks(pairs, seek_s, exact, window)


def dump_looked(looked: Looked) -> bytes:
    """Near-duplicates repeat the scores of another frame, which compression takes away."""
    return _deflated(
        {
            "models": looked.models,
            "device": looked.device,
            "frames": [
                [f.time_s, f.shown_s, f.shared, f.views, _peaks_out(f), f.picture]
                for f in looked.frames
            ],
        }
    )


def load_looked(data: bytes) -> Looked:
    told = _inflated(data)
    frames = tuple(
        Frame(time_s, _peaks_in(peaks), shown_s, shared, views, *picture)
        # Chunks that were scored before an upgrade say nothing of their pictures.
        for time_s, shown_s, shared, views, peaks, *picture in told["frames"]
    )
    return Looked(frames, tuple(told["models"]), told["device"])


def dump_hashes(hashes: Sequence[Hash]) -> bytes:
    return _deflated([[one.time_s, one.pdq, one.quality] for one in hashes])


def load_hashes(data: bytes) -> tuple[Hash, ...]:
    return tuple(Hash(*row) for row in _inflated(data))


def _peaks_out(frame: Frame) -> list[list[Any]] | None:
    if frame.peaks is None:
        return None
    return [
        [label, x.label, x.score, x.model, x.sublabel, x.frames, x.boxes]
        for label, x in frame.peaks.items()
    ]


def _peaks_in(rows: list[list[Any]] | None) -> dict[str, LabelScore] | None:
    if rows is None:
        return None
    return {
        label: LabelScore(name, score, model, sublabel, tuple(frames), tuple(map(tuple, boxes)))
        for label, name, score, model, sublabel, frames, boxes in rows
    }


def _deflated(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode())


def _inflated(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))
