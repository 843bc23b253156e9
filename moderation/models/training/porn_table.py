"""What the models of sexual content say of ordinary pictures, alone and together:

    python -m moderation.models.training.porn_table

Nobody on the project looks at pornographic pictures, so this counts false positives alone: it tells
which ways of putting scores together are quiet, not which find more. It asks for the pictures of
MODERATION_DATASET_DIR and for the weights of every model, the optional one too
(`moderation weights pull nsfwjs-inception`). Scores are kept in the cache of the data folder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.errors import ConfigError
from moderation.models.chosen import known_specs
from moderation.models.fusion import FusionRule, fused
from moderation.models.spec import ModelSpec
from moderation.models.training import datasets, metrics
from moderation.models.training.features import Network, one_size, pixels_of
from moderation.settings import Settings, load_settings

EXPLICIT, SEXY = "porn.explicit", "porn.sexy"
TWO = ("image-safety-s@1", "open-nsfw@1")
OPTIONAL = "nsfwjs-inception@1"
THREE = (*TWO, OPTIONAL)
THRESHOLDS = (0.50, 0.70, 0.85, 0.90, 0.95)
RATES = (0.01, 0.001)
BATCH = 8
CLOSE_UP = 0.5
"""Part of each side that a close-up shows: the middle of the picture."""

Scores = NDArray[np.float64]
Opinions = Mapping[str, Scores]
Open = Callable[[str], Image.Image]


def rules() -> dict[str, FusionRule]:
    """The ways of putting scores together that are compared, by the name of the row."""

    def rule(models: Sequence[str], kind: str, **more: object) -> FusionRule:
        return FusionRule.model_validate(
            {"label": EXPLICIT, "kind": kind, "models": tuple(models), **more}
        )

    return {
        "two: mean": rule(TWO, "mean"),
        "two: lower": rule(TWO, "min"),
        "three: mean": rule(THREE, "mean"),
        "three: lowest": rule(THREE, "min"),
        "three: second": rule(THREE, "second"),
        "three: mean, gated": rule(THREE, "mean", gated=(OPTIONAL,)),
        "safety+nsfwjs: gated": rule((TWO[0], OPTIONAL), "mean", gated=(OPTIONAL,)),
        "open-nsfw+nsfwjs: gated": rule((TWO[1], OPTIONAL), "mean", gated=(OPTIONAL,)),
    }


def together(rule: FusionRule, opinions: Opinions) -> Scores:
    """The fused score of every picture."""
    columns = [opinions[model] for model in rule.models]
    return np.array(
        [
            fused(rule, dict(zip(rule.models, row, strict=True)))
            for row in zip(*columns, strict=True)
        ]
    )


def rows(explicit: Opinions, sexy: Scores) -> Iterator[tuple[str, Scores]]:
    """Each row of the table and its scores."""
    yield from explicit.items()
    for name, rule in rules().items():
        yield name, together(rule, explicit)
    yield f"{OPTIONAL} sexy", sexy


def table(named: Sequence[tuple[str, Scores]]) -> Iterator[str]:
    """Lines: the share of pictures at each threshold, the thresholds that a share of them
    reaches, the highest score."""
    reach = [f">={threshold:.2f}" for threshold in THRESHOLDS]
    at = [f"at {rate:.1%}" for rate in RATES]
    yield _line("scores", [*reach, *at, "highest"])
    for name, scores in named:
        shares = [f"{metrics.rate_at(scores, threshold):.2%}" for threshold in THRESHOLDS]
        cuts = [f"{metrics.threshold_at(scores, rate):.3f}" for rate in RATES]
        yield _line(name, [*shares, *cuts, f"{scores.max():.3f}"])


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:26}" + "".join(f"{cell:>9}" for cell in cells)


def score(
    files: Sequence[str], open_picture: Open, specs: Sequence[ModelSpec], settings: Settings
) -> dict[tuple[str, str], Scores]:
    """(label, model) -> its scores of the pictures, through the code that serves."""
    networks = [Network(spec, settings) for spec in specs]
    parts: dict[tuple[str, str], list[NDArray[np.float32]]] = {}

    def load(file: str) -> list[NDArray[np.uint8]]:
        with open_picture(file) as picture:
            whole = one_size(picture)
            return [pixels_of(whole, network.input) for network in networks]

    with ThreadPoolExecutor(1) as pool:
        for start in range(0, len(files), BATCH):
            loaded = list(pool.map(load, files[start : start + BATCH]))
            for index, network in enumerate(networks):
                answer = network(np.stack([views[index] for views in loaded]))
                for label in network.spec.labels:
                    found = answer[label.output][:, label.index]
                    parts.setdefault((label.label, network.spec.ref), []).append(found)
    return {key: np.concatenate(found).astype(np.float64) for key, found in parts.items()}


def scored(
    name: str,
    files: Sequence[str],
    open_picture: Open,
    specs: Sequence[ModelSpec],
    settings: Settings,
) -> dict[tuple[str, str], Scores]:
    """`score`, kept in the cache under `name` and a key of all that it depends on."""
    told = "\n".join([*(_told(spec) for spec in specs), str(CLOSE_UP), *files])
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    path = datasets.cache_dir(settings) / "porn" / f"{name}-{key}.npz"
    if not path.is_file():
        found = score(files, open_picture, specs, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        columns = {"|".join(names): values for names, values in found.items()}
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **columns)
        part.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        named = {column: column.partition("|") for column in stored.files}
        return {(label, ref): stored[column] for column, (label, _, ref) in named.items()}


def cached(
    name: str,
    files: Sequence[str],
    open_picture: Open,
    specs: Sequence[ModelSpec],
    settings: Settings,
) -> tuple[dict[str, Scores], Scores]:
    """porn.explicit by model, and porn.sexy of the one that answers it."""
    found = scored(name, files, open_picture, specs, settings)
    return {spec.ref: found[EXPLICIT, spec.ref] for spec in specs}, found[SEXY, OPTIONAL]


def _told(spec: ModelSpec) -> str:
    """What its scores at f32 depend on; a file for another backend or precision changes nothing."""
    files = [one.sha256 for one in spec.artefacts if one.backend == "openvino"][:1]
    return spec.model_dump_json(include={"id", "version", "input", "labels"}) + "".join(files)


def middle(picture: Image.Image) -> Image.Image:
    """A close-up of an ordinary picture."""
    width, height = (max(1, round(side * CLOSE_UP)) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def main(settings: Settings) -> Iterator[str]:
    """The lines to print. Raises ConfigError: no data, or weights that are missing."""
    known = {spec.ref: spec for spec in known_specs(settings)}
    if absent := [ref for ref in THREE if ref not in known]:
        raise ConfigError(f"no manifest of {', '.join(absent)}")
    specs = [known[ref] for ref in THREE]
    root = datasets.open_group(settings, "safe")
    manifest = datasets.read_manifest(datasets.dataset_dir(settings) / "manifest.csv")
    files = [sample.file for sample in manifest if sample.safe]

    def whole(file: str) -> Image.Image:
        return Image.open(root / file)

    def close_up(file: str) -> Image.Image:
        with whole(file) as picture:
            return middle(picture.convert("RGB"))

    photographs = list(_photographs())
    by_name = dict(photographs)
    for name, names, open_picture in (
        ("ordinary", files, whole),
        ("close-ups", files, close_up),
        ("photographs", list(by_name), lambda name: by_name[name].copy()),
    ):
        explicit, sexy = cached(name, names, open_picture, specs, settings)
        yield f"{name}: {len(names)} pictures"
        yield from table(list(rows(explicit, sexy)))
        yield ""


def _photographs() -> Iterator[tuple[str, Image.Image]]:
    """Those that scikit-image brings, whole and their nine overlapping halves."""
    from skimage import data

    for name in ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry"):
        picture = Image.fromarray(getattr(data, name)()).convert("RGB")
        yield name, picture
        width, height = picture.width // 2, picture.height // 2
        for row in range(3):
            for column in range(3):
                left, top = column * width // 2, row * height // 2
                yield (
                    f"{name} {row} {column}",
                    picture.crop((left, top, left + width, top + height)),
                )


if __name__ == "__main__":
    try:
        for line in main(load_settings()):
            print(line)  # noqa: T201
    except ConfigError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        sys.exit(2)
