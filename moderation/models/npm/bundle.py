"""A Keras layers model that is bundled as JavaScript modules -> its topology and weights.

Nothing of the package is run. The topology is one object literal, the weights are base64 text,
each tensor quantised to bytes by `value = scale * byte + least`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPORT = re.compile(r'\b\w+\.exports=(?=[{"])')
_TEXT = re.compile(r'"([A-Za-z0-9+/]*={0,2})"')
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|![01]|[A-Za-z_$][\w$]*(?=:)'
    r"|-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|null|[{}\[\],:]"
)
_WORDS = {"!0": "true", "!1": "false"}
_DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1}


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A quantised tensor: its values are scale * levels + least."""

    levels: NDArray[np.uint8]
    scale: float
    least: float

    @property
    def values(self) -> NDArray[np.float64]:
        return self.levels.astype(np.float64) * self.scale + self.least


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """layers: as Keras writes them, in an order in which sources come first. output: the name of
    the layer that answers."""

    layers: Sequence[Mapping[str, Any]]
    output: str
    weights: Mapping[str, Weight]


def read_bundle(members: Mapping[str, bytes]) -> Bundle:
    """members: file name -> bytes of the folder of one model. Raises ValueError, LookupError or
    TypeError where it is built otherwise."""
    model = read_literal(members["model.min.js"].decode("ascii"))
    (group,) = model["weightsManifest"]
    parts = [members[f"{path}.min.js"].decode("ascii") for path in group["paths"]]
    packed = b"".join(read_base64(part) for part in parts)
    config = model["modelTopology"]["model_config"]["config"]
    ((output, *_),) = config["output_layers"]
    return Bundle(config["layers"], output, read_weights(group["weights"], packed))


def read_literal(script: str) -> Any:
    """The plain data that a bundled module exports. Raises ValueError for anything else."""
    position = _exported(script)
    words: list[str] = []
    depth = 0
    while depth or not words:
        token = _TOKEN.match(script, position)
        if token is None:
            raise ValueError(f"the module is no plain data at character {position}")
        position = token.end()
        words.append(_as_json(token.group()))
        depth += _DEPTH.get(token.group(), 0)
    return json.loads("".join(words))


def read_base64(script: str) -> bytes:
    """The bytes that a bundled module exports as base64 text. Raises ValueError."""
    quoted = _TEXT.match(script, _exported(script))
    if quoted is None:
        raise ValueError("the module exports no base64 text")
    try:
        return base64.b64decode(quoted[1], validate=True)
    except binascii.Error as error:
        raise ValueError(f"broken base64: {error}") from error


def read_weights(told: Sequence[Mapping[str, Any]], packed: bytes) -> dict[str, Weight]:
    """name -> tensor; they lie one behind the other in `packed`. Raises ValueError."""
    found: dict[str, Weight] = {}
    start = 0
    for entry in told:
        stored = entry["quantization"]
        if stored["dtype"] != "uint8":
            raise ValueError(f"{entry['name']} is stored as {stored['dtype']}")
        count = math.prod(entry["shape"])
        levels = np.frombuffer(packed, np.uint8, count, start).reshape(entry["shape"])
        found[entry["name"]] = Weight(levels, float(stored["scale"]), float(stored["min"]))
        start += count
    if start != len(packed):
        raise ValueError(f"{len(packed)} bytes of weights where {start} are told")
    return found


def _exported(script: str) -> int:
    """Where the exported value begins."""
    found = _EXPORT.search(script)
    if found is None:
        raise ValueError("the module exports nothing")
    return found.end()


def _as_json(word: str) -> str:
    """One word of a JavaScript literal as JSON spells it."""
    if word in _WORDS:
        return _WORDS[word]
    if word.startswith((".", "-.")):
        return word.replace(".", "0.", 1)
    is_key = (word[0].isalpha() or word[0] in "_$") and word != "null"
    return f'"{word}"' if is_key else word
