"""A network's INT8 twin, by post-training quantisation (NNCF, Apache-2.0).

Weights are INT8 for each output channel, activations for each tensor, with ranges from histograms
of training pictures: NNCF's own mean of minima and maxima cuts the tails that linear bottlenecks
have, and moved the logits of `scenes` four times as far (docs/training-log.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from pydantic import Field

from moderation.errors import ConfigError
from moderation.models.registry import choose_artefact
from moderation.models.spec import InputSpec, read_spec
from moderation.models.training import datasets, recipe_file
from moderation.models.training.recipe_file import Part
from moderation.models.weights import resolve
from moderation.pixels import resize
from moderation.settings import Settings
from moderation.types import InputKey

COMMITTED = Path(__file__).parent / "recipes" / "int8.toml"
FILE = "model-int8.xml"
Progress = Callable[[str, int, int], None]
Pixels = NDArray[np.uint8]


class Quantised(Part):
    """transformer: with the rules for attention. keep: patterns of layers that stay f32."""

    transformer: bool
    keep: tuple[str, ...]


class Recipe(Part):
    """pictures: how many training pictures tell the ranges, evenly over the sources."""

    pictures: int = Field(ge=1)
    models: dict[str, Quantised]


@dataclass(frozen=True, slots=True)
class Made:
    """size: bytes of both files."""

    model: str
    path: Path
    size: int


def read_recipe(path: Path = COMMITTED) -> Recipe:
    """Raises ConfigError, in one line."""
    return recipe_file.read(path, Recipe)


def quantise(
    models: Sequence[str],
    settings: Settings,
    recipe: Recipe,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> list[Made]:
    """Write `model-int8.xml` and `.bin` beside each manifest, or into `out`/ID with a copy of it,
    and name them in it. models: ids, by default all of the recipe.

    Raises ConfigError: no data, no NNCF, or a model that the recipe does not know.
    """
    unknown = sorted(set(models) - set(recipe.models))
    if unknown:
        raise ConfigError(
            f"no INT8 recipe for {unknown[0]!r}; there are: {', '.join(recipe.models)}"
        )
    files = calibration_files(settings, recipe.pictures)
    made = []
    for name in models or tuple(recipe.models):
        manifest = settings.manifests / name / "model.toml"
        spec = read_spec(manifest)
        artefact = choose_artefact(spec, "openvino", "f32")
        network = ov.Core().read_model(resolve(spec, artefact, settings))
        if spec.input is None:
            raise ConfigError(f"{spec.ref} reads no pixels")
        pixels = _pixels(spec.id, spec.input.key, files, settings, progress)
        folder = settings.manifests / name if out is None else out / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        ov.save_model(_int8(network, spec.input, pixels, recipe.models[name]), path)
        told = with_artefact(manifest.read_text("utf-8"), path)
        (folder / "model.toml").write_text(told, "utf-8")
        size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
        made.append(Made(spec.ref, path, size))
    return made


def calibration_files(settings: Settings, count: int) -> list[str]:
    """Pictures that may train, evenly over their sources; the same ones every time."""
    samples = datasets.read_manifest(datasets.dataset_dir(settings) / "manifest.csv")
    by_source: dict[str, list[str]] = {}
    for sample in samples:
        if not datasets.is_held_out(sample.file):
            by_source.setdefault(sample.source, []).append(sample.file)
    random = np.random.default_rng(0)
    drawn = [list(random.permutation(sorted(files))) for _, files in sorted(by_source.items())]
    mixed = [files[i] for i in range(max(map(len, drawn))) for files in drawn if i < len(files)]
    return [str(file) for file in mixed[:count]]


def as_read(pixels: Pixels, spec: InputSpec) -> NDArray[np.float32]:
    """uint8 RGB (n, h, w, 3) -> what the unchanged graph reads."""
    values = pixels[..., ::-1] if spec.colour == "BGR" else pixels
    mean, scale = np.asarray(spec.mean, np.float32), np.asarray(spec.scale, np.float32)
    scaled = (values.astype(np.float32) - mean) / scale
    turned = scaled.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else scaled
    return np.ascontiguousarray(turned, np.float32)


def _pixels(
    model: str, key: InputKey, files: Sequence[str], settings: Settings, progress: Progress | None
) -> list[Pixels]:
    from moderation.models.training.scenes.pictures import load_pixels

    roots = {g: datasets.open_group(settings, g) for g in {f.partition("/")[0] for f in files}}
    found = []
    for number, file in enumerate(files, 1):
        picture = load_pixels(roots[file.partition("/")[0]] / file)
        whole = (0, 0, picture.shape[1], picture.shape[0])
        found.append(resize(picture, whole, key))
        if progress is not None:
            progress(f"pictures for {model}", number, len(files))
    return found


def _int8(network: Any, told: InputSpec, pixels: Sequence[Pixels], how: Quantised) -> Any:
    try:
        import nncf
        from nncf.quantization import advanced_parameters as advanced
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise ConfigError(f"{error}; install the extra: pip install 'moderation[train]'") from error
    return nncf.quantize(
        network,
        nncf.Dataset(pixels, lambda one: as_read(one[None], told)),
        subset_size=len(pixels),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER if how.transformer else None,
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(patterns=list(how.keep), validate=False),
        advanced_parameters=advanced.AdvancedQuantizationParameters(
            # Seven bits are for processors without VNNI, whose 16-bit sums could run over.
            overflow_fix=advanced.OverflowFix.DISABLE,
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
        ),
    )


_BLOCK = re.compile(
    r"\[\[artefacts\]\]\n(?:(?!\[).+\n)*?precisions = \[\"int8\"\]\n(?:(?!\[).+\n)*\n?"
)


def with_artefact(manifest: str, path: Path) -> str:
    """A manifest that names an INT8 file; an earlier one goes."""
    binary = path.with_suffix(".bin")
    block = (
        '[[artefacts]]\nbackend = "openvino"\nprecisions = ["int8"]\nsource = "committed"\n'
        f'file = "{path.name}"\nsha256 = "{_sha256(path)}"\nsize = {path.stat().st_size}\n'
        f'companions = [["{binary.name}", "{_sha256(binary)}"]]\n'
    )
    rest = _BLOCK.sub("", manifest)
    before, mark, after = rest.partition("[[metrics]]")
    return f"{before.rstrip()}\n\n{block}" + (f"\n{mark}{after}" if mark else "")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
